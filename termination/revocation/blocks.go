package revocation

import (
	"crypto/x509"
	"slices"
	"strings"

	"countersign/termination"
)

// blocks are the certificates that an operator has blocked by hand.
type blocks struct {
	pins    map[termination.Pin]*termination.Block
	serials map[string][]serialBlock // by serial number

	identities map[string]bool // keys of those that are blocked
	key        string          // the same for the same blocks
}

// serialBlock blocks a serial number of the CAs of one authority.
type serialBlock struct {
	block   *termination.Block
	issuers map[string]bool // RawSubject of its CA certificates
}

func newBlocks(config *termination.Config) *blocks {
	b := &blocks{pins: map[termination.Pin]*termination.Block{}, serials: map[string][]serialBlock{}, identities: map[string]bool{}}
	var keys []string
	authorities := authorityIssuers{}
	for i := range config.Identities {
		if identity := &config.Identities[i]; identity.Blocked {
			b.identities[identityKey(identity)] = true
			keys = append(keys, "identity\x00"+identityKey(identity))
		}
	}
	for i := range config.Blocked {
		block := &config.Blocked[i]
		key := block.String() + "\x00" + block.Why
		if block.Pin != nil {
			b.pins[*block.Pin] = block
		} else if known := authorities.of(config, block.Authority); known != nil {
			key += known.key
			b.serials[block.Serial] = append(b.serials[block.Serial], serialBlock{block: block, issuers: known.subjects})
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	b.key = strings.Join(keys, "\x01")
	return b
}

// authorityIssuers are the CAs of authorities, each looked up once.
type authorityIssuers map[string]*issuersOf

type issuersOf struct {
	subjects map[string]bool // RawSubject
	key      string          // the same for the same certificates
}

func (x authorityIssuers) of(config *termination.Config, name string) *issuersOf {
	known, ok := x[name]
	if ok {
		return known
	}
	if a := config.Authority(name); a != nil {
		known = &issuersOf{subjects: map[string]bool{}}
		for _, c := range a.Certificates {
			known.subjects[string(c.Certificate.RawSubject)] = true
			known.key += "\x00" + termination.FingerprintOf(c.Certificate).String()
		}
	}
	x[name] = known
	return known
}

// BlockOf is [Snapshot.Blocked] by a configuration that may not be in force. It is not for the path of a client.
func BlockOf(config *termination.Config, certificates []*x509.Certificate) (*termination.Block, *x509.Certificate) {
	return (&Snapshot{blocks: newBlocks(config)}).Blocked(certificates)
}

// identityKey is the same for an identity across configurations, whatever it is called.
func identityKey(i *termination.Identity) string {
	if i.ID != "" {
		return i.ID
	}
	return i.Name
}

// BlockedIdentity reports whether an identity is blocked.
func (s *Snapshot) BlockedIdentity(i *termination.Identity) bool {
	return s.blocks.identities[identityKey(i)]
}

// Blocked returns the block that one of these certificates falls under, and which certificate that is; nil: none does. A
// block by serial number goes by the name of the issuer, whether or not its key has signed: it can only refuse.
func (s *Snapshot) Blocked(certificates []*x509.Certificate) (*termination.Block, *x509.Certificate) {
	if len(s.blocks.pins) == 0 && len(s.blocks.serials) == 0 {
		return nil, nil
	}
	for _, c := range certificates {
		for _, pin := range [...]termination.Pin{
			{Fingerprint: termination.FingerprintOf(c)},
			{Fingerprint: termination.KeyFingerprintOf(c), Key: true},
		} {
			if block := s.blocks.pins[pin]; block != nil {
				return block, c
			}
		}
		for _, candidate := range s.blocks.serials[termination.SerialOf(c)] {
			if candidate.issuers[string(c.RawIssuer)] {
				return candidate.block, c
			}
		}
	}
	return nil, nil
}
