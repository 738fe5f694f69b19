package verify

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"countersign/termination"
)

// Identities finds the identity of a client. It is immutable, and shared by the policies of one configuration, so that
// ten thousand identities are indexed once and looked up by what a certificate says.
type Identities struct {
	all    []termination.Identity
	byPin  map[termination.Pin]int
	byText map[matchKey][]identityMatch
	// loose are matches that no exact text begins: only those of one authority are compared one by one.
	loose map[string][]identityMatch
	at    map[string]*place // by endpoint
	byID  map[string]int
	key   string
}

// identityMatch is an identity that goes by names.
type identityMatch struct {
	identity int
	subject  subject
}

// matchKey is one text of a certificate under the authority that vouches for it.
type matchKey struct{ authority, field, text string }

// place is what the identities that name an endpoint are known by there.
type place struct {
	pins  []string
	known []string // pins and matches

	awaited bool // one of them goes by pins
}

// NewIdentities indexes the identities of a configuration.
func NewIdentities(config *termination.Config) *Identities {
	x := &Identities{
		all: config.Identities, byPin: map[termination.Pin]int{}, byText: map[matchKey][]identityMatch{},
		loose: map[string][]identityMatch{}, at: map[string]*place{}, byID: map[string]int{},
	}
	h := sha256.New()
	for i := range x.all {
		identity := &x.all[i]
		x.byID[identity.ID] = i
		known, pins := knownBy(identity)
		for _, pin := range identity.Pins {
			x.byPin[pin] = i
		}
		for _, m := range identity.Matches {
			x.addMatch(i, m)
		}
		for _, name := range identity.Endpoints {
			p := x.at[name]
			if p == nil {
				p = &place{}
				x.at[name] = p
			}
			p.pins = append(p.pins, pins...)
			p.known = append(p.known, known...)
			p.awaited = p.awaited || identity.ByPin()
		}
		writeText(h, identity.Name)
		writeText(h, identity.ID)
		writeSet(h, known)
		writeSet(h, slices.Clone(identity.Endpoints))
	}
	// Of several that match alike the one whose name comes first is meant, in whatever order they are listed.
	byName := func(a, b identityMatch) int { return cmp.Compare(x.all[a.identity].Name, x.all[b.identity].Name) }
	for _, list := range x.byText {
		slices.SortStableFunc(list, byName)
	}
	for _, list := range x.loose {
		slices.SortStableFunc(list, byName)
	}
	x.key = hex.EncodeToString(h.Sum(nil))
	return x
}

// knownBy lists what an identity is known by, as text, and its pins alone.
func knownBy(identity *termination.Identity) (known, pins []string) {
	for _, pin := range identity.Pins {
		pins = append(pins, pin.String())
	}
	known = slices.Clone(pins)
	for _, m := range identity.Matches {
		known = append(known, m.String())
	}
	return known, pins
}

// addMatch files a match under the first of its texts that a certificate must have exactly, as two of its kind are compared.
func (x *Identities) addMatch(i int, m termination.Subject) {
	match := identityMatch{i, newSubject(m, false)}
	for _, t := range [...]struct{ field, text string }{
		{"uri", match.subject.uri},
		{"dns", match.subject.dns},
		{"email", match.subject.email},
		{"cn", m.CN},
		{"serial", match.subject.Serial},
	} {
		if t.text != "" && !strings.Contains(t.text, "*") {
			key := matchKey{m.Authority, t.field, t.text}
			x.byText[key] = append(x.byText[key], match)
			return
		}
	}
	x.loose[m.Authority] = append(x.loose[m.Authority], match)
}

// texts calls f for each text of a leaf under which addMatch may have filed something.
func texts(c *claims, f func(field, text string)) {
	for _, u := range c.readURIs() {
		f("uri", foldURI(u))
	}
	for _, n := range c.leaf.DNSNames {
		f("dns", foldDNS(n))
	}
	for _, n := range c.leaf.EmailAddresses {
		f("email", foldEmail(n))
	}
	c.readNames()
	for _, n := range c.subject.Values(commonNameID()) {
		f("cn", n)
	}
	f("serial", termination.SerialOf(c.leaf))
}

