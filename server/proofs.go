package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/proof"
)

const (
	maxProofs     = 2 // that run at a time
	maxProofQueue = 16
	proofTime     = 90 * time.Second // of one proof, waiting included
	agentsTime    = 5 * time.Second  // that agents may take to follow a change
	agentsEvery   = 50 * time.Millisecond
	sameEndpoint  = 1 // proofs of one endpoint at a time
)

// proofs are the last proofs of the endpoints, in memory alone, and those that are to be made after a change.
type proofs struct {
	mu      sync.Mutex
	last    map[string]proven   // by ID of the endpoint
	busy    map[string]int      // how many run, or wait to, by ID of the endpoint
	waiting int                 // of all
	slots   chan struct{}       // one for each that runs
	pending map[string]struct{} // IDs of endpoints that changed
	active  bool                // somebody works on pending
	workers sync.WaitGroup
	stopped context.Context
	stop    context.CancelFunc
}

// proven is a report with what it is about, to notice that it is out of date.
type proven struct {
	report *proof.Report
	of     proofSubject
}

// proofSubject is everything that a proof depends on.
type proofSubject struct {
	endpoint termination.Endpoint
	policy   string // hash
}

func newProofs() *proofs {
	p := &proofs{last: map[string]proven{}, busy: map[string]int{}, pending: map[string]struct{}{}, slots: make(chan struct{}, maxProofs)}
	p.stopped, p.stop = context.WithCancel(context.Background())
	return p
}

