package revocation

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"

	"countersign/termination"
)

// Finding is what is known about the certificates of a chain.
type Finding struct {
	Revoked *x509.Certificate // the one that was taken back; nil: none is known to be
	// Unknown is one on which there is no fresh answer although the mode is hard; nil: all is known that has to be.
	Unknown *x509.Certificate
	Detail  string // who says what, or what is missing, as a sentence
	Ask     []Question
	// Silent says, in a sentence, that nobody could be asked about a certificate; empty: somebody was, or Unknown says so.
	Silent string
}

// Check looks up a chain that leads from a leaf to an anchor of one of these authorities, all of which vouch for it. staple
// is an answer about the leaf that the client has sent; nil: none. It waits for nothing: what a responder would still have
// to be asked is in Ask.
func (s *Snapshot) Check(authorities []string, path []*x509.Certificate, staple []byte, now time.Time) Finding {
	var out Finding
	for _, name := range authorities {
		a := s.authorities[name]
		if a == nil {
			continue
		}
		for i := range len(path) - 1 {
			q := query{cert: path[i], issuer: path[i+1], now: now}
			if i == 0 {
				q.staple = staple
			}
			s.look(&out, a, q)
			if out.Revoked != nil {
				return Finding{Revoked: out.Revoked, Detail: out.Detail}
			}
		}
	}
	return out
}

// query is one certificate of a chain with its issuer.
type query struct {
	cert, issuer *x509.Certificate
	staple       []byte
	now          time.Time
}

// look looks up one certificate under one authority.
func (s *Snapshot) look(out *Finding, a *authority, q query) {
	if detail := a.takenBack(q.cert); detail != "" {
		out.Revoked, out.Detail = q.cert, detail
		return
	}
	known, why := a.listed(out, q)
	if out.Revoked != nil {
		return
	}
	if len(q.staple) > 0 || a.responder != "" {
		known = s.answered(out, a, q, known) || known
	}
	if out.Revoked != nil || known {
		return
	}
	if a.responder != "" {
		why += " The OCSP responder has given no fresh answer."
	}
	switch {
	case a.mode == termination.RevocationHard && out.Unknown == nil:
		out.Unknown, out.Detail, out.Silent = q.cert, why, ""
	case a.outside && out.Silent == "" && out.Unknown == nil:
		out.Silent = why
	}
}

// takenBack says when the local CA has taken a certificate back, or nothing.
func (k *authority) takenBack(c *x509.Certificate) string {
	if len(k.own) == 0 {
		return ""
	}
	for _, e := range k.own[termination.SerialOf(c)] {
		if e.issuers[string(c.RawIssuer)] {
			s := fmt.Sprintf("The local CA %s took it back on %s", k.name, date(e.entry.Time))
			if e.entry.Reason != "" {
				s += ": " + visible(e.entry.Reason, maxDisplay)
			}
			return s + "."
		}
	}
	return ""
}

// listed looks into the lists of the issuer. Known says that a fresh one clears the certificate; else why says what is
// missing. A list that has ended still counts for what it names: no certificate comes back.
func (k *authority) listed(out *Finding, q query) (known bool, why string) {
	var found *issuer
	for _, i := range k.issuers[string(q.issuer.RawSubject)] {
		if bytes.Equal(i.key, q.issuer.RawSubjectPublicKeyInfo) {
			found = i
			break
		}
	}
	if found == nil || len(found.lists) == 0 {
		return false, "There is no CRL for the issuer " + display(q.issuer.Subject) + "."
	}
	why = "No CRL of " + found.name + " is for this certificate."
	for _, l := range found.lists {
		if e, revoked := l.entries.find(q.cert.SerialNumber); revoked {
			out.Revoked, out.Detail = q.cert, l.says(e)
			return false, ""
		}
		switch {
		case !l.Covers(q.cert):
		case !q.now.After(l.FreshUntil()):
			known = true
		default:
			why = fmt.Sprintf("The %s from %s ended on %s.", l.named(), visible(l.source, maxDisplay), date(l.FreshUntil()))
		}
	}
	return known, why
}

// says is what a list says of a certificate that it names.
func (l *inForce) says(e entry) string {
	s := "It was revoked on " + date(e.time)
	if reason := termination.RevocationReason(e.reason); reason != "" {
		s += " (" + reason + ")"
	}
	return fmt.Sprintf("%s, says the %s from %s.", s, l.named(), visible(l.source, maxDisplay))
}

func date(t time.Time) string { return t.UTC().Format("2 January 2006 15:04 UTC") }
