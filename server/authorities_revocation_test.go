package server

import (
	"bytes"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestRevocationOnTheTrustPage: lists come by upload and by address, what cannot count is refused in words, and the page
// tells how each of them is doing.
func TestRevocationOnTheTrustPage(t *testing.T) {
	f := start(t, nil)
	f.signIn("rhea")
	root, other := tlstest.NewCA(tlstest.CN("Devices CA")), tlstest.NewCA(tlstest.CN("Other CA"))
	alice := root.Client("alice")
	f.withAuthority("devices", root)
	path := "/authorities/" + f.current().Authority("devices").ID
	if got := f.get(path); !strings.Contains(got.body, "Nobody can tell that a certificate of this authority was taken back") {
		t.Error("the page does not say that nobody looks")
	}
	now := time.Now()
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"nothing":       {nil, "there is nothing in it"},
		"another CA":    {other.CRL(), "Other CA"},
		"a delta":       {root.CRL(tlstest.DeltaCRL()), "delta"},
		"indirect":      {root.CRL(tlstest.IssuingDistributionPoint(0x84, 0x01, 0xff)), "indirect"},
		"bad signature": {badSignature(root.CRL()), "signature"},
		"a certificate": {alice.PEM(), "it is a certificate, not a revocation list"},
		"the same, DER": {alice.X509.Raw, "it is a certificate, not a revocation list"},
		"a letter":      {[]byte("dear gateway"), "revocation list"},
		"a key":         {alice.KeyPEM(), "key"},
	} {
		got := f.sendClient(path+"/revocation/crl", url.Values{}, c.data)
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, c.says) {
			t.Errorf("%s: %d, and not %q", name, got.status, c.says)
		}
		if n := len(f.current().Authority("devices").Revocation.CRLs); n != 0 {
			t.Fatalf("%s: %d lists are kept", name, n)
		}
	}
	if got := f.sendClient(path+"/revocation/crl", url.Values{}, root.CRL(tlstest.Number(7), tlstest.Revoking(alice), tlstest.Updates(now.Add(-time.Hour), now.Add(20*time.Hour)))); got.status != http.StatusSeeOther {
		t.Fatalf("a good list: %d", got.status)
	}
	page := f.get(path).body
	for _, want := range []string{"client.pem", "Devices CA", "<dt>Number</dt>", "Only a certificate that is known to be revoked is refused", "in 19 hours", ">soft<"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if got := f.sendClient(path+"/revocation/crl", url.Values{}, root.CRL(tlstest.Number(6))); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "older") {
		t.Errorf("an older list: %d", got.status)
	}
	if got := f.sendClient(path+"/revocation/crl", url.Values{}, tlstest.CRLPEM(root.CRL(tlstest.Number(8)))); got.status != http.StatusSeeOther || len(f.current().Authority("devices").Revocation.CRLs) != 1 {
		t.Errorf("a newer list: %d, %d lists", got.status, len(f.current().Authority("devices").Revocation.CRLs))
	}

	fetched := make(chan struct{}, 8)
	ca := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(root.CRL(tlstest.Number(9)))
		fetched <- struct{}{}
	}))
	defer ca.Close()
	for field, bad := range map[string]string{"crl_urls": "file:///etc/passwd", "revocation": "maybe", "ocsp_url": "ldap://x"} {
		got := f.post(path+"/revocation", url.Values{field: {bad}})
		if said := regexp.MustCompile(`id="f-` + field + `"[^>]*aria-invalid="true"`).MatchString(got.body); got.status != http.StatusUnprocessableEntity || !said {
			t.Errorf("%s=%s: %d, said at the field: %t", field, bad, got.status, said)
		}
	}
	if got := f.post(path+"/revocation", url.Values{"revocation": {"hard"}, "crl_urls": {ca.URL + "/devices.crl"}, "ocsp_url": {""}}); got.status != http.StatusSeeOther {
		t.Fatalf("addresses: %d", got.status)
	}
	<-fetched
	if got := f.post(path+"/revocation/fetch", url.Values{}); got.status != http.StatusSeeOther {
		t.Errorf("fetch now: %d", got.status)
	}
	if r := f.current().Authority("devices").Revocation; r.Mode != termination.RevocationHard || len(r.CRLURLs) != 1 || len(r.CRLs) != 1 {
		t.Errorf("kept: %+v", r)
	}
	if got := f.get(path); !strings.Contains(got.body, "devices.crl") {
		t.Error("the page does not name the address")
	}
	digest := digestOfList(f.current().Authority("devices").Revocation.CRLs[0])
	if got := f.post(path+"/revocation/remove", url.Values{"digest": {strings.Repeat("0", 64)}}); got.status != http.StatusNotFound {
		t.Errorf("removing what is not there: %d", got.status)
	}
	if got := f.post(path+"/revocation", url.Values{"revocation": {"hard"}}); got.status != http.StatusSeeOther {
		t.Fatalf("hard with a list alone: %d", got.status)
	}
	if got := f.post(path+"/revocation/remove", url.Values{"digest": {digest}}); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "nobody could enter") || !strings.Contains(got.body, `id="revocation"`) {
		t.Errorf("removing what hard needs: %d", got.status)
	}
	away := tlstest.NewResponder(t, func(*big.Int) []byte { return nil })
	if got := f.post(path+"/revocation", url.Values{"revocation": {"soft"}, "ocsp_url": {away.URL}}); got.status != http.StatusSeeOther {
		t.Fatalf("a responder: %d", got.status)
	}
	if got := f.get(path); !strings.Contains(got.body, away.URL) || !strings.Contains(got.body, "OCSP responder; asked about each client") {
		t.Error("the page does not show the responder")
	}
	if got := f.post(path+"/revocation/remove", url.Values{"digest": {digest}}); got.status != http.StatusSeeOther || len(f.current().Authority("devices").Revocation.CRLs) != 0 {
		t.Errorf("remove: %d", got.status)
	}
	if bytes.Contains([]byte(page), []byte("PRIVATE KEY")) {
		t.Error("a key came back")
	}
}

