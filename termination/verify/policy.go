package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"

	"countersign/termination"
	"countersign/termination/expression"
	"countersign/termination/revocation"
)

// Policy is a client policy made ready to judge. It is immutable but for its cache, and safe for concurrent use.
type Policy struct {
	mode     termination.Mode
	onLoss   termination.OnLoss
	depth    int // CA certificates above the leaf, the anchor counted
	announce bool
	pins     map[termination.Pin]bool

	anchors   []*x509.Certificate
	helpers   []*x509.Certificate
	authority map[termination.Fingerprint]string   // anchor to the first authority that holds it
	vouching  map[termination.Fingerprint][]string // anchor to all that hold it
	issuers   issuers
	roots     *x509.CertPool // anchors alone
	between   *x509.CertPool // helpers alone
	pool      *x509.CertPool // anchors and helpers
	nobody    *x509.CertPool // empty

	endpoint   string
	identities *Identities
	registered []string // pins of the identities that name the endpoint
	rules      rules
	hygiene    termination.Hygiene // complete
	lenient    bool                // of hygiene, something is lowered that crypto/x509 refuses by itself
	when       *expression.Program // nil: none
	reportOnly bool
	soft       bool

	revocation *revocation.Registry

	maxCertificates int
	maxBytes        int

	hash  string
	cache *chainCache
}

// Scope is where a policy holds, and what it shares with others.
type Scope struct {
	Endpoint   string               // name of the endpoint, which identities refer to
	Identities *Identities          // of the same configuration; nil: made anew
	Revocation *revocation.Registry // what is known of blocked and revoked certificates; nil: nothing
}

// Compile makes a policy of auth, to which the defaults are added where it inherits them. A policy that verifies but
// has neither anchor nor pin, or that names what does not exist, is an error: the caller stops the endpoint.
func Compile(cfg *termination.Config, auth termination.ClientAuth, scope Scope) (*Policy, error) {
	eff := cfg.Effective(auth)
	if !eff.Mode.Valid() {
		return nil, fmt.Errorf("compile client policy: mode %q is unknown; use off, request, require_any, optional or require", eff.Mode)
	}
	p := &Policy{
		mode:            eff.Mode,
		onLoss:          eff.OnLoss,
		depth:           eff.Depth(),
		announce:        eff.Announce,
		pins:            make(map[termination.Pin]bool, len(eff.Pins)),
		authority:       map[termination.Fingerprint]string{},
		vouching:        map[termination.Fingerprint][]string{},
		roots:           x509.NewCertPool(),
		between:         x509.NewCertPool(),
		pool:            x509.NewCertPool(),
		nobody:          x509.NewCertPool(),
		maxCertificates: cfg.Limits.Certificates,
		maxBytes:        cfg.Limits.CertificateChain,
		cache:           newChainCache(),
		endpoint:        scope.Endpoint,
		identities:      scope.Identities,
		hygiene:         eff.Hygiene.Complete(),
		reportOnly:      eff.ReportOnly,
		soft:            eff.Soft,
		revocation:      scope.Revocation,
		rules:           rules{own: newRules(eff.Rules)},
	}
	if eff.Inherit {
		p.rules.shared = newRules(cfg.Defaults.Rules)
	}
	if p.identities == nil {
		p.identities = NewIdentities(cfg)
	}
	p.registered = p.identities.trustedAt(p.endpoint)
	p.boundLimits()
	p.lenient = lowers(p.hygiene)
	if eff.When != "" && p.mode.Asks() {
		var err error
		if p.when, err = expression.Compile(eff.When, expression.Condition, cfg.Limits.ExpressionCost); err != nil {
			return nil, fmt.Errorf("compile client policy: the expression: %w", err)
		}
	}
	for _, pin := range eff.Pins {
		p.pins[pin] = true
	}
	for _, name := range eff.Authorities {
		a := cfg.Authority(name)
		if a == nil {
			return nil, fmt.Errorf("compile client policy: there is no authority %q; upload it under Trust, or take it out of the policy", name)
		}
		if err := p.add(a); err != nil {
			return nil, fmt.Errorf("compile client policy: authority %q: %w", name, err)
		}
	}
	if p.mode.Verifies() && len(p.anchors) == 0 && !p.pinned() && !p.identities.awaitedAt(p.endpoint) {
		return nil, errors.New("compile client policy: it trusts no authority and no pin, so nobody could enter; choose an authority, or mode off")
	}
	p.issuers = newIssuers(p.anchors, p.helpers)
	p.hash = p.digest()
	return p, nil
}

