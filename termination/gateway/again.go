package gateway

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
	"countersign/termination/verify"
)

const (
	// judgeEvery is how often dates and the clock are looked at. What has changed is judged by at once.
	judgeEvery = 250 * time.Millisecond
	// judgePause is the least time between two rounds over all connections: a burst of changes costs one or two.
	judgePause = 50 * time.Millisecond
	// judgeChunk is how many connections a worker takes at a time.
	judgeChunk = 64
	// clockJump is how much further than the time that has passed the clock must have gone to have been set, or to have
	// run on while this machine slept.
	clockJump = time.Second
)

// judgeSoon has all live connections judged again. It does not wait: what changes until then is judged with it.
func (g *Gateway) judgeSoon() {
	select {
	case g.changes <- struct{}{}:
	default: // one notice is as good as many
	}
}

// keepJudging ends live connections that are no longer admitted: after a change, when a certificate ends, and when the
// clock was set. It runs until the gateway stops.
func (g *Gateway) keepJudging() {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	clock := newClockWatch(g.now)
	for {
		select {
		case <-g.stopped.Done():
			return
		case <-g.changes:
			began := time.Now()
			g.judgeAll(g.blockedFirst(g.live.all()))
			// Where changes follow each other, half of the time is left to clients.
			if !g.rest(max(judgePause, time.Since(began))) {
				return
			}
		case <-tick.C:
			if clock.wasSet() {
				g.judgeAll(g.live.all())
				continue
			}
			g.judgeAll(g.live.ended(g.now()))
		}
	}
}

// rest reports false when the gateway stops meanwhile.
func (g *Gateway) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.stopped.Done():
		return false
	}
}

// blockedFirst moves those to the front whose certificates are blocked as it is known now. That shows without verifying
// anything, and whoever blocks a client among thousands waits for that one.
func (g *Gateway) blockedFirst(all []*session) []*session {
	known := g.revocation.Snapshot()
	front := 0
	for i, s := range all {
		if block, _ := known.Blocked(s.client.Presented); block != nil {
			all[front], all[i] = all[i], all[front]
			front++
		}
	}
	return all
}

// judgeAll judges connections again, several at a time, each by the newest table. No lock is held.
func (g *Gateway) judgeAll(all []*session) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (len(all)+judgeChunk-1)/judgeChunk) {
		workers.Go(func() {
			for {
				end := int(next.Add(judgeChunk))
				if end-judgeChunk >= len(all) || g.stopped.Err() != nil {
					return
				}
				for _, s := range all[end-judgeChunk : min(end, len(all))] {
					g.judgeSafely(s)
				}
			}
		})
	}
	workers.Wait()
}

// judgeSafely ends a connection on which something panics: it must end neither the process nor the round.
func (g *Gateway) judgeSafely(s *session) {
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("panic while a connection was judged again", "handshake", s.record.ID, "panic", p, "stack", string(debug.Stack()))
			s.lost.CompareAndSwap(nil, &loss{reason: termination.ReasonPolicyUnreadable, detail: "The gateway failed while it judged this connection again; its log says where."})
			g.workers.Go(func() { s.cut(termination.ClosedByPolicy) })
		}
	}()
	onLoss, why := g.judge(g.table.Load(), s)
	if why != nil {
		// Apart, since a tunnel's end may be slow to take the good-bye of one.
		g.workers.Go(func() { s.lose(onLoss, *why) })
	} else if s.http != nil {
		g.proxy.JudgeAgain(s.http) // of the requests in flight, about which routes and credentials decide
	}
}

// loss is why a connection is no longer admitted.
type loss struct {
	reason termination.Reason // empty: not for its client
	detail string             // one sentence
}

// judge looks at one live connection, and says why it is no longer admitted, if so. Nothing can be judged of what passes
// through sealed; it only ends with its endpoint.
func (g *Gateway) judge(t *table, s *session) (termination.OnLoss, *loss) {
	e := t.byID[s.record.EndpointID]
	if e == nil || e.TerminateAt != s.record.TerminateAt || e.Scheme != s.record.Scheme {
		return s.onLoss, &loss{detail: "The endpoint was stopped or removed, or its TLS ends elsewhere now."}
	}
	j, why := t.objection(e, s)
	if why == nil {
		g.live.watch(s, e.until(s, j))
	}
	return e.ClientAuth.OnLoss, why
}

// lose ends a connection that is no longer admitted.
func (s *session) lose(onLoss termination.OnLoss, why loss) {
	if onLoss == termination.OnLossLeave {
		return
	}
	s.lost.CompareAndSwap(nil, &why)
	if onLoss == termination.OnLossDrain && s.http != nil {
		s.endedBy(termination.ClosedByPolicy)
		s.http.Drain()
		return
	}
	s.cut(termination.ClosedByPolicy)
}

// objection is why an endpoint would not let a live connection in today: by its port, name, what TLS agreed on, and
// policy. Nil: it would, by that judgement.
func (t *table) objection(e *endpoint, s *session) (j verify.Judgement, why *loss) {
	if e.TerminateAt == termination.AtUpstream {
		return j, nil
	}
	rec := s.record
	owner, _ := t.routes[e.Address()].Lookup(rec.Hello.ServerName)
	here := owner == e && e.ListensAt(rec.Local)
	if e.TerminateAt == termination.AtAgent { // it judges the rest
		here = owner == e && e.Port == rec.Local.Port()
	}
	switch {
	case !here:
		return j, &loss{detail: "The endpoint has another name or port now."}
	case e.TerminateAt == termination.AtAgent:
		return j, nil
	case e.problem != "":
		return j, &loss{reason: termination.ReasonPolicyUnreadable, detail: "The endpoint lets nobody in: " + e.problem}
	}
	if reason := e.TLSPolicy().Objection(rec.Chosen); reason != "" {
		return j, &loss{reason: reason, detail: "The endpoint's TLS settings have changed."}
	}
	if j = e.terminator.Judge(s.client); j.In {
		return j, nil
	}
	lost := lossOf(j)
	return j, &lost
}

// lossOf puts a judgement that keeps a client out into words.
func lossOf(j verify.Judgement) loss {
	for _, check := range j.Checks {
		if check.Reason == j.Reason && !check.Note && check.Detail != "" {
			return loss{reason: j.Reason, detail: check.Detail}
		}
	}
	info, _ := j.Reason.Info()
	return loss{reason: j.Reason, detail: fmt.Sprintf("The policy no longer admits this client: %s.", info.Title)}
}

// until is the earliest date that decides about a live connection, of the endpoint's judgement and of its routes'; zero:
// none does.
func (e *endpoint) until(s *session, j verify.Judgement) time.Time {
	earliest := j.Until
	for _, p := range e.routes {
		if u := p.Judge(s.client, e.terminator.Now()).Until; !u.IsZero() && (earliest.IsZero() || u.Before(earliest)) {
			earliest = u
		}
	}
	return earliest
}

// clockWatch notices when a clock goes on by more, or less, than the time that has passed.
type clockWatch struct {
	now           func() time.Time
	wall, started time.Time
}

func newClockWatch(now func() time.Time) *clockWatch {
	return &clockWatch{now: now, wall: now().Round(0), started: time.Now()}
}

// wasSet reports whether the clock was set since the last call.
func (c *clockWatch) wasSet() bool {
	wall, at := c.now().Round(0), time.Now() // without and with the monotonic reading
	off := wall.Sub(c.wall) - at.Sub(c.started)
	c.wall, c.started = wall, at
	return off.Abs() > clockJump
}
