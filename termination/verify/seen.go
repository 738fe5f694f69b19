package verify

import (
	"crypto/rsa"
	"crypto/x509"
	"net/netip"
	"slices"
	"sync"

	"countersign/termination"
)

// Bounds of what is remembered. Strangers feed it, so none of it may grow with them.
const (
	seenOfEach      = 128      // certificates on each of the two shelves
	seenOfStranger  = 8        // from one address, while nobody who is trusted vouches for them
	seenLargest     = 16 << 10 // bytes; a CA certificate with a post-quantum key takes about 10,000
	seenRSABits     = 4096     // larger keys are met nowhere, and are slow
	seenPrefixOfIP4 = 32
	seenPrefixOfIP6 = 64 // a household has as many addresses as it likes below that
)

// Seen remembers the CA certificates that clients have sent lately, so that a client that forgets one can be told which
// one. They explain, and are never trusted: a chain that goes through one counts only as an explanation, and only if
// every signature in it is right. It is safe for concurrent use; the zero value is empty and ready.
type Seen struct {
	mu      sync.Mutex
	vouched shelf // those below an anchor that is trusted here
	strange shelf // anything else
}

// shelf holds certificates, oldest first. When it is full, whoever put most of them there loses the oldest: so nobody can
// push out what others have brought.
type shelf struct {
	entries []seenEntry
	index   map[string]bool // by DER
}

type seenEntry struct {
	certificate *x509.Certificate
	owner       string
}

// Note remembers what a handshake has shown, unless the gateway made it itself to prove a policy. It costs two look-ups
// where there is nothing new.
func (s *Seen) Note(h *termination.Handshake) {
	if s == nil || h.Proof {
		return
	}
	d := termination.DefaultLimits()
	for i, c := range h.Presented {
		if i >= d.Certificates {
			return
		}
		if between(c) {
			s.put(c, h)
		}
	}
}

// between reports whether c could stand between a client's certificate and an anchor, and costs little to check.
func between(c *x509.Certificate) bool {
	if c == nil || len(c.Raw) == 0 || len(c.Raw) > seenLargest || !c.BasicConstraintsValid || !c.IsCA {
		return false
	}
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > seenRSABits {
		return false
	}
	return string(c.RawSubject) != string(c.RawIssuer)
}

func (s *Seen) put(c *x509.Certificate, h *termination.Handshake) {
	anchor := vouching(c, h.Path)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.vouched.index[string(c.Raw)]:
	case anchor != nil:
		s.strange.remove(c)
		s.vouched.add(c, string(anchor.RawSubjectPublicKeyInfo), seenOfEach)
	case !s.strange.index[string(c.Raw)]:
		s.strange.add(c, sourceOf(h.Peer.Addr()), seenOfStranger)
	}
}

// vouching returns the anchor above c, if c stands between leaf and anchor of a path. The signatures of a path are proven.
func vouching(c *x509.Certificate, path []*x509.Certificate) *x509.Certificate {
	for i := 1; i < len(path)-1; i++ {
		if path[i] != nil && path[i].Equal(c) {
			return path[len(path)-1]
		}
	}
	return nil
}

// sourceOf is the network that one stranger has for itself.
func sourceOf(a netip.Addr) string {
	a = a.Unmap()
	bits := seenPrefixOfIP4
	if a.Is6() {
		bits = seenPrefixOfIP6
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "" // no address at all: they share one place
	}
	return p.String()
}

func (s *shelf) add(c *x509.Certificate, owner string, ofOwner int) {
	counts := map[string]int{}
	for _, e := range s.entries {
		counts[e.owner]++
	}
	if counts[owner] >= ofOwner {
		s.dropOldest(owner)
	} else if len(s.entries) >= seenOfEach {
		most := s.entries[0].owner // in the order of age, so that of two with as many the older one loses
		for _, e := range s.entries {
			if counts[e.owner] > counts[most] {
				most = e.owner
			}
		}
		s.dropOldest(most)
	}
	if s.index == nil {
		s.index = map[string]bool{}
	}
	s.entries = append(s.entries, seenEntry{c, owner})
	s.index[string(c.Raw)] = true
}

func (s *shelf) dropOldest(owner string) {
	if i := slices.IndexFunc(s.entries, func(e seenEntry) bool { return e.owner == owner }); i >= 0 {
		s.removeAt(i)
	}
}

func (s *shelf) remove(c *x509.Certificate) {
	if i := slices.IndexFunc(s.entries, func(e seenEntry) bool { return e.certificate.Equal(c) }); i >= 0 {
		s.removeAt(i)
	}
}

func (s *shelf) removeAt(i int) {
	delete(s.index, string(s.entries[i].certificate.Raw))
	s.entries = slices.Delete(s.entries, i, i+1)
}

// certificates returns what is remembered, what is vouched for first. It is empty for a nil Seen.
func (s *Seen) certificates() []*x509.Certificate {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*x509.Certificate
	for _, list := range [...][]seenEntry{s.vouched.entries, s.strange.entries} {
		for _, e := range list {
			out = append(out, e.certificate)
		}
	}
	return out
}
