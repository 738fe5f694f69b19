package verify

import (
	"crypto/x509"
	"fmt"
	"time"

	"countersign/termination"
)

// grace is the fix that lets in for a while what fails a single check of hygiene; none where that would not be enough.
func (a *account) grace(r termination.Reason) []termination.Fix {
	if r != termination.ReasonCertUse && r != termination.ReasonCertWeak && r != termination.ReasonCertNameLimits || a.policy == nil {
		return nil
	}
	key := a.policy.graced(a.handshake.Presented, a.moment())
	if key == "" {
		return nil
	}
	return []termination.Fix{{
		Text:   fmt.Sprintf("Or, for the time being, let %s only note this (hygiene: %s: warn): then all its clients may come in with such a certificate.", a.at(), key),
		Action: a.endpointPage(), Lowers: true,
	}}
}

// graced judges again with one check of hygiene after another lowered, and returns the one that keeps these out. It
// decides nothing, and nothing of it is kept.
func (p *Policy) graced(presented []*x509.Certificate, at time.Time) string {
	for i, check := range p.hygiene.Checks() {
		if *check.Level != termination.LevelRefuse {
			continue
		}
		other := *p
		*other.hygiene.Checks()[i].Level = termination.LevelWarn
		other.lenient = lowers(other.hygiene)
		if other.holdsAt(presented, at) {
			return check.Key
		}
	}
	return ""
}
