package proxy

import (
	"errors"
	"time"

	"countersign/termination"
	"countersign/termination/credential"
)

// errLost ends a request in flight that is no longer let in.
var errLost = errors.New("the request is no longer let in")

// enter counts the request among those in flight, so that it is judged again when something changes, and when the
// credential that let it in expires. The function returned takes it out.
func (x *exchange) enter() (leave func()) {
	c := x.conn
	c.mu.Lock()
	if c.inFlight == nil {
		c.inFlight = map[*exchange]struct{}{}
	}
	c.inFlight[x] = struct{}{}
	c.mu.Unlock()
	var expiry *time.Timer
	if x.proof != nil && !x.proof.Expires.IsZero() {
		expiry = time.AfterFunc(x.proof.Expires.Sub(x.proxy.options.Now()), func() { x.proxy.JudgeAgain(c) })
	}
	if x.proxy.current.Load() != x.state || x.route.Policy.Generation() != x.client.Generation {
		x.proxy.judgeAgain(x) // whoever judged after that change may not have seen this one
	}
	return func() {
		if expiry != nil {
			expiry.Stop()
		}
		c.mu.Lock()
		delete(c.inFlight, x)
		c.mu.Unlock()
	}
}

// JudgeAgain ends the requests in flight on a connection, WebSockets among them, which would not be let in any more; as
// on_loss says. The connection itself is for the gateway to judge.
func (p *Proxy) JudgeAgain(c *Conn) {
	c.mu.Lock()
	all := make([]*exchange, 0, len(c.inFlight))
	for x := range c.inFlight {
		all = append(all, x)
	}
	c.mu.Unlock()
	for _, x := range all {
		p.judgeAgain(x)
	}
}

func (p *Proxy) judgeAgain(x *exchange) {
	state := p.current.Load()
	site := state.table.Site(x.site.Endpoint.ID)
	if site == nil || !site.http() {
		return // the connection goes
	}
	if x.allowedBy(site, state.table.credentials) {
		return
	}
	switch site.Policy.OnLoss() {
	case termination.OnLossLeave:
		return
	case termination.OnLossDrain:
		if !x.tunnels.Load() {
			return // it may finish; a WebSocket would not
		}
	case termination.OnLossClose:
	}
	x.conn.note(Note{Reason: termination.ReasonPolicyDenied, Detail: "A request in flight was ended by " + x.where() + ": it would not be let in any more."})
	x.patience.cancel(errLost)
}

// allowedBy reports whether a site would let the request in today. It reads nothing that changes while the request is in
// flight.
func (x *exchange) allowedBy(site *Site, set *credential.Set) bool {
	route := site.route(x.target.path)
	j, _ := x.judgedBy(route.Policy)
	if !j.In && !(route.Also.StandsIn() && replaceable(j.Reason)) {
		return false
	}
	kinds, ok := wanted(route.Also, j)
	if !ok || len(kinds) == 0 {
		return ok
	}
	if x.proof == nil {
		return false
	}
	now, same := set.Same(x.proof)
	if !same || credential.Usable(now, x.useFor(site, j)) != "" {
		return false
	}
	for _, k := range kinds {
		if k == now.Kind {
			return true
		}
	}
	return false
}
