package verify

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
)

// Judgement is what a policy says about a presented chain.
type Judgement struct {
	In       bool               // the policy lets this client in
	Verified bool               // a certificate was presented and passed the authorities or pins
	Reason   termination.Reason // why not in, or why an open one is not verified; empty when nothing is to be explained
	Checks   []termination.Check
	// Path is the chain that was found, leaf to anchor; empty for pins and where there is none. It is there after a
	// refusal too, for the picture of it: only Verified says that it holds.
	Path      []*x509.Certificate
	Authority string // the authority whose anchor ended the chain of a verified client
	Pin       string // the pin that let a verified client in
	// Identity is the one that a verified client is known by; nil: none, or not verified.
	Identity *termination.Identity
	// Known is the same, for people, whether or not the client was verified: nothing may be granted on it.
	Known *termination.Identity
	// Rule is the rule that decided, or the expression where that refused; empty: none did.
	Rule string
	// Undecided: the policy's expression asks for the request, so that HTTP decides for each; see [Policy.JudgeRequest].
	Undecided bool
	// WouldRefuse: Reason would have kept the client out, were the policy not report_only.
	WouldRefuse bool
	// ReportOnly: the policy only reports, so that no identity may be asserted whatever Verified says.
	ReportOnly bool
	// Generation is that of the revocation data by which was judged.
	Generation uint64
	// From and Until are the dates between which it holds, both included; zero: no date decides.
	From, Until time.Time
	// Ask is what responders would have to be asked to know more about revocation: see [Policy.Ask].
	Ask []revocation.Question
}

// Judge decides about a client at the time now; also when it presented nothing. It is safe for concurrent use, and its
// work is bounded whatever was presented.
func (p *Policy) Judge(c Client, now time.Time) Judgement {
	if p == nil {
		return Judgement{Reason: termination.ReasonPolicyUnreadable}
	}
	if p.mode == termination.ModeOff {
		return Judgement{In: true}
	}
	known := p.revocation.Snapshot() // one for the whole judgement
	j := p.judge(c, known, now)
	p.onlyReport(&j)
	j.Generation = known.Generation()
	j.lasts(c)
	if soon := now.Add(timedFor); j.Verified && p.Timed() && (j.Until.IsZero() || soon.Before(j.Until)) {
		j.Until = soon
	}
	return j
}

// onlyReport lets a client in after all where the policy only reports.
func (p *Policy) onlyReport(j *Judgement) {
	if !p.reportOnly {
		return
	}
	j.ReportOnly = true
	// What was blocked by hand stays out: somebody wants that now. So does what cannot be judged.
	if !j.In && j.Reason != termination.ReasonBlocked && j.Reason != termination.ReasonPolicyUnreadable {
		j.In, j.WouldRefuse = true, true
	}
}

func (p *Policy) judge(c Client, known *revocation.Snapshot, now time.Time) Judgement {
	if len(c.Presented) == 0 {
		return p.withoutCertificate()
	}
	j := p.verify(c.Presented, now)
	p.identify(&j, c)
	if p.blocked(&j, c, known) {
		return j
	}
	p.revoked(&j, c, known, now)
	p.stray(&j, c)
	p.decide(&j, c, now)
	switch p.mode {
	case termination.ModeRequire, termination.ModeOptional:
		j.In = j.Verified
	case termination.ModeRequest, termination.ModeRequireAny:
		j.In = true
	default: // a mode that is not known lets nobody in
		return Judgement{Reason: termination.ReasonPolicyUnreadable}
	}
	return j
}

// identify finds out by which identity a client is known.
func (p *Policy) identify(j *Judgement, c Client) {
	if c.Presented[0] == nil {
		return
	}
	j.Known = p.identities.find(p.claims(j, c))
	if j.Verified {
		j.Identity = j.Known
	}
}

