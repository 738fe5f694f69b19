package verify

import (
	"bytes"
	"crypto/x509"
	"errors"

	"countersign/termination"
)

// Bounds of one search for chains. A presented list is anybody's work: certificates that all sign each other make
// exponentially many chains.
const (
	maxFoundChains = 8
	maxChainLength = 16
	maxSteps       = 512
	hotSignatures  = 32  // signature checks while a client waits
	coldSignatures = 256 // and while it does not
	seenSignatures = 64  // among what strangers have sent
)

// issuers finds CA certificates by the name that a certificate gives as its issuer.
type issuers struct {
	anchors map[string][]*x509.Certificate // by the key of their subject
	helpers map[string][]*x509.Certificate
	ends    map[termination.Fingerprint]bool // fingerprints of anchors
}

func newIssuers(anchors, helpers []*x509.Certificate) issuers {
	is := issuers{
		anchors: bySubject(anchors),
		helpers: bySubject(helpers),
		ends:    make(map[termination.Fingerprint]bool, len(anchors)),
	}
	for _, a := range anchors {
		is.ends[termination.FingerprintOf(a)] = true
	}
	return is
}

func bySubject(certs []*x509.Certificate) map[string][]*x509.Certificate {
	m := make(map[string][]*x509.Certificate, len(certs))
	for _, c := range certs {
		key := nameKey(c.RawSubject)
		m[key] = append(m[key], c)
	}
	return m
}

// found is what a search came to. Names and signatures fit in every chain; nothing else was looked at.
type found struct {
	chains  []chain             // leaf to anchor, in the order of discovery
	longest []*x509.Certificate // from the leaf as far as signatures are proven, whether or not a chain was found
	cut     bool                // a longer way was not followed to its end
}

type chain struct {
	certificates []*x509.Certificate
	proven       bool // every signature was checked and is right; else one is by an algorithm that cannot be checked
}

// top returns the last certificate of the longest way that leads nowhere: the one whose issuer is missing.
func (f found) top() *x509.Certificate { return f.longest[len(f.longest)-1] }

// members returns the certificates between leaf and anchor of all chains; of a chain, some may be the policy's own.
func (f found) members() []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range f.chains {
		for i, cert := range c.certificates {
			if i > 0 && i < len(c.certificates)-1 && !contains(out, cert) {
				out = append(out, cert)
			}
		}
	}
	return out
}

// finder looks for chains by name and signature alone: dates, usages and rights are ignored, so that what is wrong with
// a chain can be named once it was found. Whether a chain that it found holds is for the inspection to say.
type finder struct {
	issuers    issuers
	presented  map[string][]*x509.Certificate // but for the leaf, by the key of their subject
	signatures int
	steps      int
	links      map[link]signatureState
	found      found
}

type link struct{ child, parent *x509.Certificate }

// find searches from presented[0], which must be there, using the others as candidates, with no more than this number
// of signature checks.
func (is issuers) find(presented []*x509.Certificate, signatures int) found {
	f := &finder{
		issuers:    is,
		presented:  bySubject(presented[1:]),
		signatures: signatures,
		steps:      maxSteps,
		links:      map[link]signatureState{},
	}
	f.walk([]*x509.Certificate{presented[0]})
	return f.found
}

func (f *finder) walk(path []*x509.Certificate) {
	if len(path) > len(f.found.longest) && f.proven(path) {
		f.found.longest = append([]*x509.Certificate(nil), path...)
	}
	at := path[len(path)-1]
	if f.issuers.ends[termination.FingerprintOf(at)] {
		f.found.chains = append(f.found.chains, chain{append([]*x509.Certificate(nil), path...), f.proven(path)})
		return
	}
	for _, parent := range f.parents(at) {
		if f.steps--; f.steps < 0 || len(f.found.chains) >= maxFoundChains {
			return
		}
		if contains(path, parent) || !f.linked(at, parent) {
			continue
		}
		if len(path) >= maxChainLength {
			f.found.cut = true
			return
		}
		f.walk(append(path, parent))
	}
}

// parents returns who may have signed c by name, those whose key identifier fits (RFC 5280, section 4.2.1.1) first: many
// CA certificates may share a name, and the checks are counted.
func (f *finder) parents(c *x509.Certificate) []*x509.Certificate {
	var fitting, others []*x509.Certificate
	key := nameKey(c.RawIssuer)
	for _, list := range [...][]*x509.Certificate{f.issuers.anchors[key], f.issuers.helpers[key], f.presented[key]} {
		for _, parent := range list {
			switch {
			case contains(fitting, parent) || contains(others, parent): // it was sent, and is kept here as well
			case len(c.AuthorityKeyId) > 0 && bytes.Equal(c.AuthorityKeyId, parent.SubjectKeyId):
				fitting = append(fitting, parent)
			default:
				others = append(others, parent)
			}
		}
	}
	return append(fitting, others...)
}

// linked reports whether parent's key may have signed child; each pair is checked once, and no more than the budget
// allows. A signature that cannot be checked counts, so that it can be named as the problem.
func (f *finder) linked(child, parent *x509.Certificate) bool {
	l := link{child, parent}
	state, known := f.links[l]
	if !known {
		if f.signatures == 0 {
			return false
		}
		f.signatures--
		state = signedBy(child, parent)
		f.links[l] = state
	}
	return state != signatureWrong
}

func (f *finder) proven(path []*x509.Certificate) bool {
	for i := range len(path) - 1 {
		if f.links[link{path[i], path[i+1]}] != signatureRight {
			return false
		}
	}
	return true
}

func contains(path []*x509.Certificate, c *x509.Certificate) bool {
	for _, p := range path {
		if bytes.Equal(p.Raw, c.Raw) {
			return true
		}
	}
	return false
}

type signatureState int

const (
	signatureWrong   signatureState = iota
	signatureRight                  // also by SHA-1, which is refused elsewhere
	signatureUnknown                // by an algorithm that cannot be checked, such as MD5
)

// signedBy asks for the bare signature: what parent may sign is another question.
func signedBy(child, parent *x509.Certificate) signatureState {
	if parent.PublicKey == nil {
		return signatureUnknown
	}
	err := parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
	var insecure x509.InsecureAlgorithmError
	switch {
	case err == nil:
		return signatureRight
	case errors.As(err, &insecure), errors.Is(err, x509.ErrUnsupportedAlgorithm):
		return signatureUnknown
	}
	return signatureWrong
}

// selfSigned reports whether c verifies under its own key; equal names alone do not make it so.
func selfSigned(c *x509.Certificate) bool {
	return signedBy(c, c) == signatureRight
}
