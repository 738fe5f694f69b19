package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"

	"countersign/termination"
)

// generationSize bounds the cache to twice as many chains. An entry takes some hundred bytes: it holds no presented
// certificate, whose bytes could keep a whole handshake message alive.
const generationSize = 2048

type chainKey [sha256.Size]byte

// keyOf covers every presented byte, with lengths, so that no two lists have the same key.
func keyOf(presented []*x509.Certificate) chainKey {
	h := sha256.New()
	var size [8]byte
	for _, c := range presented {
		binary.BigEndian.PutUint64(size[:], uint64(len(c.Raw)))
		h.Write(size[:])
		h.Write(c.Raw)
	}
	var k chainKey
	h.Sum(k[:0])
	return k
}

// chainCache remembers chains that verified, for as long as all their dates hold. It belongs to one policy and goes
// with it, so that no change of trust can be outlived. Refusals are not kept: strangers would fill it. When one
// generation is full the one before it is forgotten.
type chainCache struct {
	mu       sync.RWMutex
	current  map[chainKey]*verifiedChain
	previous map[chainKey]*verifiedChain
}

type verifiedChain struct {
	from, until time.Time // the latest NotBefore and the earliest NotAfter of the chain, both included
	checks      []termination.Check
	path        []pathStep
	authority   string
}

// pathStep is a certificate of a chain: of the presented list, or the policy's own.
type pathStep struct {
	presented int // when own is nil
	own       *x509.Certificate
}

func newChainCache() *chainCache {
	return &chainCache{current: map[chainKey]*verifiedChain{}}
}

func (c *chainCache) get(k chainKey, presented []*x509.Certificate, now time.Time) (Judgement, bool) {
	c.mu.RLock()
	v, ok := c.current[k]
	old := false
	if !ok {
		v, ok = c.previous[k]
		old = ok
	}
	c.mu.RUnlock()
	if !ok || now.Before(v.from) || now.After(v.until) {
		return Judgement{}, false
	}
	if old {
		c.store(k, v)
	}
	path := make([]*x509.Certificate, len(v.path))
	for i, s := range v.path {
		path[i] = s.own
		if s.own == nil {
			path[i] = presented[s.presented]
		}
	}
	return Judgement{
		Verified: true, Path: path, Authority: v.authority,
		Checks: append([]termination.Check(nil), v.checks...),
	}, true
}

// put keeps a verified judgement. Its checks are notes, none of which speaks of the time.
func (c *chainCache) put(k chainKey, presented []*x509.Certificate, j Judgement) {
	v := &verifiedChain{checks: append([]termination.Check(nil), j.Checks...), authority: j.Authority}
	for i, cert := range j.Path {
		if i == 0 || cert.NotBefore.After(v.from) {
			v.from = cert.NotBefore
		}
		if i == 0 || cert.NotAfter.Before(v.until) {
			v.until = cert.NotAfter
		}
		v.path = append(v.path, step(cert, presented))
	}
	c.store(k, v)
}

// step prefers the presented list, whose certificates the entry must not hold.
func step(cert *x509.Certificate, presented []*x509.Certificate) pathStep {
	for i, p := range presented {
		if p.Equal(cert) {
			return pathStep{presented: i}
		}
	}
	return pathStep{own: cert}
}

func (c *chainCache) store(k chainKey, v *verifiedChain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.current) >= generationSize {
		c.previous, c.current = c.current, make(map[chainKey]*verifiedChain, generationSize)
	}
	c.current[k] = v
}
