package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"testing"
)

// A file whose endpoint names no certificate is served at once: by a local CA that is made for it, once.
func TestFileGetsALocalCA(t *testing.T) {
	s := newSite(t)
	text := func(name string) string {
		return fmt.Sprintf("authorities: [{name: Local CA, pem_file: ca.pem}]\nendpoints:\n  - {name: a, url: \"https://%s:%d\", upstream: whoami}\n", name, s.port)
	}
	s.write(text("api.example.test"))
	dir := dataDir(t)
	p := s.start(dir)
	config := p.gateway.Config()
	if len(config.LocalCAs) != 1 || config.LocalCAs[0].Name != "Local CA 2" || len(config.Authorities) != 2 {
		t.Fatalf("local CAs %+v beside %d authorities", config.LocalCAs, len(config.Authorities))
	}
	roots := x509.NewCertPool()
	roots.AddCert(config.LocalCAs[0].Certificate)
	conn, err := tls.Dial("tcp", netip.AddrPortFrom(loopback(), s.port).String(), &tls.Config{RootCAs: roots, ServerName: "api.example.test"})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()

	s.write(text("other.example.test"))
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.gateway.Config().LocalCAs; len(got) != 1 || !got[0].Certificate.Equal(config.LocalCAs[0].Certificate) {
		t.Errorf("a second one was made: %+v", got)
	}

	// What the file does not need is not made.
	s.write(s.config("one"))
	other := s.start(dataDir(t))
	if n := len(other.gateway.Config().LocalCAs); n != 0 {
		t.Errorf("%d local CAs were made for a file that names its certificates", n)
	}
}
