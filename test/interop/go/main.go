// A workload for the interoperability tests. Each command prints JSON, one value per line.
//
//	peer x509                 the X.509 context: SVIDs with chains and keys, bundles
//	peer jwt AUDIENCE         JWT-SVIDs, each validated by the Workload API and by the bundle
//	peer watch                one line per update of the X.509 context, until it is killed
//	peer serve CLIENT_ID      an mTLS server on a free port; prints its address, then the ID of each client
//	peer dial ADDRESS ID      connects by mTLS to a server of that ID; prints the answer
//	peer traffic ADDRESS ID   the same again and again until it is killed, each time with a new handshake; prints
//	                          the totals every second
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

type x509SVID struct {
	ID     string   `json:"id"`
	Hint   string   `json:"hint"`
	Serial string   `json:"serial"`
	Chain  []string `json:"chain"`
	Bundle []string `json:"bundle"`
}

type jwtSVID struct {
	ID       string   `json:"id"`
	Token    string   `json:"token"`
	Audience []string `json:"audience"`
	// The ID that the Workload API and the trust bundle's keys found in the token.
	ValidatedBy map[string]string `json:"validated_by"`
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	commands := map[string]struct {
		arguments int
		run       func(context.Context, []string) error
	}{
		"x509":    {0, printX509},
		"jwt":     {1, printJWT},
		"watch":   {0, watch},
		"serve":   {1, serve},
		"dial":    {2, dial},
		"traffic": {2, traffic},
	}
	if len(args) == 0 {
		return errors.New("usage: peer x509|jwt|watch|serve|dial|traffic")
	}
	command, known := commands[args[0]]
	if !known || len(args)-1 != command.arguments {
		return fmt.Errorf("wrong usage: %q", args)
	}
	return command.run(ctx, args[1:])
}

func printLine(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}

func describe(x509 *workloadapi.X509Context) ([]x509SVID, error) {
	var described []x509SVID
	for _, svid := range x509.SVIDs {
		bundle, err := x509.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
		if err != nil {
			return nil, err
		}
		// x509svid.Verify checks the chain as the X509-SVID standard wants it.
		if _, _, err := x509svid.Verify(svid.Certificates, bundle); err != nil {
			return nil, err
		}
		entry := x509SVID{ID: svid.ID.String(), Hint: svid.Hint, Serial: svid.Certificates[0].SerialNumber.String()}
		for _, certificate := range svid.Certificates {
			entry.Chain = append(entry.Chain, base64.StdEncoding.EncodeToString(certificate.Raw))
		}
		for _, authority := range bundle.X509Authorities() {
			entry.Bundle = append(entry.Bundle, base64.StdEncoding.EncodeToString(authority.Raw))
		}
		described = append(described, entry)
	}
	return described, nil
}

func printX509(ctx context.Context, _ []string) error {
	x509, err := workloadapi.FetchX509Context(ctx)
	if err != nil {
		return err
	}
	described, err := describe(x509)
	if err != nil {
		return err
	}
	return printLine(described)
}

func printJWT(ctx context.Context, args []string) error {
	audience := args[0]
	svids, err := workloadapi.FetchJWTSVIDs(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return err
	}
	bundles, err := workloadapi.FetchJWTBundles(ctx)
	if err != nil {
		return err
	}
	var described []jwtSVID
	for _, svid := range svids {
		entry, err := validate(ctx, svid, audience, bundles)
		if err != nil {
			return err
		}
		described = append(described, entry)
	}
	return printLine(described)
}

func validate(ctx context.Context, svid *jwtsvid.SVID, audience string, bundles *jwtbundle.Set) (jwtSVID, error) {
	byAPI, err := workloadapi.ValidateJWTSVID(ctx, svid.Marshal(), audience)
	if err != nil {
		return jwtSVID{}, err
	}
	byBundle, err := jwtsvid.ParseAndValidate(svid.Marshal(), bundles, []string{audience})
	if err != nil {
		return jwtSVID{}, err
	}
	return jwtSVID{
		ID:          svid.ID.String(),
		Token:       svid.Marshal(),
		Audience:    svid.Audience,
		ValidatedBy: map[string]string{"api": byAPI.ID.String(), "bundle": byBundle.ID.String()},
	}, nil
}

type printer struct{}

func (printer) OnX509ContextUpdate(x509 *workloadapi.X509Context) {
	described, err := describe(x509)
	if err == nil {
		err = printLine(described)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (printer) OnX509ContextWatchError(err error) {
	fmt.Fprintln(os.Stderr, err)
}

func watch(ctx context.Context, _ []string) error {
	return workloadapi.WatchX509Context(ctx, printer{})
}

func serve(ctx context.Context, args []string) error {
	client, err := spiffeid.FromString(args[0])
	if err != nil {
		return err
	}
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	config := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(client))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := printLine(listener.Addr().String()); err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		if err := answer(tls.Server(connection, config)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// answer reads one line and sends it back behind the client's SPIFFE ID.
func answer(connection *tls.Conn) error {
	defer connection.Close()
	line, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return err
	}
	id, err := x509svid.IDFromCert(connection.ConnectionState().PeerCertificates[0])
	if err != nil {
		return err
	}
	if err := printLine(id.String()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(connection, "%s says %s", id, line)
	return err
}

func dial(ctx context.Context, args []string) error {
	server, err := spiffeid.FromString(args[1])
	if err != nil {
		return err
	}
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(server))
	text, _, err := ask(args[0], config)
	if err != nil {
		return err
	}
	return printLine(text)
}

// ask opens a connection, sends a line and returns the answer, with the certificate that the server showed.
func ask(address string, config *tls.Config) (string, *x509.Certificate, error) {
	connection, err := tls.Dial("tcp", address, config)
	if err != nil {
		return "", nil, err
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, "hello\n"); err != nil {
		return "", nil, err
	}
	text, err := bufio.NewReader(connection).ReadString('\n')
	return text, connection.ConnectionState().PeerCertificates[0], err
}

type totals struct {
	Handshakes int      `json:"handshakes"`
	Failures   []string `json:"failures"`
	// Authority key identifiers of all certificates that the server showed, in the order of their coming.
	Authorities []string `json:"authorities"`
	// Certificates that the server showed.
	SVIDs int `json:"svids"`
}

func traffic(ctx context.Context, args []string) error {
	server, err := spiffeid.FromString(args[1])
	if err != nil {
		return err
	}
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(server))
	sum := totals{Failures: []string{}, Authorities: []string{}}
	serial := ""
	pause := time.NewTicker(20 * time.Millisecond)
	report := time.NewTicker(time.Second)
	for {
		select {
		case <-report.C:
			if err := printLine(sum); err != nil {
				return err
			}
		case <-pause.C:
			_, certificate, err := ask(args[0], config)
			if err != nil {
				sum.Failures = append(sum.Failures, fmt.Sprintf("%s: %s", time.Now().UTC().Format(time.RFC3339), err))
				continue
			}
			sum.Handshakes++
			if shown := certificate.SerialNumber.String(); shown != serial {
				serial = shown
				sum.SVIDs++
			}
			if id := hex.EncodeToString(certificate.AuthorityKeyId); !slices.Contains(sum.Authorities, id) {
				sum.Authorities = append(sum.Authorities, id)
			}
		}
	}
}
