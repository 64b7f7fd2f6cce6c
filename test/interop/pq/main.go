// Prints what Go's TLS client gets from an address with each way to exchange keys, as one line of JSON.
package main

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"time"
)

type attempt struct {
	name   string
	config tls.Config
}

func main() {
	attempts := []attempt{
		{"Go's own choice", tls.Config{}},
		{"X25519MLKEM768", tls.Config{CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}}},
		{"X25519", tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}}},
		{"P-256", tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP256}}},
		{"TLS 1.2", tls.Config{MaxVersion: tls.VersionTLS12}},
	}
	results := map[string]string{}
	for i := range attempts {
		results[attempts[i].name] = try(os.Args[1], &attempts[i].config)
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		os.Exit(1)
	}
}

// try returns the key exchange of a handshake that succeeded, or "refused".
func try(address string, config *tls.Config) string {
	config.InsecureSkipVerify = true // who the server is doesn't matter here
	config.NextProtos = []string{"h2", "http/1.1"}
	dialer := &net.Dialer{Timeout: 20 * time.Second}
	connection, err := tls.DialWithDialer(dialer, "tcp", address, config)
	if err != nil {
		return "refused"
	}
	defer connection.Close()
	return connection.ConnectionState().CurveID.String()
}
