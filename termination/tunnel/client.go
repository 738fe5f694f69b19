package tunnel

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
	"countersign/termination/localca"
)

// An agent whose tunnel broke tries again after retryFirst, then after twice that and so on up to retryMost, each time
// shortened by chance so that not all come at once. With a connection that takes no longer than retryMost, a gateway
// that was restarted has its agents back within five seconds.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 2 * time.Second
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
	// Serve takes a client's connection over.
	Serve func(s *Stream, h Header)
	// Renewed keeps the agent's next certificate.
	Renewed func(id *Identity) error
}

// Client is an agent's end of the tunnel. It takes the records of the agent's own engine and reports them.
type Client struct {
	options  ClientOptions
	identity atomic.Pointer[Identity]
	reports  chan report
	dropped  atomic.Uint64
	again    chan struct{} // Apply is to be called again
	leaving  atomic.Bool

	serving sync.WaitGroup // goroutines that hand connections over

	mu      sync.Mutex
	current *clientSession // nil: not connected
}

// ErrNotConnected says that the agent has no connection to its gateway at the moment.
var ErrNotConnected = errors.New("the agent is not connected to the gateway right now")

// NewClient returns a Client. It does nothing until Run.
func NewClient(o ClientOptions) *Client {
	c := &Client{options: o, reports: make(chan report, reportsWaiting), again: make(chan struct{}, 1)}
	c.identity.Store(o.Identity)
	return c
}

// Run keeps a tunnel open until ctx is done, and then returns nil. A [RefusedError] means that the gateway does not
// want this agent any more, so that trying again is of no use.
func (c *Client) Run(ctx context.Context) error {
	defer c.serving.Wait()
	wait := time.Duration(0)
	for {
		for _, address := range c.identity.Load().Gateways {
			began := time.Now()
			err := c.connect(ctx, address)
			var no *RefusedError
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.As(err, &no):
				return fmt.Errorf("the gateway at %s refuses this agent: %w", address, err)
			}
			c.options.Log.Warn("not connected to the gateway, trying again", "gateway", address, "error", err)
			if time.Since(began) > 2*retryMost { // it was up, so it may be again
				wait = 0
			}
		}
		wait = min(max(2*wait, retryFirst), retryMost)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait/2)): //nolint:gosec // chance, not secrecy
		}
	}
}

// connect opens a tunnel and serves it until it ends.
func (c *Client) connect(ctx context.Context, address string) error {
	dialing, cancel := context.WithTimeout(ctx, connectTime)
	conn, err := dialTLS(dialing, c.options.Dial, address, tunnelTLS(c.identity.Load(), c.options.Now))
	cancel()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	mux, err := agentMux(conn)
	if err != nil {
		return err
	}
	defer func() { _ = mux.Close() }()
	s := &clientSession{client: c, address: address, conn: conn.NetConn(), mux: mux, policies: make(chan *Policy, 1), out: make(chan toGateway, fromAgent)}
	return s.run(ctx)
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

func (c *Client) report(r report) {
	select {
	case c.reports <- r:
	default:
		c.dropped.Add(1)
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