// ByID returns the identity with that ID, or nil.
func (x *Identities) ByID(id string) *termination.Identity {
	if i, ok := x.byID[id]; ok && id != "" {
		return &x.all[i]
	}
	return nil
}

// byLeaf returns the identity whose pin a leaf has, and the pin. That of the certificate goes before that of its key.
func (x *Identities) byLeaf(leaf *x509.Certificate) (*termination.Identity, termination.Pin) {
	if x == nil || len(x.byPin) == 0 || leaf == nil || len(leaf.Raw) == 0 {
		return nil, termination.Pin{}
	}
	for _, pin := range pinsOf(leaf) {
		if i, ok := x.byPin[pin]; ok {
			return &x.all[i], pin
		}
	}
	return nil, termination.Pin{}
}

// byName returns the identity that goes by names which a verified leaf has under an authority that vouches for it. An exact
// text goes before one with a "*".
func (x *Identities) byName(c *claims) *termination.Identity {
	found := -1
	for _, authority := range c.authorities {
		if len(x.byText) == 0 {
			break
		}
		texts(c, func(field, text string) {
			list := x.byText[matchKey{authority, field, text}]
			for i := range list {
				if !list[i].subject.matches(c) {
					continue
				}
				if found < 0 || x.all[list[i].identity].Name < x.all[found].Name {
					found = list[i].identity
				}
				break
			}
		})
	}
	if found >= 0 {
		return &x.all[found]
	}
	for _, authority := range c.authorities {
		list := x.loose[authority]
		for i := range list {
			if list[i].subject.matches(c) {
				return &x.all[list[i].identity]
			}
		}
	}
	return nil
}

// find returns the identity that a client is known by, verified or not; nil: none. A pin is enough by itself; names count
// only under an authority that vouches for a verified client, which are those of the claims.
func (x *Identities) find(c *claims) *termination.Identity {
	if identity, _ := x.byLeaf(c.leaf); identity != nil {
		return identity
	}
	if x == nil || len(c.authorities) == 0 {
		return nil
	}
	return x.byName(c)
}

// trustedAt returns the pins of the identities that name an endpoint, as text.
func (x *Identities) trustedAt(endpoint string) []string {
	if p := x.at[endpoint]; p != nil {
		return p.pins
	}
	return nil
}

// awaitedAt reports whether an identity lets clients into an endpoint by itself, now or once it has a certificate.
func (x *Identities) awaitedAt(endpoint string) bool {
	p := x.at[endpoint]
	return p != nil && p.awaited
}

// digest covers whom the identities let in at an endpoint: what those that name it are known by, and those that rules
// speak of. Who is elsewhere is left out, since it only ever refuses and every session is judged again when it is resumed:
// so that an identity of another endpoint costs nobody here the tickets. See Key.
func (x *Identities) digest(endpoint string, spokenOf map[string]bool) []string {
	var out []string
	if p := x.at[endpoint]; p != nil {
		out = append(out, p.known...)
	}
	if len(spokenOf) == 0 {
		return out
	}
	for i := range x.all {
		if spokenOf[x.all[i].Name] {
			known, _ := knownBy(&x.all[i])
			slices.Sort(known)
			out = append(out, fmt.Sprintf("%q is %q", x.all[i].Name, known))
		}
	}
	return out
}

// elsewhere reports whether an identity may not come in at an endpoint, because it names others.
func elsewhere(identity *termination.Identity, endpoint string) bool {
	return identity != nil && len(identity.Endpoints) > 0 && !identity.Knows(endpoint)
}

func pinsOf(leaf *x509.Certificate) [2]termination.Pin {
	return [2]termination.Pin{
		{Fingerprint: termination.FingerprintOf(leaf)},
		{Fingerprint: termination.KeyFingerprintOf(leaf), Key: true},
	}
}
