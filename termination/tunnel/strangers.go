package tunnel

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

func addressOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// networkOf is what one stranger has at least: in IPv6 a network of 64 bits (RFC 4291, section 2.5.4), with more
// addresses than can be counted.
func networkOf(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

const (
	// refusalsAllowed is how many agents of one network may be refused in a minute. No secret can be guessed; this
	// bounds work.
	refusalsAllowed = 20
	refusalsPeriod  = time.Minute
	// refusalsKept bounds the networks that are remembered.
	refusalsKept = 10000
	// mostLogged is how many lines of a kind may go to the log in refusalsPeriod.
	mostLogged = 60
)

// joinLimits count refused agents by network.
type joinLimits struct {
	mu    sync.Mutex
	since time.Time
	count map[netip.Addr]int
}

func (l *joinLimits) allows(a netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begin(now)
	return l.count[networkOf(a)] < refusalsAllowed && len(l.count) < refusalsKept
}

func (l *joinLimits) refused(a netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begin(now)
	if a = networkOf(a); l.count[a] > 0 || len(l.count) < refusalsKept {
		l.count[a]++
	}
}

// begin forgets the period before.
func (l *joinLimits) begin(now time.Time) {
	if l.count == nil || now.Sub(l.since) >= refusalsPeriod || now.Before(l.since) {
		l.since, l.count = now, map[netip.Addr]int{}
	}
}

// logLimit keeps lines of a kind from filling the log: what is beyond its measure is counted, and told with the next line.
type logLimit struct {
	mu     sync.Mutex
	since  time.Time
	lines  int
	silent int
}

func (l *logLimit) log(o ServerOptions, level slog.Level, message string, args ...any) {
	silent, may := l.may(o.Now())
	if !may {
		return
	}
	if silent > 0 {
		args = append(args, "unlogged_before", silent)
	}
	o.Log.Log(context.Background(), level, message, args...)
}

func (l *logLimit) may(now time.Time) (silent int, may bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= refusalsPeriod || now.Before(l.since) {
		l.since, l.lines = now, 0
	}
	if l.lines++; l.lines > mostLogged {
		l.silent++
		return 0, false
	}
	silent, l.silent = l.silent, 0
	return silent, true
}