// blocked refuses what was blocked by hand, whatever the mode: the leaf, a CA of its chain, or its identity.
func (p *Policy) blocked(j *Judgement, c Client, known *revocation.Snapshot) bool {
	certificates := j.Path
	if len(certificates) == 0 {
		certificates = c.Presented[:1] // only the leaf is proven
		if certificates[0] == nil {
			return false
		}
	}
	if block, cert := known.Blocked(certificates); block != nil {
		j.refuse(c, termination.ReasonBlocked, cert, "%s is blocked here.", certName(cert))
		return true
	}
	if p.identityBlocked(j.Known, known) {
		j.refuse(c, termination.ReasonBlocked, c.Presented[0], "The identity %s is blocked.", j.Known.Name)
		return true
	}
	return false
}

// identityBlocked goes by the snapshot, as for every block: what the configuration of this policy says may be older.
func (p *Policy) identityBlocked(identity *termination.Identity, known *revocation.Snapshot) bool {
	if identity == nil {
		return false
	}
	if p.revocation == nil { // nobody keeps one: this policy only tells what would be
		return identity.Blocked
	}
	return known.BlockedIdentity(identity)
}

// stray refuses a client that is known by an identity of other endpoints, whoever else vouches for it or does not: that is
// what has to be said first.
func (p *Policy) stray(j *Judgement, c Client) {
	if elsewhere(j.Known, p.endpoint) {
		j.refuse(c, termination.ReasonIdentityElsewhere, c.Presented[0], "It is known as %s, which may not come in here.", j.Known.Name)
	}
}

// claims are what rules and identities may look at of a client: who vouches for it, if it is verified.
func (p *Policy) claims(j *Judgement, c Client) *claims {
	out := &claims{leaf: c.Presented[0]}
	if j.Verified && j.Authority != "" && len(j.Path) > 0 {
		out.authorities = p.vouching[termination.FingerprintOf(j.Path[len(j.Path)-1])]
	}
	if j.Identity != nil {
		out.identity = j.Identity.Name
	}
	return out
}

// decide lets the rules and then the expression decide about a client whose chain or pin holds.
func (p *Policy) decide(j *Judgement, c Client, now time.Time) {
	if !j.Verified {
		return
	}
	leaf := c.Presented[0]
	registered := j.Identity != nil && j.Identity.Knows(p.endpoint)
	rule, in := p.rules.decide(p.claims(j, c), registered)
	if rule != nil {
		j.Rule = rule.text
	}
	switch {
	case in:
		p.ask(j, c, nil, now)
	case rule != nil:
		j.refuse(c, termination.ReasonPolicyDenied, leaf, "The rule %s refuses it.", visible(j.Rule, maxDetailText))
	default:
		j.refuse(c, termination.ReasonPolicyDenied, leaf, "No rule allows it.")
	}
}

// refuse takes back what was verified.
func (j *Judgement) refuse(c Client, r termination.Reason, cert *x509.Certificate, format string, args ...any) {
	in := &inspection{presented: c.Presented, checks: j.Checks}
	in.fail(r, cert, format, args...)
	j.In, j.Verified, j.Reason, j.Checks, j.Identity = false, false, r, in.checks, nil
}

func (p *Policy) withoutCertificate() Judgement {
	switch p.mode {
	case termination.ModeRequest, termination.ModeOptional:
		return Judgement{In: true}
	case termination.ModeRequire, termination.ModeRequireAny:
		return Judgement{Reason: termination.ReasonCertMissing}
	default:
		return Judgement{Reason: termination.ReasonPolicyUnreadable}
	}
}

func (p *Policy) verify(presented []*x509.Certificate, now time.Time) Judgement {
	in := &inspection{presented: presented, now: now, hygiene: p.hygiene}
	if !p.bounded(in) {
		return refusal(in, nil)
	}
	key := keyOf(presented)
	if j, ok := p.cache.get(key, presented, now); ok {
		return j
	}
	leaf := presented[0]
	in.leaf(leaf)
	// Only the leaf will have to prove its key: that another certificate of the list is pinned means nothing.
	if pin, ok := p.pinOf(leaf); ok {
		if in.failed() {
			return refusal(in, nil)
		}
		return Judgement{Verified: true, Checks: in.checks, Pin: pin.String()}
	}
	if len(p.anchors) == 0 {
		if p.pinned() {
			in.fail(termination.ReasonNotListed, leaf, "No pin matches it, and no authority is trusted here.")
		} else {
			in.fail(termination.ReasonCAUnknown, leaf, "No authority is trusted here.")
		}
		return refusal(in, nil)
	}
	j := p.verifyChain(in, leaf)
	if j.Verified {
		p.cache.put(key, presented, j)
	}
	return j
}

