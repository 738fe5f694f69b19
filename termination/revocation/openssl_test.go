package revocation_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/tlstest"
)

// openssl runs it in a directory.
func openssl(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// opensslCA is a CA as openssl ca keeps it, which has revoked bob.
func opensslCA(t *testing.T) (dir string, ca, alice, bob *tlstest.Cert) {
	t.Helper()
	dir = t.TempDir()
	ca = tlstest.NewCA(tlstest.CN("Devices CA"))
	alice, bob = ca.Client("alice", tlstest.CN("alice")), ca.Client("bob", tlstest.CN("bob"))
	for name, data := range map[string][]byte{
		"ca.crt": ca.PEM(), "ca.key": ca.KeyPEM(), "bob.crt": bob.PEM(), "alice.crt": alice.PEM(), "crlnumber": []byte("1234\n"), "serial": []byte("01\n"),
		"index.txt": []byte(fmt.Sprintf("V\t%s\t\t%X\tunknown\t/CN=alice\n", alice.X509.NotAfter.UTC().Format("060102150405Z"), alice.X509.SerialNumber.Bytes())),
		"ca.cnf": []byte("[ca]\ndefault_ca = one\n[one]\ndatabase = index.txt\ncrlnumber = crlnumber\nserial = serial\ndefault_md = sha256\n" +
			"default_crl_days = 30\ncertificate = ca.crt\nprivate_key = ca.key\nunique_subject = no\n[ext]\nauthorityKeyIdentifier = keyid:always\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl(t, dir, "ca", "-config", "ca.cnf", "-revoke", "bob.crt", "-crl_reason", "keyCompromise")
	return dir, ca, alice, bob
}

// What openssl ca -gencrl writes is read: of version 2, and of version 1 as it comes without extensions.
func TestListsOfOpenSSL(t *testing.T) {
	dir, ca, alice, bob := opensslCA(t)
	openssl(t, dir, "ca", "-config", "ca.cnf", "-gencrl", "-out", "v1.crl")
	openssl(t, dir, "ca", "-config", "ca.cnf", "-gencrl", "-crlexts", "ext", "-out", "v2.crl")
	openssl(t, dir, "crl", "-in", "v2.crl", "-outform", "DER", "-out", "v2.der")
	for _, name := range []string{"v1.crl", "v2.crl", "v2.der"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		lists, err := termination.ReadCRLs(data)
		if err != nil || len(lists) != 1 {
			t.Fatalf("%s: %v", name, err)
		}
		r := registry(t, revocation.Options{})
		r.Apply(devices(termination.Revocation{Mode: termination.RevocationHard, CRLs: given(lists[0].Raw)}, ca))
		if f := check(r, bob); f.Revoked == nil || name != "v1.crl" && !strings.Contains(f.Detail, "key was compromised") {
			t.Errorf("%s: bob %+v, %+v", name, f, r.Status())
		}
		if f := check(r, alice); f.Revoked != nil || f.Unknown != nil {
			t.Errorf("%s: alice %+v", name, f)
		}
	}
}

// openssl ocsp answers, itself and by a delegate.
func TestResponderOfOpenSSL(t *testing.T) {
	dir, ca, alice, bob := opensslCA(t)
	delegate := ca.Leaf(tlstest.EKU(x509.ExtKeyUsageOCSPSigning))
	for name, data := range map[string][]byte{"delegate.crt": delegate.PEM(), "delegate.key": delegate.KeyPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, signer := range []string{"ca", "delegate"} {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := fmt.Sprint(free.Addr().(*net.TCPAddr).Port)
		_ = free.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cmd := exec.CommandContext(ctx, "openssl", "ocsp", "-port", port, "-index", "index.txt", "-CA", "ca.crt", "-rsigner", signer+".crt", "-rkey", signer+".key", "-nmin", "5")
		cmd.Dir = dir
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(out); lines.Scan() && !strings.Contains(lines.Text(), "ACCEPT"); { // a connection that asks nothing would stop it
		}
		r := registry(t, revocation.Options{})
		r.Apply(devices(termination.Revocation{Mode: termination.RevocationHard, OCSPURL: "http://127.0.0.1:" + port}, ca))
		tlstest.Eventually(t, "alice is known as good, by the "+signer, func() bool {
			f := asked(r, alice)
			return f.Unknown == nil && f.Revoked == nil
		})
		tlstest.Eventually(t, "bob is known as revoked", func() bool { return asked(r, bob).Revoked != nil })
		cancel()
		_ = cmd.Wait() // it was killed
	}
}
