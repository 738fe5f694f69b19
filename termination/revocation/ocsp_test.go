package revocation_test

import (
	"context"
	"crypto/x509"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/tlstest"
)

// asked looks once, asks what is to be asked, and looks again, as a handshake does.
func asked(r *revocation.Registry, c *tlstest.Cert) revocation.Finding {
	f := check(r, c)
	ctx, cancel := context.WithTimeout(context.Background(), revocation.AskTime)
	defer cancel()
	if r.Ask(ctx, f.Ask) {
		f = check(r, c)
	}
	return f
}

func TestResponder(t *testing.T) {
	ca := tlstest.NewCA(tlstest.CN("Devices CA"))
	alice := ca.Client("alice")
	delegate := ca.Leaf(tlstest.EKU(x509.ExtKeyUsageOCSPSigning))
	colleague := ca.Client("colleague")
	stranger := tlstest.NewCA()
	now := time.Now()
	revoked := func(r *ocsp.Response) {
		r.Status, r.RevokedAt, r.RevocationReason = ocsp.Revoked, now.Add(-time.Hour), ocsp.KeyCompromise
	}
	for _, tt := range []struct {
		name   string
		answer []byte
		state  string // good, revoked or unknown
	}{
		{"good", tlstest.OCSPAnswer(alice, ca, ca, nil), "good"},
		{"good by a delegate", tlstest.OCSPAnswer(alice, ca, delegate, nil), "good"},
		{"revoked", tlstest.OCSPAnswer(alice, ca, ca, revoked), "revoked"},
		{"good by another client", tlstest.OCSPAnswer(alice, ca, colleague, nil), "unknown"},
		{"good by an ended delegate", tlstest.OCSPAnswer(alice, ca, ca.Leaf(tlstest.EKU(x509.ExtKeyUsageOCSPSigning), tlstest.Expired()), nil), "unknown"},
		{"good by a stranger", tlstest.OCSPAnswer(alice, stranger, stranger, nil), "unknown"},
		{"good by a stranger's delegate", tlstest.OCSPAnswer(alice, ca, stranger.Leaf(tlstest.EKU(x509.ExtKeyUsageOCSPSigning)), nil), "unknown"},
		{"of another certificate", tlstest.OCSPAnswer(colleague, ca, ca, nil), "unknown"},
		{"not known there", tlstest.OCSPAnswer(alice, ca, ca, func(r *ocsp.Response) { r.Status = ocsp.Unknown }), "unknown"},
		{"ended", tlstest.OCSPAnswer(alice, ca, ca, func(r *ocsp.Response) {
			r.ThisUpdate, r.NextUpdate = now.Add(-2*time.Hour), now.Add(-time.Hour)
		}), "unknown"},
		{"from the future", tlstest.OCSPAnswer(alice, ca, ca, func(r *ocsp.Response) {
			r.ThisUpdate, r.NextUpdate = now.Add(time.Hour), now.Add(2*time.Hour)
		}), "unknown"},
		{"a page", []byte("<html>"), "unknown"},
		{"huge", make([]byte, 1<<20), "unknown"},
		{"an error", nil, "unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			responder := tlstest.NewResponder(t, func(*big.Int) []byte { return tt.answer })
			for _, mode := range []termination.RevocationMode{termination.RevocationHard, termination.RevocationSoft} {
				r := registry(t, revocation.Options{})
				r.Apply(devices(termination.Revocation{Mode: mode, OCSPURL: responder.URL}, ca))
				f := asked(r, alice)
				unknown := tt.state == "unknown"
				if (f.Revoked != nil) != (tt.state == "revoked") || (f.Unknown != nil) != (unknown && mode == termination.RevocationHard) || (f.Silent != "") != (unknown && mode == termination.RevocationSoft) {
					t.Errorf("%s: %+v", mode, f)
				}
				if f.Revoked != nil && !strings.Contains(f.Detail, "its key was compromised") {
					t.Errorf("detail %q", f.Detail)
				}
				before := responder.Asked.Load()
				asked(r, alice)
				if responder.Asked.Load() != before {
					t.Errorf("%s: asked again at once", mode)
				}
			}
			// What a client sends along counts alike, but for nothing worse than nothing.
			r := registry(t, revocation.Options{})
			r.Apply(devices(termination.Revocation{Mode: termination.RevocationHard, CRLURLs: []string{"http://127.0.0.1:1/"}}, ca))
			f := r.Snapshot().Check([]string{"devices"}, path(alice), tt.answer, now)
			if (f.Revoked != nil) != (tt.state == "revoked") || (f.Unknown != nil) != (tt.state == "unknown") {
				t.Errorf("stapled: %+v", f)
			}
		})
	}
}

