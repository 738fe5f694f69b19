package gateway

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"countersign/termination"
)

// Limit names a limit that can turn a connection away.
type Limit string

// The limits on connections.
const (
	LimitConnections           Limit = "connections"
	LimitConnectionsPerAddress Limit = "connections_per_address"
	LimitHalfOpen              Limit = "half_open"
	LimitHalfOpenPerAddress    Limit = "half_open_per_address"
)

const slotShards = 64

// slots counts connections, overall and for each address, and refuses those above the limits.
type slots struct {
	limits    atomic.Pointer[termination.Limits]
	total     atomic.Int64
	halfOpen  atomic.Int64
	turned    [4]atomic.Int64 // how often each limit bit, in the order of limitNames
	addresses [slotShards]addressShard
}

type addressShard struct {
	mu     sync.Mutex
	counts map[netip.Addr]addressCount
}

type addressCount struct {
	open, half int
}

// slot is the place of one connection. It begins half open.
type slot struct {
	of      *slots
	address netip.Addr // that it is counted for; invalid: none
	half    bool
}

func limitNames() [4]Limit {
	return [4]Limit{LimitConnections, LimitConnectionsPerAddress, LimitHalfOpen, LimitHalfOpenPerAddress}
}

func (s *slots) shard(a netip.Addr) *addressShard {
	b := a.As16()
	h := uint32(2166136261) // FNV-1a
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	return &s.addresses[h%slotShards]
}

// take gives a half-open place to a connection from peer, or names the limit that was reached. One that is not counted
// for its peer is a balancer's, which stands for many clients: claim counts it for its client.
func (s *slots) take(peer netip.Addr, counted bool) (*slot, Limit) {
	limits := s.limits.Load()
	if s.total.Add(1) > int64(limits.Connections) {
		s.total.Add(-1)
		return nil, s.bite(0)
	}
	if s.halfOpen.Add(1) > int64(limits.HalfOpen) {
		s.total.Add(-1)
		s.halfOpen.Add(-1)
		return nil, s.bite(2)
	}
	out := &slot{of: s, half: true}
	if !counted {
		return out, ""
	}
	if limit := out.claim(peer); limit != "" {
		s.total.Add(-1)
		s.halfOpen.Add(-1)
		return nil, limit
	}
	return out, ""
}

// claim counts the place for an address, or names the limit that was reached.
func (s *slot) claim(peer netip.Addr) Limit {
	peer = peer.Unmap()
	limits, shard := s.of.limits.Load(), s.of.shard(peer)
	shard.mu.Lock()
	if shard.counts == nil {
		shard.counts = map[netip.Addr]addressCount{}
	}
	count := shard.counts[peer]
	over := -1
	switch {
	case count.open >= limits.ConnectionsPerAddress:
		over = 1
	case count.half >= limits.HalfOpenPerAddress:
		over = 3
	default:
		shard.counts[peer] = addressCount{open: count.open + 1, half: count.half + 1}
	}
	shard.mu.Unlock()
	if over >= 0 {
		return s.of.bite(over)
	}
	s.address = peer
	return ""
}

func (s *slots) bite(i int) Limit {
	s.turned[i].Add(1)
	return limitNames()[i]
}

// established tells that the handshake is over.
func (s *slot) established() {
	if s.half {
		s.half = false
		s.of.halfOpen.Add(-1)
		s.change(0, -1)
	}
}

// release gives the place back.
func (s *slot) release() {
	s.established()
	s.of.total.Add(-1)
	s.change(-1, 0)
}

func (s *slot) change(open, half int) {
	if !s.address.IsValid() {
		return // a balancer's, whose client is not known yet
	}
	shard := s.of.shard(s.address)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	count := shard.counts[s.address]
	count.open += open
	count.half += half
	if count.open <= 0 {
		delete(shard.counts, s.address)
		return
	}
	shard.counts[s.address] = count
}