// lowers reports whether something is lowered that crypto/x509 refuses by itself.
func lowers(h termination.Hygiene) bool {
	return h.WeakSignature != termination.LevelRefuse || h.Usage != termination.LevelRefuse || h.NameConstraints != termination.LevelRefuse
}

// boundLimits fills absent limits with their defaults, so that no configuration leaves the work unbounded.
func (p *Policy) boundLimits() {
	d := termination.DefaultLimits()
	if p.maxCertificates <= 0 {
		p.maxCertificates = d.Certificates
	}
	if p.maxBytes <= 0 {
		p.maxBytes = d.CertificateChain
	}
}

func (p *Policy) add(a *termination.Authority) error {
	for _, c := range a.Certificates {
		if c.Certificate == nil || len(c.Certificate.Raw) == 0 {
			return errors.New("one of its certificates could not be read")
		}
		// An anchor that is no CA could still end a chain of length one: its holder would come in as itself.
		if !c.Certificate.BasicConstraintsValid || !c.Certificate.IsCA {
			return fmt.Errorf("%s is no CA certificate; use it as a pin", certName(c.Certificate))
		}
		fp := termination.FingerprintOf(c.Certificate)
		switch c.Role {
		case termination.RoleAnchor:
			p.vouching[fp] = append(p.vouching[fp], a.Name)
			if _, known := p.authority[fp]; known {
				continue
			}
			p.authority[fp] = a.Name
			p.anchors = append(p.anchors, c.Certificate)
			p.roots.AddCert(c.Certificate)
		case termination.RoleHelper:
			p.helpers = append(p.helpers, c.Certificate)
			p.between.AddCert(c.Certificate)
		default:
			return fmt.Errorf("%s has the unknown role %q", certName(c.Certificate), c.Role)
		}
		p.pool.AddCert(c.Certificate)
	}
	return nil
}

// digest covers what decides about entry, by content: it is the same after a restart, after a rename, and in whatever
// order authorities and pins are listed. What happens to live connections on a loss (OnLoss) decides nothing.
func (p *Policy) digest() string {
	h := sha256.New()
	h.Write([]byte("countersign client policy 1\x00" + string(p.mode) + "\x00"))
	flag := uint64(0)
	if p.announce {
		flag = 1
	}
	for _, n := range []uint64{uint64(p.depth), flag, uint64(p.maxCertificates), uint64(p.maxBytes)} { //nolint:gosec // all positive
		writeNumber(h, n)
	}
	writeSet(h, fingerprints(p.anchors))
	writeSet(h, fingerprints(p.helpers))
	var pins []string
	for pin := range p.pins {
		pins = append(pins, pin.String())
	}
	writeSet(h, pins)
	p.digestRules(h)
	return hex.EncodeToString(h.Sum(nil))
}

// digestRules covers what decides after the chain. Who an identity is decides as well, where it may come in here or rules
// speak of it.
func (p *Policy) digestRules(h hash.Hash) {
	for _, c := range p.hygiene.Checks() {
		writeText(h, string(*c.Level))
	}
	spokenOf := map[string]bool{}
	for _, list := range [...][]rule{p.rules.shared, p.rules.own} {
		writeNumber(h, uint64(len(list)))
		for _, r := range list {
			writeText(h, r.String())
			if r.Subject.Identity != "" {
				spokenOf[r.Subject.Identity] = true
			}
		}
	}
	p.digestWhen(h)
	writeText(h, fmt.Sprint(p.reportOnly, p.soft))
	writeSet(h, p.identities.digest(p.endpoint, spokenOf))
}

