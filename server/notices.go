package server

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/revocation"
)

const (
	noticesWaiting = 1024
	// failureQuiet is how long nobody is told again that a client fails for a reason.
	failureQuiet = time.Hour
	// mostFailures bounds the notices about clients in an hour: when a CA ends, everyone fails at once.
	mostFailures = 30
	// lookEvery is how often dates and agents are looked at.
	lookEvery = time.Minute
	// agentPatience is how often in a row an agent must be away.
	agentPatience = 2
)

// NoticeOptions are what notices need.
type NoticeOptions struct {
	Store      func() *store.Store // an upgrade that fails opens another
	Config     func() *termination.Config
	Gateway    func() gateway.Status
	Revocation func() []revocation.Status
	Log        *slog.Logger
	Now        func() time.Time                          // nil: time.Now
	Wait       func(context.Context, time.Duration) bool // before another try; false: ctx has ended. Nil: by the clock
}

// Notices tell people of what needs them: each is kept for the dashboard, and posted to the webhook if there is one. They
// are told of handshakes by Observe, and look at dates and agents in Tend.
type Notices struct {
	options  NoticeOptions
	client   *http.Client
	failures *live.Tap[*termination.Handshake]
	hook     *live.Tap[store.Notice]
	sent     atomic.Uint64
	failed   atomic.Uint64

	// These belong to the goroutine that looks.
	looked time.Time
	agents map[string]*watchedAgent // by ID

	// These belong to the goroutine of failures.
	hour  time.Time
	count int
}

type watchedAgent struct {
	name, endpoint string
	away           int // looks in a row
}

// NewNotices makes notices. They must be closed.
func NewNotices(o NoticeOptions) *Notices {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == nil {
		o.Wait = waitFor
	}
	n := &Notices{options: o, client: newHookClient(), agents: map[string]*watchedAgent{}}
	n.hook = live.NewTap(noticesWaiting, 0, n.send)
	n.failures = live.NewTap(noticesWaiting, 0, n.lookAtFailures)
	return n
}

func waitFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Tend looks at dates and agents, when it is time to. One goroutine calls it.
func (n *Notices) Tend(ctx context.Context) {
	now := n.options.Now()
	if now.Sub(n.looked) < lookEvery {
		return
	}
	n.looked = now
	if err := n.Look(ctx); err != nil && ctx.Err() == nil {
		n.options.Log.Warn("what is about to end is not known", "error", err)
	}
}

// Close ends everything, and posts what waits as far as ctx allows.
func (n *Notices) Close(ctx context.Context) {
	n.failures.Close(ctx)
	n.hook.Close(ctx)
	n.client.CloseIdleConnections()
}

// Observe is told of each handshake. It never waits.
func (n *Notices) Observe(h *termination.Handshake) {
	known := h.Client.IdentityID != "" || h.Client.Fingerprint != (termination.Fingerprint{})
	if known && !h.Proof && h.Noise == "" && !h.Verdict.Outcome.In() {
		n.failures.Put(h)
	}
}

// tell keeps a notice and has it posted, unless there was one about the same within quiet.
func (n *Notices) tell(ctx context.Context, notice store.Notice, quiet time.Duration) (bool, error) {
	kept, added, err := n.options.Store().AddNotice(ctx, notice, quiet)
	if added {
		n.hook.Put(kept)
	}
	return added, err
}

// lookAtFailures tells of clients that were let in before, once for each reason in an hour.
func (n *Notices) lookAtFailures(ctx context.Context, batch []*termination.Handshake) {
	for _, h := range batch {
		if !n.wasLetIn(ctx, h) || !n.roomForFailure() {
			continue
		}
		who := cmp.Or(h.Client.Identity, h.Client.Name, h.Client.Fingerprint.String())
		why := string(h.Verdict.Reason)
		if info, ok := h.Verdict.Reason.Info(); ok {
			why = info.Title
		}
		told, err := n.tell(ctx, store.Notice{
			Kind: store.NoticeClientFailed, About: "failed:" + cmp.Or(h.Client.IdentityID, h.Client.Fingerprint.String()) + ":" + string(h.Verdict.Reason),
			Title: clip(who) + " was not let in", Text: fmt.Sprintf("%s, at %s. It was let in before, or has a name here.", why, cmp.Or(h.Endpoint, "no endpoint")),
			Href: "/handshakes/" + h.ID, Handshake: h.ID,
		}, failureQuiet)
		if err != nil {
			n.options.Log.Warn("a notice is lost", "error", err)
		}
		if told {
			n.count++
		}
	}
}

// roomForFailure reports whether there may be one more notice in this hour.
func (n *Notices) roomForFailure() bool {
	now := n.options.Now()
	if now.Sub(n.hour) >= time.Hour {
		n.hour, n.count = now, 0
	}
	return n.count < mostFailures
}

func (n *Notices) wasLetIn(ctx context.Context, h *termination.Handshake) bool {
	if h.Client.IdentityID != "" {
		return true
	}
	c, err := n.options.Store().Client(ctx, h.Client.Fingerprint.String())
	return err == nil && !c.FirstIn.IsZero()
}

