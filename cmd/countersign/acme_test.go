package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"countersign/termination"
)

// certificateAuthority is pebble, which takes every proof for good: that they are good is tested beside the package.
func certificateAuthority(t *testing.T) (*httptest.Server, *x509.CertPool, *atomic.Int64) {
	t.Helper()
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_VA_ALWAYS_VALID": "1", "PEBBLE_WFE_NONCEREJECT": "0"} {
		t.Setenv(name, value)
	}
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "for tests", ValidityPeriod: 90 * 24 * 3600}})
	front := wfe.New(quiet, store, va.New(quiet, 1, 1, true, "", store), issuer, []string{"pebble.test"}, true, false, 0, 0)
	handler := front.Handler()
	asked := &atomic.Int64{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(issuer.GetRootCert(0).PEM())
	return server, roots, asked
}

// A configuration file that asks for ACME: the certificate comes, is shown, and is there after a restart without asking again.
func TestACMEFromTheFile(t *testing.T) {
	authority, roots, asked := certificateAuthority(t)
	s := newSite(t)
	writeFile(t, filepath.Join(s.dir, "acme-ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate().Raw}))
	writeFile(t, s.path, fmt.Appendf(nil, `acme:
  directory: %s%s
  email: ops@example.com
  ca_file: acme-ca.pem
endpoints:
  - name: web
    url: https://web.example.test:%d
    upstream: whoami
    certificates: [acme]
`, authority.URL, wfe.DirectoryPath, s.port))
	dir := dataDir(t)
	with := func(o *appOptions) { o.Config = s.path }
	trusted := func() bool {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port), &tls.Config{ServerName: "web.example.test", RootCAs: roots})
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	}
	p := start(t, dir, with)
	eventually(t, "a certificate from the CA", trusted)
	eventually(t, "its state", func() bool {
		names := p.acme.Load().Status().Names
		return len(names) == 1 && names[0].State == "ok"
	})
	p.end()

	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && (bytes.Contains(data, []byte("BEGIN EC PRIVATE KEY")) || bytes.Contains(data, []byte("BEGIN PRIVATE KEY"))) {
			t.Errorf("%s holds a private key as it is", f)
		}
	}

	authority.Close()
	before := asked.Load()
	again := start(t, dir, with)
	eventually(t, "the certificate of before", trusted)
	if asked.Load() != before {
		t.Error("the CA was asked again")
	}
	if config := again.gateway.Config(); config.ACME.Email != "ops@example.com" || config.Endpoint("web").Certificates[0] != termination.CertificateACME {
		t.Errorf("%+v", config.ACME)
	}
	if strings.Contains(again.log.String(), "level=ERROR") {
		t.Errorf("the log complains:\n%s", again.log)
	}
}
