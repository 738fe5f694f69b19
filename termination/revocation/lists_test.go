package revocation_test

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/tlstest"
)

// devices is a configuration of one authority.
func devices(rev termination.Revocation, cas ...*tlstest.Cert) *termination.Config {
	a := termination.Authority{ID: "au_1", Name: "devices", Revocation: rev}
	for _, ca := range cas {
		role := termination.RoleAnchor
		if ca.Issuer != nil {
			role = termination.RoleHelper
		}
		a.Certificates = append(a.Certificates, termination.CACertificate{Certificate: ca.X509, Role: role})
	}
	return &termination.Config{Revision: 1, Authorities: []termination.Authority{a}}
}

func given(lists ...[]byte) []termination.CRL {
	var out []termination.CRL
	for _, der := range lists {
		out = append(out, termination.CRL{DER: der, Source: "devices.crl"})
	}
	return out
}

func registry(t *testing.T, o revocation.Options) *revocation.Registry {
	t.Helper()
	r := revocation.New(o)
	t.Cleanup(r.Close)
	return r
}

// path is the chain of a client, root included.
func path(c *tlstest.Cert) (out []*x509.Certificate) {
	for ; c != nil; c = c.Issuer {
		out = append(out, c.X509)
	}
	return out
}

func check(r *revocation.Registry, c *tlstest.Cert) revocation.Finding {
	return r.Snapshot().Check([]string{"devices"}, path(c), nil, time.Now())
}

// Each of these lists would take alice, who is not revoked, for revoked, or bob, who is, for good. The naive reader falls
// for all of them.
func TestListsThatMustNotCount(t *testing.T) {
	ca := tlstest.NewCA(tlstest.CN("Devices CA"))
	alice, bob := ca.Client("alice"), ca.Client("bob")
	impostor, stranger := ca.Impostor(), tlstest.NewCA(tlstest.CN("Stranger"))
	unable := tlstest.NewCA(tlstest.CN("No lists"), tlstest.KeyUsage(x509.KeyUsageCertSign))
	damaged := ca.CRL(tlstest.Revoking(alice))
	damaged[len(damaged)-1] ^= 1
	now := time.Now()
	good := ca.CRL(tlstest.Number(7), tlstest.Revoking(bob))
	unknown := asn1.ObjectIdentifier{1, 2, 3, 4}
	for _, tt := range []struct {
		name string
		list []byte
		says string // ReadCRLs, or the status
	}{
		{"of another issuer", stranger.CRL(tlstest.Revoking(alice), tlstest.Number(9)), "no CA of this authority"},
		{"of the issuer's name with another key", impostor.CRL(tlstest.Revoking(alice), tlstest.Number(9)), "does not verify"},
		{"with a bad signature", damaged, "does not verify"},
		{"replayed", ca.CRL(tlstest.Number(6)), "older than the CRL number 7"},
		{"replayed under a new date", ca.CRL(tlstest.Number(6), tlstest.Updates(now.Add(-time.Second), now.Add(time.Hour))), "older than the CRL number 7"},
		{"from the future", ca.CRL(tlstest.Number(8), tlstest.Revoking(alice), tlstest.Updates(now.Add(time.Hour), now.Add(2*time.Hour))), "in the future"},
		{"delta", ca.CRL(tlstest.Number(8), tlstest.DeltaCRL()), "delta CRL"},
		{"indirect", ca.CRL(tlstest.Number(8), tlstest.IssuingDistributionPoint(0x84, 1, 0xff)), "indirect CRL"},
		{"indirect by an entry", ca.CRL(tlstest.Number(8), tlstest.Revoking(alice), tlstest.EntryExtension(asn1.ObjectIdentifier{2, 5, 29, 29}, true, []byte{0x30, 0})), "indirect CRL"},
		{"for some reasons", ca.CRL(tlstest.Number(8), tlstest.IssuingDistributionPoint(0x83, 2, 6, 0x40)), "some reasons only"},
		{"for attribute certificates", ca.CRL(tlstest.Number(8), tlstest.IssuingDistributionPoint(0x85, 1, 0xff)), "attribute certificates"},
		{"with a critical extension", ca.CRL(tlstest.Number(8), tlstest.CRLExtension(unknown, true, []byte{5, 0})), "critical extension 1.2.3.4"},
		{"with a critical extension of an entry", ca.CRL(tlstest.Number(8), tlstest.Revoking(alice), tlstest.EntryExtension(unknown, true, []byte{5, 0})), "critical extension 1.2.3.4"},
		{"for CAs", ca.CRL(tlstest.Number(8), tlstest.IssuingDistributionPoint(0x82, 1, 0xff)), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var naive tlstest.NaiveRevocation
			if err := naive.Load(good); err != nil || !naive.Admits(alice) || naive.Admits(bob) {
				t.Fatal("the naive reader cannot read", err)
			}
			if err := naive.Load(tt.list); err != nil || naive.Admits(alice) && !naive.Admits(bob) {
				t.Fatal("the naive reader does not fall for it, so this tests nothing", err)
			}
			_, err := termination.ReadCRLs(tt.list)
			if err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("refused with %q, want %q", err, tt.says)
			}
			r := registry(t, revocation.Options{})
			r.Apply(devices(termination.Revocation{CRLs: given(good, tt.list)}, ca))
			if f := check(r, alice); f.Revoked != nil || f.Silent != "" {
				t.Errorf("alice: %+v", f)
			}
			if f := check(r, bob); f.Revoked == nil {
				t.Errorf("bob: %+v", f)
			}
			if err != nil || tt.says == "" {
				return
			}
			if problem := r.Status()[0].Sources[1].Lists[0].Problem; !strings.Contains(problem, tt.says) {
				t.Errorf("the status says %q, want %q", problem, tt.says)
			}
		})
	}
	t.Run("of a CA that may not sign lists", func(t *testing.T) {
		r := registry(t, revocation.Options{})
		client := unable.Client("carol")
		r.Apply(devices(termination.Revocation{CRLs: given(unable.CRL(tlstest.Revoking(client)))}, unable))
		if f := check(r, client); f.Revoked != nil || !strings.Contains(f.Silent, "no CRL for the issuer No lists") {
			t.Errorf("%+v", f)
		}
		if problem := r.Status()[0].Sources[0].Lists[0].Problem; !strings.Contains(problem, "cRLSign") {
			t.Errorf("the status says %q", problem)
		}
	})
}