// Prove makes real handshakes with an endpoint, good and bad, and compares what happens with what its policy says. The
// error is a [*Problem] when that cannot be done now.
func (s *Server) Prove(ctx context.Context, ref string) (*proof.Report, error) {
	config := s.current()
	e := findEndpointIn(config, ref)
	if e == nil {
		return nil, store.NotFoundError{Kind: store.KindEndpoint, Name: ref}
	}
	if !e.Enabled {
		return nil, &Problem{Status: http.StatusConflict, Code: "stopped", Title: e.Name + " is stopped, so there is nothing to prove", Advice: "Start it first.", Href: endpointPath(e), Link: "To " + e.Name}
	}
	ctx, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	defer context.AfterFunc(s.proofs.stopped, cancel)()
	if !s.proofs.enter(e.ID) {
		return nil, &Problem{Status: http.StatusConflict, Code: "busy", Title: "Other proofs are under way", Advice: "Try again when they have ended.", Err: proof.ErrBusy}
	}
	defer s.proofs.leave(e.ID)
	select {
	case s.proofs.slots <- struct{}{}:
		defer func() { <-s.proofs.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other proofs: %w", ctx.Err())
	}
	s.awaitAgents(ctx, e)
	return s.prove(ctx, e.ID)
}

// prove runs a proof and keeps its report.
func (s *Server) prove(ctx context.Context, id string) (*proof.Report, error) {
	config := s.current()
	e := findEndpointIn(config, id)
	if e == nil {
		return nil, store.NotFoundError{Kind: store.KindEndpoint, Name: id}
	}
	statuses := s.endpointStatuses()
	if status := statuses[e.ID]; status.State == gateway.StateFailed {
		// What answers at its address is not the gateway, and perhaps not even this machine.
		return nil, &Problem{Status: http.StatusConflict, Code: "not_listening", Title: e.Name + " does not run, so there is nothing to prove", Detail: fullStop(capital(status.Problem)), Advice: "Put that right first.", Href: endpointPath(e), Link: "To " + e.Name}
	}
	subject := proofSubject{endpoint: *e, policy: statuses[e.ID].PolicyHash}
	report, err := proof.Run(ctx, proof.Options{
		Config: config, Endpoint: e, Held: heldLeaves(config, statuses), Direct: (&net.Dialer{}).DialContext, Now: s.now,
		Dial: func(ctx context.Context) (proof.Connection, error) {
			probe, err := s.gateway.DialProbe(ctx, onThisMachine(e.Address()))
			if err != nil {
				return proof.Connection{}, err
			}
			return proof.Connection{Conn: probe, Record: probe.Record()}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	s.proofs.mu.Lock()
	defer s.proofs.mu.Unlock()
	s.proofs.last[e.ID] = proven{report: report, of: subject}
	return report, nil
}

// onThisMachine is an address under which this machine reaches a listener of its own.
func onThisMachine(a netip.AddrPort) netip.AddrPort {
	switch {
	case !a.Addr().IsUnspecified():
		return a
	case a.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
}

// heldLeaves are the certificates whose keys the gateway uses itself.
func heldLeaves(config *termination.Config, statuses map[string]gateway.EndpointStatus) []*x509.Certificate {
	var out []*x509.Certificate
	for i := range config.Endpoints {
		if e := &config.Endpoints[i]; e.TerminateAt == termination.AtEdge {
			out = append(out, statuses[e.ID].Leaves...)
		}
	}
	return out
}

// awaitAgents gives the agents of an endpoint the time to follow its last change: until then they are right to do as
// the policy before said.
func (s *Server) awaitAgents(ctx context.Context, e *termination.Endpoint) {
	if e.TerminateAt != termination.AtAgent {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, agentsTime)
	defer cancel()
	tick := time.NewTicker(agentsEvery)
	defer tick.Stop()
	for {
		online, behind := 0, false
		for _, a := range s.gateway.Status().Agents {
			if a.EndpointID == e.ID {
				online++
				behind = behind || a.Revision < s.current().Revision
			}
		}
		if online > 0 && !behind {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// lastProof is the last report of an endpoint; stale says that the endpoint has changed since.
func (s *Server) lastProof(e *termination.Endpoint) (report *proof.Report, stale bool) {
	s.proofs.mu.Lock()
	last, known := s.proofs.last[e.ID]
	s.proofs.mu.Unlock()
	if !known {
		return nil, false
	}
	now := proofSubject{endpoint: *e, policy: s.endpointStatuses()[e.ID].PolicyHash}
	return last.report, !reflect.DeepEqual(now, last.of)
}

// proveChanged has the endpoints proven again, in the background, that a change concerns. Reports of those that are gone
// are forgotten.
func (s *Server) proveChanged(before, after *termination.Config, policies map[string]string) {
	if !s.opts.ProveChanges || !s.ready.Load() { // what is loaded at the start has not changed
		return
	}
	statuses := s.endpointStatuses()
	p := s.proofs
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.last {
		if findEndpointIn(after, id) == nil {
			delete(p.last, id)
		}
	}
	for i := range after.Endpoints {
		e := &after.Endpoints[i]
		if !e.Enabled {
			continue
		}
		old := findEndpointIn(before, e.ID)
		if old == nil || policies[e.ID] != statuses[e.ID].PolicyHash || !reflect.DeepEqual(old, e) {
			p.pending[e.ID] = struct{}{}
		}
	}
	if len(p.pending) > 0 && !p.active && p.stopped.Err() == nil {
		p.active = true
		p.workers.Go(s.provePending)
	}
}

// provePending proves one endpoint after the other until none is left that changed.
func (s *Server) provePending() {
	for {
		id, more := s.proofs.next()
		if !more {
			return
		}
		report, err := s.Prove(s.proofs.stopped, id)
		switch {
		case err != nil:
			if p, is := errors.AsType[*Problem](err); !is || p.Code != "stopped" && p.Code != "not_listening" {
				s.log.Info("a changed endpoint was not proven", "endpoint", id, "error", err)
			}
		case report.Result == proof.Contradicts && s.isAsProven(id):
			s.log.Error("an endpoint does not do what its policy says; see its page", "endpoint", report.Endpoint, "line", report.Lines[0].Tried, "happened", report.Lines[0].Happened)
		}
	}
}

// isAsProven reports whether an endpoint is still as it was when its last proof began. One that is not has its next proof
// ahead, or is gone.
func (s *Server) isAsProven(id string) bool {
	e := findEndpointIn(s.current(), id)
	if e == nil {
		return false
	}
	_, stale := s.lastProof(e)
	return !stale
}

// next takes an endpoint that changed.
func (p *proofs) next() (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.pending {
		delete(p.pending, id)
		if p.stopped.Err() == nil {
			return id, true
		}
	}
	p.active = false
	return "", false
}

// enter takes a place in the queue, and reports whether there is one.
func (p *proofs) enter(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting >= maxProofQueue || p.busy[id] > sameEndpoint {
		return false
	}
	p.waiting++
	p.busy[id]++
	return true
}

func (p *proofs) leave(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting--
	if p.busy[id]--; p.busy[id] == 0 {
		delete(p.busy, id)
	}
}

// end breaks off what runs and waits for it.
func (p *proofs) end() {
	p.mu.Lock()
	p.stop()
	p.mu.Unlock()
	p.workers.Wait()
}

// policyHashes are the hashes of the policies in force, by ID of the endpoint; none where nobody wants to know.
func (s *Server) policyHashes() map[string]string {
	out := map[string]string{}
	if !s.opts.ProveChanges {
		return out
	}
	for id, status := range s.endpointStatuses() {
		out[id] = status.PolicyHash
	}
	return out
}
