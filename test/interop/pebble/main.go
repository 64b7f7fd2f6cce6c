// An ACME service for tests: Pebble, with a directory of its own, and a resolver by which every name is this machine.
package main

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"strconv"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

const ninetyDays = 90 * 86400

func main() {
	tlsPort, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	silent := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	profiles := map[string]ca.Profile{"default": {Description: "tests", ValidityPeriod: ninetyDays}}
	authority := ca.New(silent, store, "", "ecdsa", 0, 1, profiles)
	validation := va.New(silent, 1, tlsPort, true, serveNames(), store)
	service := wfe.New(silent, store, validation, authority, []string{"pebble.test"}, true, false, 1, 1)
	server := httptest.NewTLSServer(service.Handler())
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	json.NewEncoder(os.Stdout).Encode(map[string]string{
		"directory":  server.URL + wfe.DirectoryPath,
		"root":       string(root),
		"issuedRoot": string(authority.GetRootCert(0).PEM()),
	})
	select {}
}

// serveNames returns the address of a resolver.
func serveNames() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	answer := func(w dns.ResponseWriter, question *dns.Msg) {
		reply := new(dns.Msg).SetReply(question)
		if asked := question.Question[0]; asked.Qtype == dns.TypeA {
			header := dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)})
		}
		w.WriteMsg(reply)
	}
	go func() {
		server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(answer)}
		log.Fatal(server.ActivateAndServe())
	}()
	return listener.Addr().String()
}