// bounded refuses what is too large to look at, and what was never parsed.
func (p *Policy) bounded(in *inspection) bool {
	if n := len(in.presented); n > p.maxCertificates {
		in.fail(termination.ReasonCertMalformed, nil, "%d certificates were presented; more than %d are not looked at.", n, p.maxCertificates)
		return false
	}
	size := 0
	for i, c := range in.presented {
		if c == nil || len(c.Raw) == 0 {
			in.checks = append(in.checks, termination.Check{
				Reason: termination.ReasonCertMalformed, Certificate: i,
				Detail: fmt.Sprintf("Certificate %d of the list cannot be read.", i+1),
			})
			return false
		}
		size += len(c.Raw)
	}
	if size > p.maxBytes {
		in.fail(termination.ReasonCertMalformed, nil, "The certificates take %d bytes; more than %d are not looked at.", size, p.maxBytes)
		return false
	}
	for _, c := range in.presented {
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSABits {
			in.fail(termination.ReasonCertMalformed, c, "%s is RSA with %d bits; more than %d are not looked at.", in.whose(c, "key"), k.N.BitLen(), maxRSABits)
			return false
		}
	}
	return true
}

// pinOf returns the pin of the policy, or of an identity that names the endpoint, which a leaf has.
func (p *Policy) pinOf(leaf *x509.Certificate) (termination.Pin, bool) {
	if len(p.pins) > 0 {
		for _, pin := range pinsOf(leaf) {
			if p.pins[pin] {
				return pin, true
			}
		}
	}
	if identity, pin := p.identities.byLeaf(leaf); identity != nil && identity.Knows(p.endpoint) {
		return pin, true
	}
	return termination.Pin{}, false
}

