package verify_test

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// showing is a handshake from an address that showed these.
func showing(address string, certs ...*tlstest.Cert) *termination.Handshake {
	h := &termination.Handshake{Peer: netip.AddrPortFrom(netip.MustParseAddr(address), 50123)}
	for _, c := range certs {
		h.Presented = append(h.Presented, c.X509)
	}
	return h
}

// remembers reports whether a client below issuer, which it does not send, is told that another client has sent it.
func remembers(t *testing.T, w *world, seen *verify.Seen, issuer *tlstest.Cert) bool {
	t.Helper()
	h := w.judged(t, "payments", client(issuer).X509)
	if h.Verdict.Outcome != termination.OutcomeRefused {
		t.Fatal("let in by a certificate that was only seen")
	}
	verify.NewSearch(w.cfg).WithSeen(seen).Explain(h, noon)
	if h.Verdict.Outcome != termination.OutcomeRefused {
		t.Fatal("an explanation has changed the outcome")
	}
	return strings.Contains(h.Verdict.Explanation.Sentence, "another client has sent it lately")
}

// A stranger with one address, or with all addresses of its network, pushes out nothing that others have sent.
func TestNobodyPushesOutWhatOthersHaveSent(t *testing.T) {
	w := newWorld(t)
	vouched, other := intermediate(w.root, "Acme Dock CA", "Acme"), intermediate(w.root, "Acme Gate CA", "Acme")
	seen := &verify.Seen{}
	h := showing("203.0.113.1", client(vouched), vouched)
	h.Path = append(client(vouched).Chain(), w.root.X509)
	seen.Note(h)
	seen.Note(showing("203.0.113.2", other)) // its client was refused for something else
	key := keyOf("flood")
	for i := range 400 {
		flood := w.stranger.Intermediate(tlstest.CN(fmt.Sprint("flood ", i)), key, years)
		seen.Note(showing("198.51.100.1", flood))
		seen.Note(showing(fmt.Sprintf("2001:db8::%x", i+1), w.stranger.Intermediate(tlstest.CN(fmt.Sprint("flood six ", i)), key, years)))
	}
	if !remembers(t, w, seen, vouched) || !remembers(t, w, seen, other) {
		t.Error("a stranger has pushed out what others have sent")
	}
	for i := range 200 { // even with many addresses it reaches only what nobody vouches for
		seen.Note(showing(fmt.Sprintf("198.51.%d.%d", i/100, i%100), w.stranger.Intermediate(tlstest.CN(fmt.Sprint("bots ", i)), key, years)))
	}
	if !remembers(t, w, seen, vouched) {
		t.Error("strangers have pushed out what stands below a trusted CA")
	}
	if n := verify.SeenCount(seen); n > 256 {
		t.Errorf("%d certificates are remembered", n)
	}
}

func TestOnlyWhatCanStandInBetweenIsRemembered(t *testing.T) {
	w := newWorld(t)
	seen := &verify.Seen{}
	big := make([]byte, 20<<10)
	for _, c := range []*tlstest.Cert{
		client(w.issuing), w.root, w.stranger, intermediate(w.root, "no CA", "Acme", tlstest.CAFalse()),
		intermediate(w.root, "huge", "Acme", tlstest.Extension([]int{1, 2, 3, 4}, false, big)),
	} {
		seen.Note(showing("203.0.113.1", c))
	}
	seen.Note(&termination.Handshake{Presented: []*x509.Certificate{nil, {}}})
	if n := verify.SeenCount(seen); n != 0 {
		t.Errorf("%d certificates are remembered", n)
	}
	for range 3 {
		seen.Note(showing("203.0.113.1", w.issuing))
		seen.Note(showing("203.0.113.2", w.issuing))
	}
	if n := verify.SeenCount(seen); n != 1 {
		t.Errorf("one certificate is remembered %d times", n)
	}
	proof := showing("203.0.113.3", w.labIssuing)
	proof.Proof = true
	seen.Note(proof)
	if n := verify.SeenCount(seen); n != 1 {
		t.Errorf("what the gateway shows to itself is remembered: %d", n)
	}
	var none *verify.Seen
	none.Note(showing("203.0.113.1", w.issuing))
}

