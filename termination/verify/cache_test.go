package verify

import (
	"crypto/x509"
	"encoding/binary"
	"testing"
	"time"

	"countersign/termination"
)

// Two generations bound the cache, and what is still in use survives the change from one to the next.
func TestCacheIsBounded(t *testing.T) {
	now := time.Now()
	leaf := &x509.Certificate{Raw: []byte{1}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	presented := []*x509.Certificate{leaf}
	verified := Judgement{Verified: true, Path: presented, Authority: "devices"}
	key := func(n int) (k chainKey) {
		binary.BigEndian.PutUint32(k[:], uint32(n))
		return k
	}
	c := newChainCache()
	for i := range 3 * generationSize {
		c.put(key(i), presented, verified)
		if j, ok := c.get(key(0), presented, now); !ok || j.Authority != "devices" || j.Path[0] != leaf {
			t.Fatalf("the entry in use was forgotten after %d others", i)
		}
	}
	if n := len(c.current) + len(c.previous); n > 2*generationSize {
		t.Errorf("%d entries", n)
	}
	if _, ok := c.get(key(1), presented, now); ok {
		t.Error("the oldest entry is still there")
	}
}

// A caller may do with a judgement what it likes.
func TestCacheHandsOutCopies(t *testing.T) {
	now := time.Now()
	leaf := &x509.Certificate{Raw: []byte{1}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	presented := []*x509.Certificate{leaf}
	c := newChainCache()
	k := keyOf(presented)
	c.put(k, presented, Judgement{Verified: true, Path: presented, Checks: []termination.Check{{Detail: "a", Note: true}}})
	first, _ := c.get(k, presented, now)
	first.Checks[0].Detail, first.Path[0] = "changed", nil
	if second, ok := c.get(k, presented, now); !ok || second.Checks[0].Detail != "a" || second.Path[0] != leaf {
		t.Errorf("got %+v", second)
	}
}

// Lists of equal bytes that are cut at other places are not the same list.
func TestCacheKey(t *testing.T) {
	list := func(raws ...string) []*x509.Certificate {
		var out []*x509.Certificate
		for _, r := range raws {
			out = append(out, &x509.Certificate{Raw: []byte(r)})
		}
		return out
	}
	seen := map[chainKey]bool{}
	for _, l := range [][]*x509.Certificate{list("ab"), list("a", "b"), list("b", "a"), list("ab", ""), list("")} {
		k := keyOf(l)
		if seen[k] {
			t.Errorf("a list of %d has the key of another", len(l))
		}
		seen[k] = true
	}
}
