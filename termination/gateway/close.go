package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign/termination"
)

const (
	// arrivalLooks is how often Close looks whether everyone who came in time has finished the handshake.
	arrivalLooks = 20 * time.Millisecond
	// firstRequest is how long after its handshake an HTTP connection may take to bring its first request, before it is
	// taken for one that has nothing to ask. A server of net/http that is shut down drops a request that it has just
	// begun to read, and its client would take that for a failure.
	firstRequest = 2 * time.Second
)

// Leave stops accepting at once and for good; connections go on until Close. It is for a gateway whose listeners another
// process has taken over: who waits there waits for that one.
func (g *Gateway) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = true
	for _, l := range g.allListeners() {
		l.leave()
	}
	if g.agents != nil {
		g.agents.Leave()
	}
}

// EndSessions ends the live connections of endpoints as their on_loss says. It is for a gateway that was left: the process
// that has taken over says of which endpoints it would no longer admit them.
func (g *Gateway) EndSessions(endpointIDs []string) {
	for _, s := range g.live.all() {
		if slices.Contains(endpointIDs, s.record.EndpointID) {
			s.lose(s.onLoss, loss{detail: "Another process has taken over, and admits others."})
		}
	}
}

// Admission says in a few words, by endpoint ID, what decides who may be connected to the enabled endpoints. Where they
// change, connections have to be judged again.
func (g *Gateway) Admission() map[string]string {
	t := g.table.Load()
	taken := takenBack(t.config)
	out := make(map[string]string, len(t.byID))
	for id, e := range t.byID {
		out[id] = fmt.Sprint(e.TerminateAt, " ", e.Address(), " ", e.ServerNames(), " ", e.problem == "", " ", e.tlsKey)
		if e.terminator != nil && e.terminator.Asks() {
			out[id] += " " + taken
		}
	}
	return out
}

// takenBack is the same for configurations that keep the same clients out by blocks and by what CAs have taken back. Lists
// that were fetched are not in it: each process fetches its own.
func takenBack(config *termination.Config) string {
	var all []string
	for i := range config.Blocked {
		all = append(all, "blocked "+config.Blocked[i].String())
	}
	for i := range config.Identities {
		if config.Identities[i].Blocked {
			all = append(all, "identity "+config.Identities[i].Name)
		}
	}
	for i := range config.Authorities {
		a := &config.Authorities[i]
		of := " of " + a.Name + " " + string(a.Revocation.Effective())
		for _, r := range a.Revocation.Revoked {
			all = append(all, "revoked "+r.Serial+of)
		}
		for _, list := range a.Revocation.CRLs {
			all = append(all, fmt.Sprintf("list %x%s", sha256.Sum256(list.DER), of))
		}
	}
	slices.Sort(all)
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(all, "\n"))))
}

func (g *Gateway) allListeners() (all []*listener) {
	for _, l := range g.listeners {
		all = append(all, l)
	}
	for _, l := range g.retiring {
		all = append(all, l)
	}
	return all
}

// Close stops accepting, lets connections end by themselves until ctx is done, then ends them. Whoever had begun to
// connect is still served: one request of HTTP/1, what HTTP/2 has under way, and raw bytes until they end. It returns
// when every goroutine of the gateway has ended. The error is ctx's when connections had to be cut.
func (g *Gateway) Close(ctx context.Context) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return g.waitClosed(ctx)
	}
	defer close(g.ended)
	g.closed = true
	listeners := g.allListeners()
	before := g.fronts
	last := g.lastFront()
	g.mu.Unlock()

	drained := make(chan struct{})
	go func() {
		defer close(drained)
		g.drain(ctx, listeners, before, last)
		g.conns.Wait()
	}()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = fmt.Errorf("close the gateway: connections were cut: %w", context.Cause(ctx))
	}
	g.stop()
	g.live.closeAll(termination.ClosedByGateway)
	for _, f := range append(before, last) {
		_ = f.server.Close() // it has nothing left to say
	}
	<-drained
	if g.agents != nil {
		g.agents.Close() // not before: it carried connections
	}
	g.proxy.Close()
	g.services.Close()
	g.workers.Wait()
	g.stapler.Close()
	g.revocation.Close()
	return err
}

func (g *Gateway) waitClosed(ctx context.Context) error {
	select {
	case <-g.ended:
		return nil
	default:
	}
	select {
	case <-g.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the gateway to close: %w", context.Cause(ctx))
	}
}

// drain asks everyone to end. It returns once nobody arrives any more, or when ctx is done, and then nobody is accepted.
func (g *Gateway) drain(ctx context.Context, listeners []*listener, before []*front, last *front) {
	var asked sync.WaitGroup
	defer asked.Wait()
	for _, f := range before {
		f.server.SetKeepAlivesEnabled(false)
		asked.Go(func() {
			g.awaitFirstRequests(ctx)
			_ = f.server.Shutdown(ctx) // its error is ctx's, which Close looks at
		})
	}
	g.endListeners(ctx, listeners)
	if wait(ctx, func() bool { return g.arriving.Load() == 0 }) {
		g.awaitFirstRequests(ctx)
		_ = last.server.Shutdown(ctx) // likewise
	}
}

// awaitFirstRequests lets the youngest HTTP connections bring what they came for.
func (g *Gateway) awaitFirstRequests(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstRequest)
	defer cancel()
	wait(ctx, func() bool { return !g.expectsFirstRequest() })
}

// expectsFirstRequest reports whether an HTTP connection is so young that its first request may be under way.
func (g *Gateway) expectsFirstRequest() bool {
	now := g.now()
	return slices.ContainsFunc(g.live.all(), func(s *session) bool {
		return s.http != nil && s.http.Requests() == 0 && now.Sub(s.since) < firstRequest
	})
}

// wait returns true once done is, and false when ctx is done before.
func wait(ctx context.Context, done func() bool) bool {
	tick := time.NewTicker(arrivalLooks)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// endListeners returns when nobody is accepted any more.
func (g *Gateway) endListeners(ctx context.Context, listeners []*listener) {
	if ctx.Err() == nil && !g.holding() {
		for _, l := range listeners {
			l.retire()
		}
		for _, l := range listeners {
			select {
			case <-l.done:
			case <-ctx.Done():
			}
		}
	}
	for _, l := range listeners {
		l.leave()
	}
	if !g.holding() { // else they wait for something else, and end without having accepted
		for _, l := range listeners {
			<-l.done
		}
	}
}

// holding reports whether clients still wait for the gateway to begin.
func (g *Gateway) holding() bool {
	if g.hold == nil {
		return false
	}
	select {
	case <-g.hold:
		return false
	default:
		return true
	}
}
