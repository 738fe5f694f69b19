package upstream

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"countersign/termination"
)

// Options are what a set needs.
type Options struct {
	Dial           DialFunc         // nil: net.Dialer
	Now            func() time.Time // for people; nil: time.Now
	Log            *slog.Logger     // nil: discards
	ConnectTimeout time.Duration    // of upstreams that have none of their own; 0: DefaultConnectTimeout
}

// Set holds the upstreams in use. What is in two configurations, one after the other, keeps its state.
type Set struct {
	options Options
	ended   context.Context
	end     context.CancelFunc
	checks  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	targets  map[targetKey]*Target
	services map[Key]*Service
}

// NewSet returns a set without upstreams. Close it.
func NewSet(o Options) *Set {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = DefaultConnectTimeout
	}
	s := &Set{options: o, targets: map[targetKey]*Target{}, services: map[Key]*Service{}}
	s.ended, s.end = context.WithCancel(context.Background())
	return s
}

// Use replaces the upstreams of the set and returns the services. Built-ins have none. Targets that are new are
// watched from now on, those that are gone no longer; after Close none is.
func (s *Set) Use(upstreams []termination.Upstream) map[Key]*Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	targets, services := map[targetKey]*Target{}, map[Key]*Service{}
	for _, u := range upstreams {
		if u.Scheme == termination.UpstreamBuiltin || u.Scheme == "" {
			continue
		}
		key := KeyOf(u)
		if services[key] != nil {
			continue
		}
		of := make([]*Target, 0, 1+len(u.More))
		for _, address := range u.Targets() {
			of = append(of, s.target(targets, u, address))
		}
		if services[key] = s.services[key]; services[key] == nil {
			services[key] = newService(u, of)
		}
	}
	for k, t := range s.targets {
		if targets[k] == nil {
			t.stop()
		}
	}
	s.targets, s.services = targets, services
	return services
}

// target takes a target over from before, or makes it.
func (s *Set) target(into map[targetKey]*Target, u termination.Upstream, address string) *Target {
	k := keyOf(u, address)
	if into[k] != nil {
		return into[k]
	}
	t := s.targets[k]
	if t == nil {
		t = s.newTarget(u, address)
		if u.Policy.Health != "" && !s.closed {
			ctx, stop := context.WithCancel(s.ended)
			t.stop = stop
			s.checks.Go(func() { t.watch(ctx) })
		}
	}
	into[k] = t
	return t
}

// Close ends all checks and returns when they have ended.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.checks.Wait()
}
