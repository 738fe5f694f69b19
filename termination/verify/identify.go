package verify

import (
	"crypto/x509"
	"fmt"
	"slices"

	"countersign/termination"
)

// Identities finds the identity of a client. It is immutable, and shared by the policies of one configuration.
type Identities struct {
	all     []termination.Identity
	byPin   map[termination.Pin]int
	matches []identityMatch
}

// identityMatch is an identity that goes by names.
type identityMatch struct {
	identity int
	subject  subject
}

// NewIdentities indexes the identities of a configuration.
func NewIdentities(config *termination.Config) *Identities {
	x := &Identities{all: config.Identities, byPin: map[termination.Pin]int{}}
	for i := range x.all {
		for _, pin := range x.all[i].Pins {
			x.byPin[pin] = i
		}
		for _, m := range x.all[i].Matches {
			x.matches = append(x.matches, identityMatch{i, newSubject(m)})
		}
	}
	return x
}

// byLeaf returns the identity whose pin a leaf has, and the pin.
func (x *Identities) byLeaf(leaf *x509.Certificate) (*termination.Identity, termination.Pin) {
	if len(x.byPin) == 0 {
		return nil, termination.Pin{}
	}
	for _, pin := range pinsOf(leaf) {
		if i, ok := x.byPin[pin]; ok {
			return &x.all[i], pin
		}
	}
	return nil, termination.Pin{}
}

// byName returns the identity that goes by names which a verified leaf has under the authority that vouches for it.
func (x *Identities) byName(leaf *x509.Certificate, authority string) *termination.Identity {
	for _, m := range x.matches {
		if m.subject.matches(leaf, authority, "") {
			return &x.all[m.identity]
		}
	}
	return nil
}

// find returns the identity of a client that was verified; nil: it has none.
func (x *Identities) find(j Judgement, leaf *x509.Certificate) *termination.Identity {
	if identity, _ := x.byLeaf(leaf); identity != nil {
		return identity
	}
	if j.Authority == "" {
		return nil // names count only under an authority
	}
	return x.byName(leaf, j.Authority)
}

// trustedAt returns the pins of the identities that name an endpoint, as text.
func (x *Identities) trustedAt(endpoint string) []string {
	var out []string
	for i := range x.all {
		if x.all[i].Knows(endpoint) {
			for _, pin := range x.all[i].Pins {
				out = append(out, pin.String())
			}
		}
	}
	return out
}

// digest covers what identities decide at an endpoint: each by its name, which rules may speak of, what it is known by, and
// whether it may come in there.
func (x *Identities) digest(endpoint string) []string {
	out := make([]string, 0, len(x.all))
	for i := range x.all {
		identity := &x.all[i]
		known := make([]string, 0, len(identity.Pins)+len(identity.Matches))
		for _, pin := range identity.Pins {
			known = append(known, pin.String())
		}
		for _, m := range identity.Matches {
			known = append(known, m.String())
		}
		slices.Sort(known)
		place := "anywhere"
		if len(identity.Endpoints) > 0 {
			place = fmt.Sprint(identity.Knows(endpoint))
		}
		out = append(out, fmt.Sprintf("%q %s %q", identity.Name, place, known))
	}
	return out
}

func pinsOf(leaf *x509.Certificate) [2]termination.Pin {
	return [2]termination.Pin{
		{Fingerprint: termination.FingerprintOf(leaf)},
		{Fingerprint: termination.KeyFingerprintOf(leaf), Key: true},
	}
}
