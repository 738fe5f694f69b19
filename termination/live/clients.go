package live

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"countersign/termination"
)

// Bounds of what is remembered about clients.
const (
	maxClients    = 4096
	maxClientText = 128
)

// clients remembers how the last handshake of each client ended, for the sentence "3 clients cannot get in".
type clients struct {
	mu   sync.Mutex
	last map[client]lastHandshake
}

// client is who made a handshake, as well as it is known: a name, or else an address and the TLS library's print.
type client struct {
	name string
	addr netip.Addr
	ja4  string
}

type lastHandshake struct {
	at         int64 // second
	failed     bool
	endpointID string
}

func clientOf(h *termination.Handshake) client {
	if h.Client.Full != "" {
		return client{name: briefly(h.Client.Full)}
	}
	if h.Client.Name != "" {
		return client{name: briefly(h.Client.Name)}
	}
	c := client{addr: h.Peer.Addr().Unmap()}
	if h.Hello != nil {
		c.ja4 = briefly(h.Hello.JA4)
	}
	return c
}

// briefly keeps a hostile text from holding much memory.
func briefly(s string) string {
	if len(s) > maxClientText {
		return strings.Clone(s[:maxClientText])
	}
	return s
}

func (c *clients) add(h *termination.Handshake, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who := clientOf(h)
	if _, known := c.last[who]; !known && len(c.last) >= maxClients {
		for other := range c.last { // any: the number is "at least" from here on
			delete(c.last, other)
			break
		}
	}
	c.last[who] = lastHandshake{at: now, failed: !h.Verdict.Outcome.In(), endpointID: h.EndpointID}
}

// forget drops clients that were not seen since t.
func (c *clients) forget(t int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for who, l := range c.last {
		if l.at < t {
			delete(c.last, who)
		}
	}
}

func (c *clients) failing(since int64, endpointID string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, l := range c.last {
		if l.failed && l.at > since && (endpointID == AllEndpoints || l.endpointID == endpointID) {
			n++
		}
	}
	return n
}

// FailingClients returns how many clients failed in their last handshake of the last period, at most 15 minutes, at the
// endpoint with that ID or at [AllEndpoints]. Clients without a name are told apart by address and JA4. When thousands
// are about, it is a lower bound.
func (b *Hub) FailingClients(period time.Duration, endpointID string) int {
	return b.clients.failing(b.counters.second()-int64(period/time.Second), endpointID)
}