// verifyChain lets crypto/x509 look for a chain to an anchor, and refuses more where it is lenient. Where it finds none
// our own search decides, in the few cases in which crypto/x509 refuses what this policy lets pass: see rescued.
func (p *Policy) verifyChain(in *inspection, leaf *x509.Certificate) Judgement {
	candidates := in.presented[1:]
	var f found
	searched := tangled(candidates)
	if searched {
		f = p.issuers.find(in.presented, hotSignatures)
		if len(f.chains) == 0 {
			return in.withoutChain(leaf, f)
		}
		candidates = f.members()
	}
	between := p.between.Clone()
	for _, c := range candidates {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         p.roots, // never nil: nil would mean the system's (CVE-2026-27586)
		Intermediates: between,
		CurrentTime:   in.now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	var best *inspection
	var path []*x509.Certificate
	for _, c := range chains {
		attempt := in.with(c, p.depth)
		if !attempt.failed() {
			return p.passed(attempt, c)
		}
		if best == nil || failures(attempt.checks) < failures(best.checks) {
			best, path = attempt, c
		}
	}
	if best != nil && !p.lenient {
		return refusal(best, path)
	}
	if !searched {
		f = p.issuers.find(in.presented, hotSignatures)
	}
	if len(f.chains) == 0 {
		return in.withoutChain(leaf, f)
	}
	return p.search(in, f, best, path, err)
}

func (p *Policy) passed(in *inspection, path []*x509.Certificate) Judgement {
	p.completed(in, path)
	return Judgement{
		Verified: true, Checks: in.checks, Path: path,
		Authority: p.authority[termination.FingerprintOf(path[len(path)-1])],
	}
}

// tangled reports whether several candidates share a name. In an honest list that happens with cross-signed CAs; in
// another it makes crypto/x509 try up to a hundred signatures, so such a list is first reduced by a cheaper search that
// tries each pair once.
func tangled(candidates []*x509.Certificate) bool {
	if len(candidates) < 2 {
		return false
	}
	names := make(map[string]bool, len(candidates))
	for _, c := range candidates {
		if names[string(c.RawSubject)] {
			return true
		}
		names[string(c.RawSubject)] = true
	}
	return false
}

// with continues a copy of the inspection along one chain.
func (in *inspection) with(chain []*x509.Certificate, depth int) *inspection {
	attempt := *in
	attempt.checks = append([]termination.Check(nil), in.checks...)
	attempt.chain(chain, depth)
	return &attempt
}

// completed notes which certificates of the chain the client should have sent, but we had them.
func (p *Policy) completed(in *inspection, chain []*x509.Certificate) {
	for i, c := range chain {
		if i == 0 || i == len(chain)-1 {
			continue
		}
		if !contains(in.presented, c) {
			in.note(termination.ReasonChainGap, c, "The client did not send %s; it was completed from the authority's own certificates.", certName(c))
		}
	}
}

// search inspects the chains that our own search has found, after crypto/x509 said no. best is what was wrong with the
// best chain that crypto/x509 has found; nil: it found none, for the reason err.
func (p *Policy) search(in *inspection, f found, best *inspection, path []*x509.Certificate, err error) Judgement {
	for _, c := range f.chains {
		attempt := in.with(c.certificates, p.depth)
		if !attempt.failed() && c.proven {
			if p.rescued(c.certificates) {
				return p.passed(attempt, c.certificates)
			}
			if best == nil {
				attempt.unexplained(in.presented[0], err)
			}
		}
		if best == nil || failures(attempt.checks) < failures(best.checks) {
			best, path = attempt, nil
			if c.proven {
				path = c.certificates
			}
		}
	}
	if !best.failed() { // a signature of the chain cannot be checked, and yet nothing was said about it
		best.unexplained(in.presented[0], err)
	}
	return refusal(best, path)
}

// rescued reports whether a chain of which every signature is proven, and with which the inspection finds nothing wrong,
// passes although crypto/x509 refuses it. That is so for three causes alone: the policy lowers a check that crypto/x509
// makes by itself; a name is spelled otherwise by the certificate below (RFC 5280, section 7.1); a critical limit on
// directory names was checked here (section 4.2.1.10).
func (p *Policy) rescued(path []*x509.Certificate) bool {
	return p.lenient || renamed(path) || slices.ContainsFunc(path, beyond)
}

// withoutChain records that no chain leads to an anchor.
func (in *inspection) withoutChain(leaf *x509.Certificate, f found) Judgement {
	in.signature(leaf)
	switch {
	case selfSigned(leaf):
		in.fail(termination.ReasonCertSelf, leaf, "It verifies under its own key: it signed itself.")
	case f.cut:
		in.fail(termination.ReasonChainTooDeep, leaf, "More than %s stand above it; the way was not followed to its end.", count(maxChainLength-1, "CA certificate"))
	default:
		in.fail(termination.ReasonCAUnknown, leaf, "It names %s as its issuer, and no chain leads from it to an authority of this policy.", issuerName(leaf))
	}
	return refusal(in, nil)
}

func refusal(in *inspection, path []*x509.Certificate) Judgement {
	return Judgement{Reason: primary(in.checks), Checks: in.checks, Path: path}
}

// primary picks the reason that has to go first: as long as nobody vouches for a certificate, its dates are beside the
// point. The order is fixed, so that the same chain always has the same reason.
func primary(checks []termination.Check) termination.Reason {
	for _, r := range []termination.Reason{
		termination.ReasonCertMalformed, termination.ReasonNotListed, termination.ReasonCertSelf, termination.ReasonCAUnknown,
		termination.ReasonCertExpired, termination.ReasonCertEarly, termination.ReasonCAExpired, termination.ReasonIssuerNotCA,
		termination.ReasonCertUse, termination.ReasonCertWeak, termination.ReasonCertExtension,
		termination.ReasonCertNameLimits, termination.ReasonChainTooDeep,
	} {
		for _, c := range checks {
			if c.Reason == r && !c.Note {
				return r
			}
		}
	}
	return termination.ReasonCertMalformed
}
