package verify_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// TestCommandsRun runs what the explanations tell people to type, except what calls a server, as our own agent does.
func TestCommandsRun(t *testing.T) {
	tlstest.Program(t, "openssl")
	shell := tlstest.Program(t, "sh")
	w := newWorld(t)
	dir := t.TempDir()
	limited := intermediate(w.root, "Acme Shops CA", "Acme", tlstest.PermitDNS("shops.example.com"))
	leaf := client(limited)
	for name, data := range map[string][]byte{
		"client.crt": leaf.PEM(), "client.key": leaf.KeyPEM(), "intermediate.crt": limited.PEM(),
		"renewed-intermediate.crt": limited.PEM(), "ca.crt": limited.PEM(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ran := map[string]bool{}
	for _, tt := range w.cases(t) {
		w.search.Explain(tt.h, noon)
		for _, fix := range tt.h.Verdict.Explanation.Fixes {
			for line := range strings.Lines(fix.Command) {
				line = strings.TrimSuffix(line, "\n")
				calls := func(program string) bool { return strings.HasPrefix(line, program+" ") }
				if ran[line] || slices.ContainsFunc([]string{"curl", "nc", "openssl s_client", "psql", "ssh", "countersign"}, calls) {
					continue
				}
				ran[line] = true
				if calls("openssl pkcs12 -export") { // it asks for a password
					line += " -passout pass:test"
				}
				cmd := exec.Command(shell, "-e", "-c", line)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %s\n%v: %s", tt.name, line, err, out)
				}
			}
		}
	}
	if len(ran) < 8 {
		t.Errorf("only %d commands were run", len(ran))
	}
	request := tlstest.OpenSSL(t, "req", "-in", filepath.Join(dir, "client.csr"), "-noout", "-subject", "-verify")
	if request.Exit != 0 || !request.Has("billing-batch") {
		t.Errorf("the request for a replacement: %s", request.Output())
	}
	signedItself(t, filepath.Join(dir, "new-client.crt"))
}

// signedItself lets the certificate that openssl made with the command for pins pass as a pin.
func signedItself(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("%s is not PEM", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	j := pinning(t, termination.FingerprintOf(cert).String()).Judge(verify.Client{Presented: []*x509.Certificate{cert}}, time.Now())
	if !j.Verified {
		t.Errorf("it does not pass as a pin:%s", details(j.Checks))
	}
}
