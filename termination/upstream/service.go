package upstream

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"countersign/termination"
)

// maxTries bounds how many targets are tried for one request or connection.
const maxTries = 5

// Service is an upstream with all its targets. It may still be used after it has left its [Set].
type Service struct {
	targets []*Target
	least   bool
	turn    atomic.Uint64
}

// Targets are all targets, in the order of the configuration.
func (s *Service) Targets() []*Target { return s.targets }

// Choice walks through the targets of a service for one request or connection.
type Choice struct {
	service *Service
	tried   [maxTries]*Target
	n       int
	turn    uint64
}

// Choose begins a choice.
func (s *Service) Choose() Choice {
	c := Choice{service: s}
	if len(s.targets) > 1 {
		c.turn = s.turn.Add(1) - 1
	}
	return c
}

// More reports whether Next has another target.
func (c *Choice) More() bool { return c.n < min(len(c.service.targets), maxTries) }

// Next returns the best target that was not tried yet, or nil. Those that are out come last, in the order of the
// configuration.
func (c *Choice) Next() *Target {
	if !c.More() {
		return nil
	}
	t := c.best()
	c.tried[c.n] = t
	c.n++
	return t
}

func (c *Choice) best() *Target {
	all := c.service.targets
	if len(all) == 1 {
		return all[0]
	}
	var first *Target // untried, whatever its state
	var in, seen uint64
	for _, t := range all {
		if c.wasTried(t) {
			continue
		}
		if first == nil {
			first = t
		}
		if t.health.available() {
			in++
		}
	}
	if in == 0 {
		return first
	}
	// Turns go round those that are in, so that the neighbour of one that is out does not get its share.
	start := c.turn % in
	var best *Target
	var bestRank [2]int64
	for _, t := range all {
		if c.wasTried(t) || !t.health.available() {
			continue
		}
		rank := [2]int64{0, int64((seen + in - start) % in)} //nolint:gosec // both are less than the number of targets
		if c.service.least {
			rank[0] = t.inUse.Load()
		}
		if seen++; best == nil || rank[0] < bestRank[0] || rank[0] == bestRank[0] && rank[1] < bestRank[1] {
			best, bestRank = t, rank
		}
	}
	if best == nil { // it went out between the two looks
		return first
	}
	return best
}

func (c *Choice) wasTried(t *Target) bool {
	for _, other := range c.tried[:c.n] {
		if other == t {
			return true
		}
	}
	return false
}

// totalTimeouts bounds the time that trying several targets may take, in connect timeouts.
const totalTimeouts = 3

// Dialled is a connection for raw bytes.
type Dialled struct {
	net.Conn
	Target *Target // End it when the connection has ended
	Took   time.Duration
}

// Dial connects to the best target, and to the next one when that fails. The error is the last *DialError.
func (s *Service) Dial(ctx context.Context, header []byte) (Dialled, error) {
	ctx, cancel := context.WithTimeout(ctx, totalTimeouts*s.targets[0].timeout)
	defer cancel()
	choice := s.Choose()
	var last error
	for choice.More() && (last == nil || ctx.Err() == nil) {
		t := choice.Next()
		t.Begin()
		conn, took, err := t.Dial(ctx, header)
		if err == nil {
			return Dialled{Conn: conn, Target: t, Took: took}, nil
		}
		t.End()
		last = err
	}
	return Dialled{}, last
}

func newService(u termination.Upstream, targets []*Target) *Service {
	return &Service{targets: targets, least: u.Policy.Balance == termination.BalanceLeastConnections}
}

// Status tells how each target is doing, in the order of the configuration.
func (s *Service) Status() []TargetStatus {
	out := make([]TargetStatus, len(s.targets))
	for i, t := range s.targets {
		out[i] = t.Status()
	}
	return out
}