// A handshake waits for a slow responder no longer than it must, all who want to know the same ask once, and later ones have
// the answer.
func TestSlowResponder(t *testing.T) {
	ca := tlstest.NewCA()
	alice := ca.Client("alice")
	responder := tlstest.NewResponder(t, func(*big.Int) []byte { return tlstest.OCSPAnswer(alice, ca, ca, nil) })
	responder.Delay(300 * time.Millisecond)
	r := registry(t, revocation.Options{})
	r.Apply(devices(termination.Revocation{Mode: termination.RevocationHard, OCSPURL: responder.URL}, ca))
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if f := check(r, alice); r.Ask(ctx, f.Ask) {
		t.Error("it was known before it was said")
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if f := asked(r, alice); f.Unknown != nil {
				t.Errorf("%+v", f)
			}
		})
	}
	all.Wait()
	if n := responder.Asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// A responder that is away holds up one handshake, not each.
func TestResponderIsAway(t *testing.T) {
	ca := tlstest.NewCA()
	r := registry(t, revocation.Options{})
	r.Apply(devices(termination.Revocation{OCSPURL: "http://127.0.0.1:1/"}, ca))
	if f := asked(r, ca.Client("alice")); f.Revoked != nil || f.Unknown != nil || !strings.Contains(f.Silent, "no fresh answer") {
		t.Errorf("%+v", f)
	}
	f := check(r, ca.Client("bob"))
	if len(f.Ask) != 1 || r.Ask(context.Background(), f.Ask) {
		t.Errorf("it is asked again at once: %+v", f)
	}
	if !r.Status()[0].Silent {
		t.Error("the status does not say so")
	}
}

// An answer that was good yesterday does not take the place of a newer one, whoever sends it.
func TestOldAnswerReplacesNothing(t *testing.T) {
	ca := tlstest.NewCA()
	alice := ca.Client("alice")
	now := time.Now()
	old := tlstest.OCSPAnswer(alice, ca, ca, func(r *ocsp.Response) { r.ThisUpdate = now.Add(-time.Hour) })
	responder := tlstest.NewResponder(t, func(*big.Int) []byte {
		return tlstest.OCSPAnswer(alice, ca, ca, func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, now })
	})
	told := make(chan struct{}, 10)
	r := registry(t, revocation.Options{Changed: func() { told <- struct{}{} }})
	r.Apply(devices(termination.Revocation{OCSPURL: responder.URL}, ca))
	<-told
	if f := r.Snapshot().Check([]string{"devices"}, path(alice), old, now); f.Revoked != nil || f.Silent != "" {
		t.Fatalf("with the staple alone: %+v", f)
	}
	r2 := registry(t, revocation.Options{Changed: func() { told <- struct{}{} }})
	r2.Apply(devices(termination.Revocation{OCSPURL: responder.URL}, ca))
	<-told
	if f := asked(r2, alice); f.Revoked == nil {
		t.Fatalf("%+v", f)
	}
	select {
	case <-told: // who is connected has to go
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was told")
	}
	if f := r2.Snapshot().Check([]string{"devices"}, path(alice), old, now); f.Revoked == nil {
		t.Errorf("an old staple made a revoked certificate good: %+v", f)
	}
}
