package tlstest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// PEM returns this certificate alone.
func (c *Cert) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER})
}

// ChainPEM returns the certificate and its intermediates, without the root.
func (c *Cert) ChainPEM() []byte {
	return ChainPEM(c.Chain()...)
}

// KeyPEM returns the private key as PKCS#8.
func (c *Cert) KeyPEM() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		panic(fmt.Sprintf("tlstest: marshal a private key: %v", err))
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// ChainPEM returns the certificates one after another.
func ChainPEM(certs ...*x509.Certificate) []byte {
	var buf bytes.Buffer
	for _, c := range certs {
		buf.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return buf.Bytes()
}

// Files are the paths that WriteFiles wrote.
type Files struct {
	Cert  string // the certificate alone
	Chain string // the certificate and its intermediates
	Key   string // the private key, mode 0600
	Root  string // the self-signed certificate at the end of the chain
}

// WriteFiles writes the certificate, its chain, its key and its root into dir,
// which it makes if need be; file names are made from the common name.
func (c *Cert) WriteFiles(t testing.TB, dir string) Files {
	t.Helper()
	base := filepath.Join(dir, c.fileName())
	files := Files{Cert: base + ".crt", Chain: base + ".chain.crt", Key: base + ".key", Root: base + ".root.crt"}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatalf("make the folder for test certificates: %v", err)
	}
	for path, data := range map[string][]byte{
		files.Cert: c.PEM(), files.Chain: c.ChainPEM(), files.Key: c.KeyPEM(), files.Root: c.Root().PEM(),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatalf("write a test certificate: %v", err)
		}
	}
	return files
}

// fileName keeps letters, digits and dashes of the common name, so that a hostile
// one stays inside its folder, and tells certificates of one name apart.
func (c *Cert) fileName() string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return '_'
	}, c.X509.Subject.CommonName)
	return name[:min(len(name), 40)] + "-" + c.Fingerprint()[:8]
}
