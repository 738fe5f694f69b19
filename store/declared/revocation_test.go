package declared

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// What an authority says about revocation is read whole, several lists of one file and one in DER among it.
func TestRevocationOfAnAuthority(t *testing.T) {
	dir := directory(t)
	ca := tlstest.NewCA()
	one, two := ca.CRL(), ca.CRL(tlstest.Number(2))
	for name, data := range map[string][]byte{"lists.pem": tlstest.CRLPEM(one, two), "list.crl": two, "revoked.pem": ca.PEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := write(t, dir, `authorities:
  - name: devices
    pem_file: revoked.pem
    crl_files: [lists.pem, list.crl]
    crl_urls: ["http://ca.example.com/devices.crl"]
    ocsp_url: http://ocsp.example.com
    revocation: hard
`)
	d, err := Read(path, Options{Getenv: environment})
	if err != nil {
		t.Fatal(err)
	}
	got := d.Authorities[0].Revocation
	if got.Mode != termination.RevocationHard || got.OCSPURL != "http://ocsp.example.com" || !slices.Equal(got.CRLURLs, []string{"http://ca.example.com/devices.crl"}) {
		t.Errorf("%+v", got)
	}
	want := [][]byte{one, two, two}
	if !slices.EqualFunc(got.CRLs, want, func(l termination.CRL, der []byte) bool { return bytes.Equal(l.DER, der) }) {
		t.Errorf("%d lists", len(got.CRLs))
	}
}