// Connections note and explanations read at the same time; the race detector watches.
func TestSeenFromManySides(t *testing.T) {
	w := newWorld(t)
	seen := &verify.Seen{}
	search := verify.NewSearch(w.cfg).WithSeen(seen)
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			for j := range 20 {
				seen.Note(showing(fmt.Sprintf("203.0.113.%d", i), w.stranger.Intermediate(tlstest.CN(fmt.Sprint(i, " ", j)), keyOf("many"), years)))
				search.Explain(w.judged(t, "payments", client(w.lately).X509), noon)
			}
		})
	}
	wait.Wait()
}

// An agent reports checks, and may report them without the certificates that they speak of.
func TestChecksWithoutCertificates(t *testing.T) {
	w := newWorld(t)
	for _, r := range []termination.Reason{
		termination.ReasonCertUse, termination.ReasonCertWeak, termination.ReasonCertNameLimits, termination.ReasonCertExpired,
		termination.ReasonCertEarly, termination.ReasonCAExpired, termination.ReasonChainGap, termination.ReasonKeyProof,
	} {
		for _, presented := range [][]*x509.Certificate{nil, {nil}, {nil, w.root.X509}, {{}}} {
			h := w.handshake("payments", termination.OutcomeRefused, r)
			h.Presented = presented
			for range 2 {
				h.Verdict.Checks = append(h.Verdict.Checks, termination.Check{Reason: r, Certificate: -1, Fingerprint: termination.FingerprintOf(w.root.X509), Detail: "It is wrong."})
			}
			w.search.Explain(h, noon)
			if h.Verdict.Explanation.Sentence == "" {
				t.Errorf("%s: no sentence", r)
			}
		}
	}
}

// What was made with this gateway begins in the future: it is the clock here that is wrong.
func TestAClockThatIsBehindIsFound(t *testing.T) {
	w := newWorld(t)
	h := w.judged(t, "payments", client(w.issuing, tlstest.Valid(noon.Add(2*day), noon.Add(30*day))).Chain()...)
	issued := w.public.Server("payments.example.com", tlstest.Valid(noon.Add(3*day), noon.Add(90*day)))
	w.cfg.Certificates = append(w.cfg.Certificates, termination.Certificate{Name: "payments", Chain: []*x509.Certificate{issued.X509}, Key: issued.Key})
	verify.NewSearch(w.cfg).Explain(h, noon)
	first := h.Verdict.Explanation.Fixes[0].Text
	if !strings.Contains(first, "It is probably this one that is wrong: the server certificate payments begins only in 3 days.") {
		t.Error(first)
	}
	if !strings.Contains(h.Verdict.Explanation.Fixes[0].Command, "date") {
		t.Errorf("command %q", h.Verdict.Explanation.Fixes[0].Command)
	}
	w.cfg.Certificates[len(w.cfg.Certificates)-1].Chain[0] = w.public.Server("payments.example.com", tlstest.Valid(noon.Add(time.Minute), noon.Add(90*day))).X509
	verify.NewSearch(w.cfg).Explain(h, noon)
	if first := h.Verdict.Explanation.Fixes[0].Text; strings.Contains(first, "probably this one that is wrong") {
		t.Error("a minute of difference between two clocks is taken for a wrong one: ", first)
	}
}

func TestPublicCA(t *testing.T) {
	w := newWorld(t)
	if termination.SaysPublicCA(client(w.issuing).X509) || !termination.SaysPublicCA(client(w.issuing, domainValidated()).X509) {
		t.Error("a public CA is told by the policy of the CA/Browser Forum")
	}
	serverOnly := client(w.issuing, domainValidated(), tlstest.EKU(x509.ExtKeyUsageServerAuth))
	for _, c := range w.judged(t, "payments", serverOnly.Chain()...).Verdict.Checks {
		if c.Note && strings.Contains(c.Detail, "public CA") {
			t.Errorf("what is refused today is warned of tomorrow's refusal: %s", c.Detail)
		}
	}
}
