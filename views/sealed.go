package views

import (
	"strings"

	"countersign/termination"
	"countersign/termination/wire"
	"countersign/views/format"
	"countersign/views/parts"
)

// SealedPart says of an endpoint whose TLS ends in the service what can be known here, and what cannot.
type SealedPart struct {
	Names []string // that it answers to; none for a fallback
	Keys  []string // certificates with keys that are kept here and cover one of them
}

// sealedRow is one thing, and whether it can be seen in each version; empty words mean that it is sealed.
type sealedRow struct{ What, In12, In13 string }

func sealedRows() []sealedRow {
	return []sealedRow{
		{"Server name, and all else that the client offers", "seen", "seen"},
		{"Version, suite and key exchange that were chosen", "seen", "seen"},
		{"The service's certificate", "seen", ""},
		{"The client's certificate", "seen", ""},
		{"Protocol inside (ALPN) that was chosen", "seen", ""},
		{"Why a side gave up (alert)", "seen", "OpenSSL clients only"},
		{"What is sent inside", "", ""},
		{"How much and when", "seen", "seen"},
	}
}

// passingFacts tell what was seen of a handshake that passed through, and what was sealed. Nothing in them is proven.
func passingFacts(clock format.Clock, h *termination.Handshake) []parts.Fact {
	p := h.Passed
	if p == nil {
		return nil
	}
	sealed := p.SealedFrom == termination.SealedFromServerHello
	facts := []parts.Fact{serviceFact(clock, h), clientFact(h)}
	if h.Chosen != nil {
		went := parts.Fact{Name: "The client then", Value: "did not go on"}
		switch {
		case p.ProbablyRefused:
			went.Value, went.Note, went.Tone = "sent something as short as an alert", "sealed", parts.Sealed
		case p.ClientWentOn:
			went.Value = "went on"
		}
		facts = append(facts, went)
	}
	if sealed || h.Verdict.Outcome == termination.OutcomePassed {
		facts = append(facts, parts.Fact{Name: "All that follows", Value: "sealed for us", Note: "no key for this name is used here", Tone: parts.Sealed})
	}
	return facts
}

func serviceFact(clock format.Clock, h *termination.Handshake) parts.Fact {
	f := parts.Fact{Name: "Service's certificate"}
	switch p := h.Passed; {
	case len(p.Service) > 0:
		c := p.Service[0]
		f.Value = c.Subject + ", issued by " + c.Issuer + ", until " + clock.Date(c.NotAfter)
		if len(c.Names) > 0 {
			f.Value += ", for " + strings.Join(c.Names, " ")
		}
		f.Note = format.ShortFingerprint(c.Fingerprint)
	case p.SealedFrom == termination.SealedFromServerHello:
		f.Value, f.Note, f.Tone = "sealed", "TLS 1.3 encrypts it", parts.Sealed
	case h.Chosen != nil && h.Chosen.Resumed:
		f.Value = "none: the session was resumed"
	default:
		f.Value = "none was sent"
	}
	return f
}

func clientFact(h *termination.Handshake) parts.Fact {
	f := parts.Fact{Name: "Client's certificate"}
	switch p := h.Passed; {
	case len(h.Presented) > 0:
		f.Value, f.Note = "seen in passing", "whether it is accepted, the service decides"
	case p.SealedFrom == termination.SealedFromServerHello:
		f.Value, f.Note, f.Tone = "sealed", "whether one is asked for, too", parts.Sealed
	case p.AsksForCertificate:
		f.Value = "asked for, none was sent"
	default:
		f.Value = "not asked for"
	}
	return f
}

// chosenALPN is the protocol that was agreed upon; in TLS 1.3 that is sealed for whoever looks on.
func chosenALPN(h *termination.Handshake) parts.Fact {
	if h.Passed != nil && h.Chosen.Version >= wire.VersionTLS13 {
		return parts.Fact{Name: "ALPN", Value: "sealed", Note: "TLS 1.3 encrypts it", Tone: parts.Sealed}
	}
	return parts.Fact{Name: "ALPN", Value: orNone(h.Chosen.ALPN)}
}

// chosenSession says whether an earlier session was taken up.
func chosenSession(h *termination.Handshake) parts.Fact {
	resumed := "resumed, and judged again"
	if h.Passed != nil {
		resumed = "resumed"
	}
	return parts.Fact{Name: "Session", Value: yes(h.Chosen.Resumed, resumed, "new")}
}