// Look looks once at dates and agents.
func (n *Notices) Look(ctx context.Context) error {
	now := n.options.Now()
	for _, notice := range append(n.endings(now), n.agentsAway()...) {
		quiet := time.Duration(0) // a date comes once
		if notice.Kind == store.NoticeAgentOffline {
			quiet = failureQuiet
		}
		if _, err := n.tell(ctx, notice, quiet); err != nil {
			return err
		}
	}
	alerts, err := n.options.Store().ClientAlerts(ctx, now)
	if err != nil {
		return err
	}
	for i := range alerts {
		if _, err := n.tell(ctx, noticeOfAlert(&alerts[i], now), 0); err != nil {
			return err
		}
	}
	return nil
}

// noticeOfAlert is the notice of what is about to go wrong with a client, in the words of its page.
func noticeOfAlert(a *store.ClientAlert, now time.Time) store.Notice {
	n := store.Notice{Kind: store.NoticeExpiry, About: a.Key(), Text: a.Sentence(now), Href: clientHref(a.Client.Fingerprint), Handshake: a.Client.Handshake}
	who := clip(cmp.Or(a.Client.Identity, a.Client.Name, a.Client.Fingerprint.String()))
	switch a.Kind {
	case store.AlertSoftware:
		n.Kind, n.Title = store.NoticeSoftware, who+" came with other software"
		if a.Change != nil {
			n.Href, n.Handshake = "/handshakes/"+a.Change.Handshake, a.Change.Handshake
		}
	case store.AlertEnded:
		n.Title = "The certificate of " + who + " has ended"
	case store.AlertUsageEnds:
		n.Title = "The certificate of " + who + " cannot be renewed as it is"
	default:
		n.Title = "The certificate of " + who + " ends soon"
	}
	return n
}

// endings are the certificates and lists of ours whose end is near, or over.
func (n *Notices) endings(now time.Time) (out []store.Notice) {
	certificate := func(what, name, href string, c *x509.Certificate) {
		warn, urgent := termination.LifeWarnings(c.NotBefore, c.NotAfter)
		var step string
		words := "ends soon"
		switch {
		case !now.Before(c.NotAfter):
			step, words = "ended", "has ended"
		case now.After(urgent):
			step, words = "urgent", "is about to end"
		case now.After(warn):
			step = "soon"
		default:
			return
		}
		out = append(out, store.Notice{
			Kind: store.NoticeExpiry, About: "ends:" + what + ":" + name + ":" + termination.FingerprintOf(c).String() + ":" + step,
			Title: fmt.Sprintf("A %s of %s %s", what, clip(name), words), Text: "At " + c.NotAfter.UTC().Format(time.DateTime) + " UTC.", Href: href,
		})
	}
	config := n.options.Config()
	for i := range config.Authorities {
		a := &config.Authorities[i]
		for _, c := range a.Certificates {
			certificate("CA certificate", a.Name, "/authorities/"+a.Name, c.Certificate)
		}
	}
	for _, e := range n.options.Gateway().Endpoints {
		for _, leaf := range e.Leaves {
			certificate("server certificate", e.Name, "/endpoints/"+e.Name, leaf)
		}
	}
	for _, a := range n.options.Revocation() {
		for _, source := range a.Sources {
			for _, l := range source.Lists {
				if l.InForce && !l.FreshUntil.IsZero() && !now.Before(l.FreshUntil) {
					out = append(out, store.Notice{
						Kind: store.NoticeExpiry, About: fmt.Sprintf("crl:%s:%s:%d", a.Authority, clip(l.Issuer), l.FreshUntil.Unix()),
						Title: "A revocation list of " + clip(a.Authority) + " is past its time", Text: "Since " + l.FreshUntil.UTC().Format(time.DateTime) + " UTC there is no newer one.", Href: "/authorities/" + a.Authority,
					})
				}
			}
		}
	}
	return out
}

// agentsAway are the agents that were online and have been away for a while.
func (n *Notices) agentsAway() (out []store.Notice) {
	online := map[string]bool{}
	for _, a := range n.options.Gateway().Agents {
		online[a.ID] = true
		n.agents[a.ID] = &watchedAgent{name: a.Name, endpoint: a.Endpoint}
	}
	for id, a := range n.agents {
		if online[id] {
			continue
		}
		if a.away++; a.away < agentPatience {
			continue
		}
		delete(n.agents, id)
		out = append(out, store.Notice{
			Kind: store.NoticeAgentOffline, About: "agent:" + id, Title: "The agent " + clip(a.name) + " is offline",
			Text: "It served " + cmp.Or(clip(a.endpoint), "an endpoint that is gone") + ".", Href: "/agents",
		})
	}
	return out
}

// clip bounds a hostile text within a sentence.
func clip(s string) string {
	const most = 100
	r := []rune(s[:min(len(s), 4*most)])
	if len(r) <= most {
		return string(r)
	}
	return string(r[:most]) + "…"
}
