package servercert

import (
	"crypto/tls"
	"sync"
)

// Obtained holds what whoever obtains certificates puts there while a gateway serves: certificates by the name that they are
// for, and answers to challenges in flight. The gateway takes them from here, so that it knows no protocol of a CA. It is safe for
// concurrent use.
type Obtained struct {
	mu         sync.RWMutex
	chains     map[string]Chain
	challenges map[string]*tls.Certificate
	changed    chan struct{}
}

// NewObtained returns an Obtained that holds nothing.
func NewObtained() *Obtained {
	return &Obtained{chains: map[string]Chain{}, challenges: map[string]*tls.Certificate{}, changed: make(chan struct{}, 1)}
}

// Put stores the certificate for a normalised name, which may be a wildcard.
func (o *Obtained) Put(name string, c Chain) {
	o.mu.Lock()
	o.chains[name] = c
	o.mu.Unlock()
	o.tell()
}

// Drop forgets the certificate for a name that is not served any more.
func (o *Obtained) Drop(name string) {
	o.mu.Lock()
	delete(o.chains, name)
	o.mu.Unlock()
	o.tell()
}

func (o *Obtained) tell() {
	select {
	case o.changed <- struct{}{}:
	default: // somebody is told already
	}
}

// Changed receives after certificates have changed; several changes may be told at once.
func (o *Obtained) Changed() <-chan struct{} { return o.changed }

// Chain returns the certificate for a name, if there is one.
func (o *Obtained) Chain(name string) (Chain, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	c, ok := o.chains[name]
	return c, ok
}

// Present answers the TLS-ALPN-01 challenge for a name with cert from now on (RFC 8737).
func (o *Obtained) Present(name string, cert *tls.Certificate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.challenges[name] = cert
}

// Withdraw ends what Present began.
func (o *Obtained) Withdraw(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.challenges, name)
}

// Challenge returns the certificate that answers the challenge in flight for exactly that name; nil when there is none.
func (o *Obtained) Challenge(name string) *tls.Certificate {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.challenges[name]
}
