package declared

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"countersign/termination/tlstest"
)

func TestFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{"missing": filepath.Join(dir, "none.yaml"), "a directory": dir, "a device": os.DevNull} {
		d, err := Read(path, Options{})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "cannot read the file") {
			t.Errorf("%s: %v", name, err)
		}
		if d == nil || !slices.Equal(d.Files, []string{path}) {
			t.Errorf("%s: whoever waits for the file does not learn its name: %+v", name, d)
		}
	}
}

// A file that is missing must be among those that are watched, so that its arrival is noticed.
func TestMissingFilesAreListed(t *testing.T) {
	dir := t.TempDir()
	d, err := Read(write(t, dir, "authorities: [{name: a, pem_file: later.pem}]\n"), Options{})
	if err == nil {
		t.Fatal("accepted")
	}
	if !slices.Contains(d.Files, filepath.Join(dir, "later.pem")) {
		t.Errorf("files %v", d.Files)
	}
}

// A CA that has ended was fine once: it must not keep a gateway from starting. It is said, with its place.
func TestWarnings(t *testing.T) {
	const text = `authorities:
  - name: old
    pem_file: expired.pem
  - name: maybe
    pem_file: client.pem
certificates:
  - name: api
    cert_file: shuffled.pem
    key_file: server.key
`
	dir := directory(t)
	m := made()
	if err := os.WriteFile(filepath.Join(dir, "shuffled.pem"), append(m.ca.PEM(), m.server.PEM()...), 0o600); err != nil {
		t.Fatal(err)
	}
	own := tlstest.SelfSigned(tlstest.CN("billing"), tlstest.CATrue(), tlstest.KeyUsage(0), tlstest.EKU(x509.ExtKeyUsageClientAuth))
	if err := os.WriteFile(filepath.Join(dir, "client.pem"), own.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Read(write(t, dir, text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Authorities) != 2 || len(d.Authorities[0].Anchors()) != 1 || len(d.Certificates) != 1 {
		t.Errorf("%+v", d.Declared)
	}
	for line, want := range map[int]struct {
		says   string
		strong bool
	}{3: {"expired.pem", true}, 5: {"may be a client's own certificate", true}, 8: {"shuffled.pem", false}} {
		if !slices.ContainsFunc(d.Warnings, func(w Warning) bool {
			return w.Line == line && w.File == d.Path && w.Strong == want.strong && strings.Contains(w.Problem, want.says)
		}) {
			t.Errorf("line %d: no warning %+v in %v", line, want, d.Warnings)
		}
	}
}
