package tunnel

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/revocation"
)

// An agent whose tunnel broke tries again after retryFirst, then after twice that and so on up to retryMost, each time
// shortened by chance so that not all come at once. With a connection that takes no longer than retryMost, a gateway
// that was restarted has its agents back within five seconds.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 2 * time.Second
	// dialTime bounds connecting, TLS included.
	dialTime = 4 * time.Second
	// reportsWaiting is how many reports may wait to be sent; those above are dropped and counted.
	reportsWaiting = 8192
)

// ClientOptions are what an agent's end of the tunnel needs. All are needed.
type ClientOptions struct {
	Identity *Identity
	Name     string // of the agent
	Version  string // of its program
	Log      *slog.Logger
	Now      func() time.Time
	Dial     DialFunc
	// Apply puts a policy into force, before it returns. Its error goes to the gateway, which then gives the agent no
	// clients. One goroutine calls it.
	Apply func(ctx context.Context, p *Policy) error
	// Lists takes the revocation lists that the gateway has fetched: all that there are. The goroutine of Apply calls it.
	// Nil: nobody does.
	Lists func([]revocation.Fetched)
	// Serve takes a client's connection over.
	Serve func(s *Stream, h Header)
	// Renewed keeps the agent's next certificate.
	Renewed func(id *Identity) error
}

// Client is an agent's end of the tunnel. It takes the records of the agent's own engine and reports them.
type Client struct {
	options  ClientOptions
	identity atomic.Pointer[Identity]
	dropped  atomic.Uint64
	again    chan struct{} // Apply is to be called again
	leaving  atomic.Bool
	finish   context.CancelFunc
	last     context.Context // done: the reports that wait are the last

	serving sync.WaitGroup // goroutines that hand connections over

	sessions sync.WaitGroup // those that go on beside the newest: see leaving

	applying sync.Mutex // held while a policy is put into force

	mu      sync.Mutex
	current *clientSession            // nil: not connected
	reached string                    // the address of the last session
	owners  map[string]*clientSession // by handshake: through which session a client came
}

// ErrNotConnected says that the agent has no connection to its gateway at the moment.
var ErrNotConnected = errors.New("the agent is not connected to the gateway right now")

// NewClient returns a Client. It does nothing until Run.
func NewClient(o ClientOptions) *Client {
	c := &Client{options: o, again: make(chan struct{}, 1), owners: map[string]*clientSession{}}
	c.last, c.finish = context.WithCancel(context.Background())
	c.identity.Store(o.Identity)
	return c
}

// Run keeps a tunnel open until ctx is done, or until Finish has done its work, and then returns nil. A [RefusedError]
// means that the gateway does not want this agent any more, so that trying again is of no use.
func (c *Client) Run(ctx context.Context) error {
	defer c.serving.Wait()
	defer c.sessions.Wait()
	wait := time.Duration(0)
	for {
	gateways:
		for _, address := range c.gateways() {
			began := time.Now()
			welcome, err := c.connect(ctx, address)
			var no *RefusedError
			switch {
			case ctx.Err() != nil, c.last.Err() != nil:
				return nil
			case errors.As(err, &no):
				return fmt.Errorf("the gateway at %s refuses this agent: %w", address, err)
			case errors.Is(err, errLeaving):
				c.options.Log.Info("another process of the gateway has taken over; connecting to it", "gateway", address)
				wait = 0
				break gateways
			}
			c.options.Log.Warn("not connected to the gateway, trying again", "gateway", address, "error", err)
			if welcome { // it was there, so it may be again
				if time.Since(began) > 2*retryMost { // else it may be what ended it that comes again
					wait = 0
				}
				break gateways
			}
		}
		wait = min(max(2*wait, retryFirst), retryMost)
		select {
		case <-ctx.Done():
			return nil
		case <-c.last.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait/2)): //nolint:gosec // chance, not secrecy
		}
	}
}

// gateways are the addresses in the order in which they are tried: first the one that was reached last, since those
// before it cost the time until they are given up.
func (c *Client) gateways() []string {
	all := c.identity.Load().Gateways
	c.mu.Lock()
	reached := c.reached
	c.mu.Unlock()
	if !slices.Contains(all, reached) {
		return all
	}
	out := []string{reached}
	for _, address := range all {
		if address != reached {
			out = append(out, address)
		}
	}
	return out
}

// errLeaving says that the session goes on by itself, and that another one is to be opened beside it.
var errLeaving = errors.New("the gateway's process is leaving")