// An ended list stays what it is in what it names. What follows for the others is the mode's to say, both ways.
func TestEndedList(t *testing.T) {
	ca := tlstest.NewCA(tlstest.CN("Devices CA"))
	alice, bob := ca.Client("alice"), ca.Client("bob")
	now := time.Now()
	ended := given(ca.CRL(tlstest.Revoking(bob), tlstest.Updates(now.Add(-2*time.Hour), now.Add(-time.Hour))))
	for _, mode := range []termination.RevocationMode{termination.RevocationSoft, termination.RevocationHard} {
		r := registry(t, revocation.Options{})
		r.Apply(devices(termination.Revocation{Mode: mode, CRLs: ended}, ca))
		if f := check(r, bob); f.Revoked == nil || !strings.Contains(f.Detail, "its key was compromised") {
			t.Errorf("%s: bob %+v", mode, f)
		}
		f := check(r, alice)
		if hard := mode == termination.RevocationHard; f.Revoked != nil || hard != (f.Unknown != nil) || !strings.Contains(f.Detail+f.Silent, "ended on") {
			t.Errorf("%s: alice %+v", mode, f)
		}
	}
}

// A list may end while nothing else happens. Then everybody is judged again.
func TestListEndsByItself(t *testing.T) {
	ca := tlstest.NewCA(tlstest.CN("Devices CA"))
	alice := ca.Client("alice")
	changed := make(chan struct{}, 10)
	r := registry(t, revocation.Options{Changed: func() { changed <- struct{}{} }})
	end := time.Now().Add(2 * time.Second).Truncate(time.Second)
	r.Apply(devices(termination.Revocation{Mode: termination.RevocationHard, CRLs: given(ca.CRL(tlstest.Updates(end.Add(-time.Hour), end)))}, ca))
	<-changed
	before := r.Snapshot().Generation()
	select {
	case <-changed:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was told that the list has ended")
	}
	if f := check(r, alice); f.Unknown == nil || r.Snapshot().Generation() <= before {
		t.Errorf("%+v, generation %d after %d", f, r.Snapshot().Generation(), before)
	}
}

func TestEmptyListClears(t *testing.T) {
	ca := tlstest.NewCA()
	r := registry(t, revocation.Options{})
	r.Apply(devices(termination.Revocation{Mode: termination.RevocationHard, CRLs: given(ca.CRL())}, ca))
	if f := check(r, ca.Client("alice")); f.Revoked != nil || f.Unknown != nil || f.Silent != "" {
		t.Errorf("%+v", f)
	}
}

// One CA's list says nothing of another's certificates, whose serial numbers may be the same.
func TestListsPerIssuer(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Root"))
	inter := root.Intermediate(tlstest.CN("Issuing CA"))
	alice, ofRoot := inter.Client("alice", tlstest.Serial(77)), root.Client("bob", tlstest.Serial(77))
	r := registry(t, revocation.Options{})
	apply := func(lists ...[]byte) {
		r.Apply(devices(termination.Revocation{Mode: termination.RevocationHard, CRLs: given(lists...)}, root, inter))
	}
	apply(root.CRL(tlstest.Revoking(ofRoot)))
	if f := check(r, alice); f.Revoked != nil || f.Unknown == nil || !f.Unknown.Equal(alice.X509) || !strings.Contains(f.Detail, "no CRL for the issuer Issuing CA") {
		t.Errorf("with the root's list alone: %+v", f)
	}
	apply(inter.CRL())
	if f := check(r, alice); f.Unknown == nil || !f.Unknown.Equal(inter.X509) {
		t.Errorf("with the list of the issuing CA alone: %+v", f)
	}
	apply(inter.CRL(), root.CRL(tlstest.Revoking(ofRoot)))
	if f := check(r, alice); f.Revoked != nil || f.Unknown != nil {
		t.Errorf("with both: %+v", f)
	}
	apply(inter.CRL(), root.CRL(tlstest.Revoking(inter)))
	if f := check(r, alice); f.Revoked == nil || !f.Revoked.Equal(inter.X509) {
		t.Errorf("with the issuing CA revoked: %+v", f)
	}
}