// badSignature changes the last byte of a list.
func badSignature(list []byte) []byte {
	list[len(list)-1] ^= 1
	return list
}

// TestRevocationOfAFilesAuthority: what the configuration file declares is shown, and can only be changed there.
func TestRevocationOfAFilesAuthority(t *testing.T) {
	f := start(t, nil)
	f.signIn("rhea")
	root := tlstest.NewCA(tlstest.CN("Devices CA"))
	f.mutate(func(tx *store.Tx) error {
		return tx.ReplaceDeclared(store.Declared{Authorities: []termination.Authority{{
			Name: "declared", Origin: termination.OriginFile, Certificates: []termination.CACertificate{{Certificate: root.X509, Role: termination.RoleAnchor}},
			Revocation: termination.Revocation{CRLs: []termination.CRL{{DER: root.CRL(tlstest.Number(3)), Source: "devices.crl"}}},
		}}})
	})
	path := "/authorities/" + f.current().Authority("declared").ID
	page := f.get(path).body
	if !strings.Contains(page, "devices.crl") || strings.Contains(page, "/revocation/crl") || strings.Contains(page, "Remove this list") {
		t.Error("the page offers to change what only the file can")
	}
	for _, got := range []reply{
		f.sendClient(path+"/revocation/crl", url.Values{}, root.CRL(tlstest.Number(4))),
		f.post(path+"/revocation", url.Values{"revocation": {"off"}}),
		f.post(path+"/revocation/remove", url.Values{"digest": {digestOfList(f.current().Authority("declared").Revocation.CRLs[0])}}),
	} {
		if got.status != http.StatusConflict {
			t.Errorf("changed: %d", got.status)
		}
	}
}
