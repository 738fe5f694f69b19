package declared

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"countersign/termination/tlstest"
)

// material is made once: certificates that the files of the tests name.
type material struct {
	ca, other, intermediate, server, renewed, expired *tlstest.Cert
}

var made = sync.OnceValue(func() material {
	ca := tlstest.NewCA(tlstest.CN("Devices CA"))
	server := ca.Server("api.example.com")
	return material{
		ca: ca, other: tlstest.NewCA(tlstest.CN("Other CA")), intermediate: ca.Intermediate(tlstest.CN("Devices CA 2")),
		server: server, renewed: ca.Server("api.example.com"),
		expired: tlstest.NewCA(tlstest.CN("Old CA"), tlstest.Expired()),
	}
})

// directory writes the files that the configurations of the tests name, and returns where.
func directory(t testing.TB) string {
	t.Helper()
	m := made()
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"ca.pem":           m.ca.PEM(),
		"bundle.pem":       append(append([]byte("the devices\n"), m.ca.PEM()...), m.intermediate.PEM()...),
		"intermediate.pem": m.intermediate.PEM(),
		"expired.pem":      m.expired.PEM(),
		"other.der":        m.other.DER,
		"server.pem":       m.server.PEM(),
		"server.key":       m.server.KeyPEM(),
		"renewed.key":      m.renewed.KeyPEM(),
		"both.pem":         append(m.server.PEM(), m.server.KeyPEM()...),
		"mixed.pem":        append(m.ca.PEM(), m.other.KeyPEM()...),
		"text.txt":         []byte("nothing of use\n"),
		"empty.pem":        nil,
		"large.pem":        make([]byte, maxFile+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// write puts a configuration file beside the files that it may name.
func write(t testing.TB, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "countersign.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// environment is what ${NAME} finds in the tests.
func environment(name string) (string, bool) {
	values := map[string]string{
		"HOST": "api.example.com", "PORT": "8443", "EMPTY": "", "MODE": "require", "COUNT": "77", "YES": "true",
		"NESTED": "${HOST}", "LINES": "a\nb: c", "TSIG_KEY": "c2VjcmV0",
	}
	v, ok := values[name]
	return v, ok
}

// read reads a configuration that is right.
func read(t testing.TB, text string) *Declaration {
	t.Helper()
	d, err := Read(write(t, directory(t), text), Options{Getenv: environment})
	if err != nil {
		t.Fatalf("refused:\n%v\nin:\n%s", err, text)
	}
	return d
}

func sameCertificates(a, b []*x509.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

// A relative path begins beside the configuration file, and in the working directory where there is no such file.
func TestRelativePaths(t *testing.T) {
	beside, working := t.TempDir(), t.TempDir()
	ca, other := tlstest.NewCA(tlstest.CN("Beside")), tlstest.NewCA(tlstest.CN("Working"))
	files := map[string][]byte{
		filepath.Join(beside, "both.pem"): ca.PEM(), filepath.Join(working, "both.pem"): other.PEM(), filepath.Join(working, "one.pem"): other.PEM(),
		filepath.Join(beside, "countersign.yaml"): []byte("authorities:\n  - {name: a, pem_file: both.pem}\n  - {name: b, pem_file: one.pem}\n"),
	}
	for path, data := range files {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(working)
	d, err := Read(filepath.Join(beside, "countersign.yaml"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"Beside", "Working"} {
		if got := d.Authorities[i].Certificates[0].Certificate.Subject.CommonName; got != want {
			t.Errorf("authority %d is %s, want %s", i, got, want)
		}
	}
	if len(d.Files) != 3 || d.Files[2] != "one.pem" {
		t.Errorf("watched are %q", d.Files)
	}
}

// A locked key is opened with the passphrase in a file; without it, or with another, the message leads to the place.
func TestKeyPassword(t *testing.T) {
	dir := t.TempDir()
	root := tlstest.NewCA()
	inter := root.Intermediate()
	leaf := inter.Server("a.test")
	p12, err := pkcs12.Modern.Encode(leaf.Key, leaf.X509, nil, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"a.p12": p12, "right.txt": []byte("correct horse\r\n"), "wrong.txt": []byte("battery staple\n"), "ca.pem": append(root.PEM(), inter.PEM()...)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for rest, says := range map[string]string{
		"":                               "a.p12: the PKCS#12 file is locked with a passphrase; give the passphrase in a file: key_password_file",
		", key_password_file: wrong.txt": "wrong.txt: the passphrase does not open the PKCS#12 file; give the one that it was made with",
		", key_password_file: none.txt":  "cannot read the file",
	} {
		_, err := Read(write(t, dir, "authorities: [{name: ca, pem_file: ca.pem}]\ncertificates:\n  - {name: a, cert_file: a.p12"+rest+"}\n"), Options{})
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "countersign.yaml:3:") || strings.Contains(err.Error(), "battery") {
			t.Errorf("%q: %v", rest, err)
		}
	}
	text := "certificates:\n  - {name: a, cert_file: a.p12, key_password_file: right.txt}\nauthorities: [{name: ca, pem_file: ca.pem}]\n" +
		"endpoints:\n  - {name: e, url: 'https://b.test:8443', upstream: whoami, certificates: [a]}\n"
	d, err := Read(write(t, dir, text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if c := d.Certificates[0]; len(c.Chain) != 2 || !c.Chain[1].Equal(inter.X509) {
		t.Errorf("the chain has %d certificates", len(c.Chain))
	}
	said := fmt.Sprint(d.Warnings)
	for _, s := range []string{"was missing between", `endpoint "e": none of its certificates is for b.test`} {
		if !strings.Contains(said, s) {
			t.Errorf("%s does not say %q", said, s)
		}
	}
}