// connect opens a tunnel and serves it until it ends, or until another process of the gateway takes over. It reports
// whether the gateway said welcome.
func (c *Client) connect(ctx context.Context, address string) (welcome bool, err error) {
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	defer context.AfterFunc(c.last, cancel)()
	conn, err := dialTLS(dialing, c.options.Dial, address, tunnelTLS(c.identity.Load(), c.options.Now))
	cancel()
	if err != nil {
		return false, err
	}
	mux, err := agentMux(conn)
	if err != nil {
		_ = conn.Close()
		return false, err
	}
	s := &clientSession{
		client: c, address: address, conn: conn.NetConn(), mux: mux, policies: make(chan *Policy, 1), lists: make(chan []revocation.Fetched, 1), out: make(chan toGateway, fromAgent),
		reports: make(chan report, reportsWaiting), left: make(chan struct{}),
	}
	ended := make(chan error, 1)
	c.sessions.Go(func() {
		defer func() { _ = conn.Close() }()
		defer func() { _ = mux.Close() }()
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		ended <- s.run(ctx)
	})
	select {
	case err := <-ended:
		return s.welcome.Every > 0, err
	case <-s.left:
		return true, errLeaving
	}
}

// Publish takes the record of a handshake, to report it. It never blocks.
func (c *Client) Publish(h *termination.Handshake) {
	r := handshakeReport(h)
	r.Handshake.Verdict.Explanation = termination.Explanation{} // the gateway knows more, and explains anew
	r.Handshake.Hello = nil                                     // it has read that itself
	c.report(r)
}

// Complete takes the end of a connection, likewise.
func (c *Client) Complete(e termination.ConnectionEnd) { c.report(endReport(e)) }

// report hands a report to the session through which the client came, if it is still there.
func (c *Client) report(r report) {
	id, err := r.id()
	if err != nil {
		return // the engine names what it tells about
	}
	c.mu.Lock()
	s := c.owners[id]
	if r.End != nil || r.Handshake != nil && !r.Handshake.Verdict.Outcome.In() {
		delete(c.owners, id) // the last word
	}
	c.mu.Unlock()
	if s == nil {
		return // nobody waits for it
	}
	select {
	case s.reports <- r:
	default:
		c.dropped.Add(1)
	}
}

// own notes through which session a client came.
func (c *Client) own(id string, s *clientSession) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owners[id] = s
}

// disown forgets the clients of a session that has ended, and the session.
func (c *Client) disown(s *clientSession) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == s {
		c.current = nil
	}
	for id, owner := range c.owners {
		if owner == s {
			delete(c.owners, id)
		}
	}
}

// Again calls Apply with the policy in force once more, as after a certificate has changed.
func (c *Client) Again() {
	select {
	case c.again <- struct{}{}:
	default:
	}
}

// Leave tells the gateway that the agent is stopping, so that it gets no more clients; those that it has stay.
func (c *Client) Leave() {
	c.leaving.Store(true)
	if s := c.session(); s != nil {
		_ = s.tell(s.state(0)) // else the gateway has noticed already
	}
}

// Finish ends Run once the gateway has everything that was written to clients and reported until now, both of which may
// still be on their way. It is called after the last of them; a gateway that does not answer ends with Run's ctx.
func (c *Client) Finish() { c.finish() }

// Certify gets a server certificate for a key from the gateway's local CA, for the names of the endpoint.
func (c *Client) Certify(ctx context.Context, key crypto.Signer) ([]*x509.Certificate, error) {
	s := c.session()
	if s == nil {
		return nil, ErrNotConnected
	}
	return s.certify(ctx, forServer, key)
}

func (c *Client) session() *clientSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// renew gets the agent its next certificate when two thirds of this one's life are over.
func (c *Client) renew(ctx context.Context, s *clientSession) error {
	id := c.identity.Load()
	if c.options.Now().Before(localca.DueAt(id.Certificate)) {
		return nil
	}
	chain, err := s.certify(ctx, forAgent, id.Key)
	if err != nil {
		return fmt.Errorf("renew the agent's certificate: %w", err)
	}
	next := *id
	next.Certificate = chain[0]
	if err := next.Check(); err != nil {
		return fmt.Errorf("renew the agent's certificate: %w", err)
	}
	c.identity.Store(&next)
	if err := c.options.Renewed(&next); err != nil {
		return fmt.Errorf("keep the agent's next certificate: %w", err)
	}
	return nil
}