// A part of a CA's lists counts for those of which it speaks.
func TestPartitionedLists(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Root"))
	inter := root.Intermediate(tlstest.CN("Issuing CA"))
	point := "http://crl.example.com/1"
	alice := root.Client("alice", tlstest.URLs(point, "", ""))
	name := append([]byte{0xa0, byte(4 + len(point)), 0xa0, byte(2 + len(point)), 0x86, byte(len(point))}, point...)
	users, cas := root.CRL(tlstest.IssuingDistributionPoint(0x81, 1, 0xff)), root.CRL(tlstest.IssuingDistributionPoint(0x82, 1, 0xff))
	part := root.CRL(tlstest.IssuingDistributionPoint(name...))
	for _, tt := range []struct {
		name   string
		list   []byte
		client *tlstest.Cert
		known  bool
	}{
		{"users for a user", users, alice, true},
		{"users for a CA", users, inter, false},
		{"CAs for a user", cas, alice, false},
		{"CAs for a CA", cas, inter, true},
		{"part for its own", part, alice, true},
		{"part for others", part, root.Client("bob"), false},
	} {
		r := registry(t, revocation.Options{})
		r.Apply(devices(termination.Revocation{Mode: termination.RevocationHard, CRLs: given(tt.list)}, root))
		if f := check(r, tt.client); (f.Unknown == nil) != tt.known {
			t.Errorf("%s: %+v", tt.name, f)
		}
	}
}

func TestTakenBackByTheLocalCA(t *testing.T) {
	ca := tlstest.NewCA()
	alice := ca.Client("alice")
	r := registry(t, revocation.Options{})
	r.Apply(devices(termination.Revocation{Revoked: []termination.RevokedCertificate{{Serial: termination.SerialOf(alice.X509), Time: time.Now(), Reason: "laptop\x1b[2J lost"}}}, ca))
	if f := check(r, alice); f.Revoked == nil || !strings.Contains(f.Detail, "lost") || strings.Contains(f.Detail, "\x1b") {
		t.Errorf("%+v", f)
	}
	if f := check(r, ca.Client("bob")); f.Revoked != nil || f.Silent != "" {
		t.Errorf("%+v", f)
	}
}

// The generation goes up with what decides, and with nothing else.
func TestGenerationFollowsWhatDecides(t *testing.T) {
	ca := tlstest.NewCA()
	told := 0
	r := registry(t, revocation.Options{Changed: func() { told++ }})
	one, two := ca.CRL(), ca.CRL(tlstest.Number(2))
	last := uint64(0)
	for i, tt := range []struct {
		rev   termination.Revocation
		moves bool
	}{
		{termination.Revocation{}, false},
		{termination.Revocation{CRLs: given(one)}, true},
		{termination.Revocation{CRLs: given(one)}, false},
		{termination.Revocation{CRLs: given(one), Mode: termination.RevocationHard}, true},
		{termination.Revocation{CRLs: given(two), Mode: termination.RevocationHard}, true},
		{termination.Revocation{CRLs: given(one, two), Mode: termination.RevocationHard}, false}, // two is the newer
		{termination.Revocation{CRLs: given(two), Mode: termination.RevocationOff}, true},
	} {
		before := told
		r.Apply(devices(tt.rev, ca))
		if g := r.Snapshot().Generation(); (g > last) != tt.moves || (told > before) != tt.moves {
			t.Errorf("step %d: generation %d after %d, told %v", i, g, last, told > before)
		}
		last = r.Snapshot().Generation()
	}
}

func TestReadCRLsForms(t *testing.T) {
	ca := tlstest.NewCA()
	one, two := ca.CRL(), ca.CRL(tlstest.Number(2))
	for _, tt := range []struct {
		name  string
		data  []byte
		lists int
		says  string
	}{
		{"DER", one, 1, ""},
		{"PEM", tlstest.CRLPEM(one), 1, ""},
		{"several with text", append([]byte("# lists\r\n"), tlstest.CRLPEM(one, two)...), 2, ""},
		{"nothing", nil, 0, "is empty"},
		{"text", []byte("hello"), 0, "no revocation list"},
		{"certificate", ca.PEM(), 0, "it is a certificate"},
		{"request", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{0x30, 0}}), 0, `another kind, "CERTIFICATE REQUEST"`},
		{"key", ca.KeyPEM(), 0, "private key"},
		{"DER certificate", ca.DER, 0, "it is a certificate"},
		{"too much", append(append([]byte{}, one...), 0), 0, "after its end"},
		{"cut short", one[:len(one)-1], 0, "cannot be read"},
		{"too long", make([]byte, termination.MaxCRL+1), 0, "more than 64 MiB"},
	} {
		lists, err := termination.ReadCRLs(tt.data)
		if len(lists) != tt.lists || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %d lists, %v", tt.name, len(lists), err)
		}
	}
}
