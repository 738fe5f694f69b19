package verify

import (
	"crypto/x509"
	"time"
)

// timedFor is how long a judgement is taken to hold whose expression asks for the time.
const timedFor = 500 * time.Millisecond

// lasts notes between which dates a judgement holds: those of everything that a verified client rests on.
func (j *Judgement) lasts(c Client) {
	if !j.Verified || len(c.Presented) == 0 {
		return
	}
	certificates := j.Path
	if len(certificates) == 0 { // a pin lets the leaf in alone
		certificates = []*x509.Certificate{c.Presented[0]}
	}
	for i, cert := range certificates {
		if i == 0 || cert.NotBefore.After(j.From) {
			j.From = cert.NotBefore
		}
		if i == 0 || cert.NotAfter.Before(j.Until) {
			j.Until = cert.NotAfter
		}
	}
}

// HoldsAt reports whether the judgement can be what it is at another time, as far as dates of certificates go.
func (j Judgement) HoldsAt(now time.Time) bool {
	return (j.From.IsZero() || !now.Before(j.From)) && (j.Until.IsZero() || !now.After(j.Until))
}
