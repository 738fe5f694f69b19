package upstream

import (
	"crypto/sha256"
	"crypto/x509"
	"io"

	"countersign/termination"
)

// targetKey is what makes two targets the same: as long as it is unchanged, so are their state and connections.
type targetKey struct {
	scheme     termination.UpstreamScheme
	address    string
	serverName string
	roots      [sha256.Size]byte // of all root certificates; zero: the system's
	client     [sha256.Size]byte // of the chain that we present; zero: none
	policy     termination.UpstreamPolicy
}

// Key is what makes two upstreams the same.
type Key struct {
	first  targetKey
	more   [sha256.Size]byte // of the further addresses; zero: none
	policy termination.UpstreamPolicy
}

// KeyOf returns the key of an upstream.
func KeyOf(u termination.Upstream) Key {
	k := Key{first: keyOf(u, u.Address), policy: u.Policy}
	if len(u.More) > 0 {
		h := sha256.New()
		for _, a := range u.More {
			_, _ = io.WriteString(h, a+"\n") // never fails
		}
		h.Sum(k.more[:0])
	}
	return k
}

func keyOf(u termination.Upstream, address string) targetKey {
	k := targetKey{scheme: u.Scheme, address: address, policy: u.Policy}
	// These concern the choice between targets, and single requests.
	k.policy.Balance, k.policy.Host, k.policy.ResponseTimeout = "", "", 0
	if !secured(u.Scheme) {
		return k
	}
	k.serverName = u.TLS.ServerName
	k.roots = sumOf(u.TLS.Roots)
	if u.TLS.Client != nil {
		k.client = sumOf(u.TLS.Client.Chain)
	}
	return k
}

func sumOf(certificates []*x509.Certificate) (sum [sha256.Size]byte) {
	if len(certificates) == 0 {
		return sum
	}
	h := sha256.New()
	for _, c := range certificates {
		f := termination.FingerprintOf(c)
		h.Write(f[:])
	}
	h.Sum(sum[:0])
	return sum
}

func secured(s termination.UpstreamScheme) bool {
	return s == termination.UpstreamHTTPS || s == termination.UpstreamTLS
}
