package views

import (
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"

	"countersign/termination"
	"countersign/termination/wire"
	"countersign/views/format"
)

// passedExample is the record of a handshake that passed through.
func passedExample(change func(*termination.Handshake)) *termination.Handshake {
	h := &termination.Handshake{
		ID: "hs_1", Time: frozen(), Endpoint: "vault", EndpointID: "ep_1", Scheme: termination.SchemeTLS, TerminateAt: termination.AtUpstream,
		Stages: termination.Stages{Hello: time.Millisecond, Reply: 2 * time.Millisecond, Wait: time.Millisecond, Check: -1},
		Hello:  &termination.ClientHello{ServerName: "vault.example.com", ALPN: []string{"h2"}, Versions: []uint16{wire.VersionTLS13}},
		Chosen: &termination.Negotiated{Version: wire.VersionTLS13, CipherSuite: 0x1301, Group: 4588, PostQuantum: true},
		Passed: &termination.Passed{SealedFrom: termination.SealedFromServerHello, ClientWentOn: true},
		Verdict: termination.Verdict{
			Outcome: termination.OutcomePassed, Beat: termination.BeatHello,
			Explanation: termination.Explanation{Sentence: "A client was passed on to the service behind vault, sealed."},
		},
	}
	if change != nil {
		change(h)
	}
	return h
}

// openPassed makes it one of TLS 1.2, in which the certificate of the service was seen.
func openPassed(h *termination.Handshake) {
	h.Chosen = &termination.Negotiated{Version: wire.VersionTLS12, CipherSuite: 0xc02f, Group: 29, ALPN: "h2"}
	h.Passed = &termination.Passed{
		SealedFrom: termination.SealedFromFinished, AsksForCertificate: true, ClientWentOn: true,
		Service: []termination.SeenCertificate{{Subject: hostile, Issuer: hostile, Names: []string{hostile, "vault.example.com"}, NotBefore: frozen(), NotAfter: frozen().AddDate(1, 0, 0)}},
	}
}

func drawer(h *termination.Handshake) templ.Component {
	v, err := HandshakeOf(format.Clock{Now: frozen(), Zone: time.UTC}, h, nil)
	if err != nil {
		panic(err)
	}
	v.CSRF, v.Marked = "csrf-token", termination.MarkSquare
	return HandshakeDrawer(v)
}

func sealedPages() map[string]templ.Component {
	return map[string]templ.Component{
		"sealed":          whatCanBeSeen(SealedPart{Names: []string{"vault.example.com", "*.vault.example.com"}}),
		"sealed-key":      whatCanBeSeen(SealedPart{Names: []string{"vault.example.com"}, Keys: []string{"old vault"}}),
		"sealed-fallback": whatCanBeSeen(SealedPart{}),
		"passed":          drawer(passedExample(nil)),
		"passed-open":     drawer(passedExample(openPassed)),
		"passed-refused": drawer(passedExample(func(h *termination.Handshake) {
			openPassed(h)
			h.Alert = &termination.Alert{Number: 42, Name: "bad_certificate", Plaintext: true, Service: true}
		})),
	}
}

// What is sealed is shown as sealed, never as missing.
func TestSealedIsNotMissing(t *testing.T) {
	facts := map[string]string{}
	h := passedExample(nil)
	for _, f := range append(passingFacts(format.Clock{Now: frozen(), Zone: time.UTC}, h), chosenFacts(h)...) {
		facts[f.Name] = f.Value
	}
	for _, name := range []string{"Service's certificate", "Client's certificate", "ALPN", "All that follows"} {
		if !strings.HasPrefix(facts[name], "sealed") {
			t.Errorf("%s: %q", name, facts[name])
		}
	}
	if passingFacts(format.Clock{}, &termination.Handshake{}) != nil {
		t.Error("a handshake that ended here has something sealed")
	}
	if got := AlertWords(&termination.Alert{Number: 40, Name: "handshake_failure", Service: true, Plaintext: true}); got != "the service sent alert 40 handshake_failure (in plaintext)" {
		t.Error(got)
	}
	if got := stagesOf(h); len(got) != 3 || got[2].Name != "Client's answer" || !got[2].Ran {
		t.Errorf("stages %+v", got)
	}
}
