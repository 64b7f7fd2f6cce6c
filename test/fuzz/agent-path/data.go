package main

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
)

// What x509pop hands to its template, in the types that it has there.
type fields struct {
	*x509.Certificate
	SerialNumberHex string
	Fingerprint     string
	PluginName      string
	TrustDomain     string
	SVIDPathTrimmed string
	URISanSelectors map[string]string
}

func readData(path string) fields {
	content, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	block, _ := pem.Decode(content)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err)
	}
	fingerprint := sha1.Sum(certificate.Raw)
	return fields{
		Certificate:     certificate,
		SerialNumberHex: "0a0b0c0d0e",
		Fingerprint:     hex.EncodeToString(fingerprint[:]),
		PluginName:      "x509pop",
		TrustDomain:     "example.org",
		SVIDPathTrimmed: "rack-7/node1",
		URISanSelectors: map[string]string{"datacenter": "dc-1", "environment": "prod/eu", "rack": "A B"},
	}
}
