package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// What an authority says about revocation comes back whole, an older list is refused, what is fetched lasts as long as its
// address is wanted.
func TestRevocationOfAuthorities(t *testing.T) {
	ctx := context.Background()
	s, _ := newStore(t)
	ca := tlstest.NewCA()
	one, two := ca.CRL(), ca.CRL(tlstest.Number(2))
	const url = "http://ca.example.com/devices.crl"
	wanted := termination.Revocation{
		Mode: termination.RevocationHard, OCSPURL: "http://ocsp.example.com", CRLURLs: []string{url},
		CRLs: []termination.CRL{{DER: two, Source: "devices.crl"}},
	}
	a := termination.Authority{Name: "devices", Revocation: wanted, Certificates: []termination.CACertificate{{Certificate: ca.X509, Role: termination.RoleAnchor}}}
	change := func(f func(*Tx) error) error {
		_, _, err := s.Change(ctx, Actor{Name: "test", Via: "test"}, f, func(*termination.Config) error { return nil })
		return err
	}
	if err := change(func(tx *Tx) (err error) { a, err = tx.CreateAuthority(a); return err }); err != nil {
		t.Fatal(err)
	}
	read := func() termination.Revocation {
		config, _, err := s.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return config.Authority("devices").Revocation
	}
	if got := read(); got.Mode != wanted.Mode || got.OCSPURL != wanted.OCSPURL || len(got.CRLURLs) != 1 || len(got.CRLs) != 1 || string(got.CRLs[0].DER) != string(two) {
		t.Errorf("%+v", got)
	}
	a.Revocation.CRLs = []termination.CRL{{DER: one, Source: "old.crl"}}
	if err := change(func(tx *Tx) error { return tx.UpdateAuthority(a) }); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("an older list: %v", err)
	}
	for _, u := range []string{url, "http://unwanted.example.com"} {
		if err := s.KeepFetchedList(ctx, FetchedList{Authority: a.ID, URL: u, Body: one, ETag: "e", Checked: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	if lists, err := s.FetchedLists(ctx); err != nil || len(lists) != 1 || lists[0].URL != url || string(lists[0].Body) != string(one) {
		t.Errorf("%+v, %v", lists, err)
	}
	a.Revocation = termination.Revocation{}
	if err := change(func(tx *Tx) error { return tx.UpdateAuthority(a) }); err != nil {
		t.Fatal(err)
	}
	if lists, err := s.FetchedLists(ctx); err != nil || len(lists) != 0 {
		t.Errorf("%+v, %v", lists, err)
	}
	if got := read(); got.Sources() || got.Mode != "" {
		t.Errorf("%+v", got)
	}
}
