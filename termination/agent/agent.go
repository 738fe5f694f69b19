package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/revocation"
	"countersign/termination/tunnel"
)

const (
	// lookEvery is how often the agent looks whether its certificate has changed or is due.
	lookEvery = 2 * time.Second
	// applyTime bounds what putting a policy into force may take, a certificate from the gateway included.
	applyTime = 15 * time.Second
	// finishTime is how long the gateway may take to hear the last that an agent has to say.
	finishTime = 3 * time.Second
)

// Options are what an agent needs. All but Dial are needed.
type Options struct {
	Identity *tunnel.Identity
	State    *State
	Upstream termination.Upstream
	Files    *Files // nil: the agent makes its own key, and the gateway's local CA signs it
	Name     string // of the agent
	Version  string // of its program
	Log      *slog.Logger
	Now      func() time.Time
	Dial     tunnel.DialFunc // to gateways; nil: net.Dialer
}

// Agent serves one endpoint beside its service.
type Agent struct {
	options      Options
	client       *tunnel.Client
	engine       *gateway.Gateway
	certificates Certificates
	policy       atomic.Pointer[tunnel.Policy] // in force
	failing      atomic.Bool                   // the newest policy is not

	mu      sync.RWMutex // held for reading while a connection is handed over
	closing bool

	stop    context.CancelFunc
	stopped context.Context
	ended   chan struct{} // closed when Run has ended
}

// New returns an agent that does nothing until Run.
func New(o Options) *Agent {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	a := &Agent{options: o, ended: make(chan struct{})}
	a.stopped, a.stop = context.WithCancel(context.Background())
	a.client = tunnel.NewClient(tunnel.ClientOptions{
		Identity: o.Identity, Name: o.Name, Version: o.Version, Log: o.Log, Now: o.Now, Dial: o.Dial,
		Apply: a.apply, Lists: func(l []revocation.Fetched) { a.engine.GiveRevocation(l) }, Serve: a.serve, Renewed: o.State.Keep,
	})
	a.certificates = &Issued{State: o.State, Now: o.Now, Log: o.Log, Certify: a.client.Certify}
	if o.Files != nil {
		a.certificates = o.Files
	}
	a.engine = gateway.New(gateway.Options{Hub: a.client, Log: o.Log, Now: o.Now, Detached: true})
	return a
}

// Run keeps the tunnel and serves until Close, and then returns nil. A [tunnel.RefusedError] means that the gateway does
// not want this agent any more; Close must be called then, too.
func (a *Agent) Run() error {
	defer close(a.ended)
	var looking sync.WaitGroup
	looking.Go(a.look)
	err := a.client.Run(a.stopped)
	a.stop()
	looking.Wait()
	return err
}

// Close takes no more clients, lets those that are here go on until ctx is done, and ends. It is called once, after Run
// was.
func (a *Agent) Close(ctx context.Context) error {
	a.client.Leave()
	a.mu.Lock()
	a.closing = true
	a.mu.Unlock()
	err := a.engine.Close(ctx)
	a.client.Finish() // what was written last may still be on its way
	late := time.AfterFunc(finishTime, a.stop)
	<-a.ended
	late.Stop()
	a.stop()
	return err
}

// serve hands a client's connection to the engine.
func (a *Agent) serve(s *tunnel.Stream, h tunnel.Header) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.closing {
		_ = s.Reset() // unread, so the gateway tries another agent
		return
	}
	a.engine.Take(s, gateway.Arrival{ID: h.Handshake, Listener: h.Listener, Accepted: a.options.Now()})
}

// apply puts a policy into force.
func (a *Agent) apply(ctx context.Context, p *tunnel.Policy) (err error) {
	ctx, cancel := context.WithTimeout(ctx, applyTime)
	defer cancel()
	defer func() { a.failing.Store(err != nil) }()
	certificate, err := a.certificates.For(ctx, p.Endpoint.ServerNames())
	if err != nil {
		return err
	}
	if err := a.engine.Apply(ctx, p.Config(a.options.Upstream, certificate)); err != nil {
		return fmt.Errorf("put the policy of revision %d into force: %w", p.Revision, err)
	}
	if a.policy.Swap(p) == nil {
		a.options.Log.Info("serving", "endpoint", p.Endpoint.Name, "names", p.Endpoint.ServerNames(), "mode", string(p.Endpoint.ClientAuth.Mode))
	}
	return nil
}

// look puts a changed certificate into force, and what could not be put into force before.
func (a *Agent) look() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-a.stopped.Done():
			return
		case <-tick.C:
			p := a.policy.Load()
			if a.failing.Load() || p != nil && a.certificates.Changed(p.Endpoint.ServerNames()) {
				a.client.Again()
			}
		}
	}
}
