package tlstest

import (
	"crypto/rsa"
	"crypto/x509"
	"net/http"
	"slices"
	"time"
)

// chains checks a presented list against the staff endpoint's authority.
func (n *naive) chains(presented []*x509.Certificate) error { return n.verify(presented, n.pool()) }

func (n *naive) pool() *x509.CertPool {
	switch {
	case !n.orphaned.Load():
		return n.world.ClientCA.Pool()
	case n.has(NilPool):
		return nil
	default:
		return x509.NewCertPool()
	}
}

// desk lets in whom ClientCA calls bob.
func (n *naive) desk(presented []*x509.Certificate) error {
	roots := n.world.ClientCA.Pool()
	if n.has(RulesByName) {
		roots.AddCert(n.world.PartnerCA.X509)
	}
	if presented[0].Subject.CommonName != "bob" {
		return errNotAdmitted
	}
	return n.verify(presented, roots)
}

const (
	mostCAs          = 4  // above a client's certificate
	mostCertificates = 10 // in a presented list
	leastRSA         = 2048
)

// verify looks for a chain from the first of a presented list to one of the roots.
func (n *naive) verify(presented []*x509.Certificate, roots *x509.CertPool) error {
	if len(presented) > mostCertificates && !n.has(NoBounds) {
		return errNotAdmitted
	}
	between := x509.NewCertPool()
	for _, c := range presented[1:] {
		between.AddCert(c)
		if n.has(TrustsPresented) && slices.Equal(c.RawSubject, n.world.ClientCA.X509.RawSubject) {
			roots = roots.Clone()
			roots.AddCert(c)
		}
	}
	usage := x509.ExtKeyUsageClientAuth
	if n.has(GoDefaults) {
		usage = x509.ExtKeyUsageAny
	}
	leaf := presented[0]
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return err
	}
	if !n.has(NoBounds) && !slices.ContainsFunc(chains, func(c []*x509.Certificate) bool { return len(c) <= mostCAs+1 }) {
		return errNotAdmitted
	}
	if n.has(GoDefaults) {
		return nil
	}
	if leaf.IsCA || leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errNotAdmitted
	}
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < leastRSA {
		return errNotAdmitted
	}
	return nil
}

// verified says whether the certificate of a client in the lobby is one of ClientCA.
func (n *naive) verified(presented []*x509.Certificate) bool {
	return len(presented) > 0 && n.chains(presented) == nil
}

// fetch calls what the certificates name.
func (n *naive) fetch(presented []*x509.Certificate) {
	if !n.has(FetchesFromCertificate) {
		return
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for _, c := range presented {
		for _, address := range slices.Concat(c.IssuingCertificateURL, c.CRLDistributionPoints, c.OCSPServer) {
			if res, err := client.Get(address); err == nil {
				res.Body.Close()
			}
		}
	}
}

// keep remembers a connection that was let in, and with what.
func (n *naive) keep(p *peeked, presented []*x509.Certificate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open == nil {
		n.open = make(map[*peeked][]*x509.Certificate)
	}
	n.open[p] = presented
}

func (n *naive) forget(p *peeked) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, p)
}

// closeLost closes the connections that would not be let in any more.
func (n *naive) closeLost() {
	if n.has(JudgesOnce) || n.has(VerifiesOnce) {
		return
	}
	n.mu.Lock()
	var lost []*peeked
	for p, presented := range n.open {
		if n.admit(p.endpoint, presented) != nil {
			lost = append(lost, p)
		}
	}
	n.mu.Unlock()
	for _, p := range lost {
		p.Close()
	}
}