// digestWhen covers the expression with what it may cost, and which authority holds which anchor where a rule, an identity or
// the expression may speak of it.
func (p *Policy) digestWhen(h hash.Hash) {
	if p.when == nil {
		writeText(h, "")
	} else {
		writeText(h, p.when.String())
		writeNumber(h, p.when.Limit())
	}
	if p.when == nil && len(p.rules.shared)+len(p.rules.own)+len(p.identities.byText)+len(p.identities.loose) == 0 {
		return
	}
	var held []string
	for anchor, names := range p.vouching {
		for _, name := range names {
			held = append(held, anchor.String()+" "+name)
		}
	}
	writeSet(h, held)
}

func writeText(h hash.Hash, s string) {
	writeNumber(h, uint64(len(s)))
	h.Write([]byte(s))
}

func writeNumber(h hash.Hash, n uint64) {
	h.Write(binary.BigEndian.AppendUint64(nil, n))
}

func writeSet(h hash.Hash, set []string) {
	slices.Sort(set)
	set = slices.Compact(set)
	writeNumber(h, uint64(len(set)))
	for _, s := range set {
		writeNumber(h, uint64(len(s)))
		h.Write([]byte(s))
	}
}

func fingerprints(certs []*x509.Certificate) []string {
	out := make([]string, len(certs))
	for i, c := range certs {
		out[i] = termination.FingerprintOf(c).String()
	}
	return out
}

// Hash identifies everything that decides about entry, in hex; it is stable across restarts. Session tickets are bound
// to it.
func (p *Policy) Hash() string { return p.hash }

// IdentitiesKey is the same for the same identities. What they decide is not all in Hash: who keeps a judgement keeps it
// for this key alone.
func (p *Policy) IdentitiesKey() string { return p.identities.key }

// Generation is that of the revocation data by which the policy judges now.
func (p *Policy) Generation() uint64 { return p.revocation.Snapshot().Generation() }

// Mode is the mode of the policy.
func (p *Policy) Mode() termination.Mode { return p.mode }

// Soft reports whether refusals are for HTTP to tell: TLS lets everybody in.
func (p *Policy) Soft() bool { return p.soft }

// Announces reports whether clients are told which authorities are trusted; one whose issuer is not among them may stay
// silent.
func (p *Policy) Announces() bool { return p.Announced() != p.nobody }

// ReportOnly reports whether the policy decides and records, but lets everyone in whom nobody has blocked.
func (p *Policy) ReportOnly() bool { return p.reportOnly }

// OnLoss says what happens to live connections that the policy no longer admits.
func (p *Policy) OnLoss() termination.OnLoss { return p.onLoss }

// Exact reports whether crypto/tls may verify first, with [Policy.Pool] as its ClientCAs, so that the client gets the
// exact alert. It may not when there is something that crypto/tls cannot know, such as a pin, or a CA that limits directory
// names.
func (p *Policy) Exact() bool {
	plain := !p.pinned() && !p.soft && !p.reportOnly && p.hygiene == termination.Hygiene{}.Complete()
	known := !slices.ContainsFunc(p.anchors, beyond) && !slices.ContainsFunc(p.helpers, beyond)
	return p.mode.Verifies() && p.announce && plain && known && len(p.anchors) > 0
}

// pinned reports whether a pin can let somebody in: one of the policy, or of an identity that names the endpoint.
func (p *Policy) pinned() bool { return len(p.pins) > 0 || len(p.registered) > 0 }

// Pool holds the anchors and the helpers; it is never nil. For crypto/tls alone, whose first opinion decides nothing:
// here a helper never ends a chain.
func (p *Policy) Pool() *x509.CertPool { return p.pool }

// Announced holds the authorities to name in the CertificateRequest (RFC 8446, section 4.2.4); it is never nil, and
// empty when none are to be named. That is so with pins, and in the modes that let in whichever certificate comes:
// clients whose issuer is not named stay silent, and those would be the very clients that are wanted.
func (p *Policy) Announced() *x509.CertPool {
	if p.announce && !p.pinned() && !p.reportOnly && p.mode.Verifies() {
		return p.pool
	}
	return p.nobody
}

// trustedAs returns the anchor of this name; nil: there is none.
func (p *Policy) trustedAs(subject []byte) *x509.Certificate {
	if p == nil {
		return nil
	}
	for _, c := range p.anchors {
		if nameKey(c.RawSubject) == nameKey(subject) {
			return c
		}
	}
	return nil
}
