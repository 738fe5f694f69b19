package tunnel

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"countersign/termination/revocation"
)

// clientSession is one tunnel, at the agent's end.
type clientSession struct {
	client  *Client
	address string
	conn    net.Conn
	mux     *yamux.Session
	control *yamux.Stream
	welcome welcome

	policies chan *Policy              // the newest that was not put into force yet
	lists    chan []revocation.Fetched // likewise
	incoming incoming
	out      chan toGateway
	reports  chan report
	left     chan struct{} // closed when the gateway's process leaves: another session takes over

	revision atomic.Uint64 // of the policy in force; 0: none

	mu      sync.Mutex
	problem string
	why     error
	waiting map[certificateKind]chan certificateReply
	asking  sync.Mutex // one request of a certificate at a time

	accepting atomic.Bool // clients' connections are taken, or were
}

// renewalLook is how often an agent looks whether its certificate is due.
const renewalLook = time.Minute

// run greets the gateway and serves until the tunnel ends.
func (s *clientSession) run(ctx context.Context) error {
	reports, err := s.greet(ctx)
	if err != nil {
		return err
	}
	c := s.client
	c.mu.Lock()
	c.current, c.reached = s, s.address
	c.mu.Unlock()
	defer c.disown(s)
	c.options.Log.Info("connected to the gateway", "gateway", s.address, "endpoint", s.welcome.Endpoint)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	parts.Go(func() { s.end(s.write()) })
	parts.Go(func() { s.end(s.report(reports)) })
	parts.Go(func() { s.keepRenewed(ctx) })
	parts.Go(func() { s.apply(ctx) })
	s.end(s.read())
	_ = s.mux.Close() // it is over either way
	cancel()
	parts.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// greet opens the two streams of an agent and hears whether it is welcome.
func (s *clientSession) greet(ctx context.Context) (*yamux.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	var err error
	if s.control, err = s.mux.OpenStream(ctx); err != nil {
		return nil, fmt.Errorf("open the control stream: %w", err)
	}
	_ = s.control.SetDeadline(time.Now().Add(connectTime)) // fails only on a closed stream
	err = writeFrame(s.control, toGateway{Hello: &agentHello{Name: s.client.options.Name, Version: s.client.options.Version}})
	if err != nil {
		return nil, err
	}
	var m toAgent
	if err := readFrame(s.control, maxControl, &m); err != nil {
		return nil, fmt.Errorf("wait for the gateway's welcome: %w", err)
	}
	switch {
	case m.Refused != nil:
		return nil, m.Refused.asError()
	case m.Welcome == nil || m.Welcome.Every <= 0 || m.Welcome.Stale <= 0:
		return nil, errors.New("the gateway did not say welcome")
	}
	s.welcome = *m.Welcome
	_ = s.control.SetDeadline(time.Time{})
	reports, err := s.mux.OpenStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the stream of reports: %w", err)
	}
	return reports, nil
}

// end ends the session for a reason; the first one counts.
func (s *clientSession) end(err error) {
	s.mu.Lock()
	if s.why == nil {
		s.why = err
	}
	s.mu.Unlock()
	_ = s.conn.Close()
}

// patience is how long the agent goes on without a word of the gateway. Its policy may then be too old to decide who
// comes in, so everything closes; and nothing that is only late is taken for the end.
func (s *clientSession) patience() time.Duration {
	return min(s.welcome.Stale, missedBeats*s.welcome.Every+time.Second)
}

// read takes what the gateway says.
func (s *clientSession) read() error {
	for {
		_ = s.control.SetReadDeadline(time.Now().Add(s.patience())) // fails only on a closed stream, and then so does the read
		var m toAgent
		err := readFrame(s.control, maxControl, &m)
		switch {
		case errors.Is(err, yamux.ErrTimeout):
			return fmt.Errorf("the gateway was not heard of for %s, so that the policy may be stale: all connections were closed", s.patience())
		case err != nil:
			return fmt.Errorf("read from the gateway: %w", err)
		case m.Refused != nil:
			return m.Refused.asError()
		case m.Beat != nil:
			err = s.tell(s.state(m.Beat.N))
		case m.Policy != nil:
			err = s.takePolicy(m.Policy)
		case m.Certificate != nil:
			s.deliver(*m.Certificate)
		case m.Lists != nil, m.List != nil:
			err = s.heard(m)
		case m.Leaving != nil:
			s.leave()
		default:
			err = errors.New("the gateway said nothing that is understood")
		}
		if err != nil {
			return err
		}
	}
}

// leave ends what is no more this session's to decide: from now on it only carries the clients that it has.
func (s *clientSession) leave() {
	select {
	case <-s.left:
	default:
		close(s.left)
	}
}

// takePolicy reads a policy. One that is not understood leaves the agent without any.
func (s *clientSession) takePolicy(raw []byte) error {
	p := new(Policy)
	if err := p.UnmarshalJSON(raw); err != nil {
		return s.failed(err)
	}
	if p.Endpoint.ID != s.client.identity.Load().EndpointID {
		return s.failed(errors.New("the gateway sent the policy of another endpoint"))
	}
	s.welcome.Stale, s.welcome.Every = p.Stale, beatEvery(p.Stale)
	select {
	case <-s.policies: // the one before was not put into force yet
	default:
	}
	s.policies <- p // nobody else sends
	return nil
}

// failed tells the gateway why no policy is in force. Clients that came in under the one before are cut, with the whole
// tunnel; the next one takes none until a policy is in force.
func (s *clientSession) failed(err error) error {
	s.revision.Store(0)
	s.setProblem(err.Error())
	s.client.options.Log.Error("the gateway's policy cannot be put into force; nobody gets in", "error", err)
	if s.accepting.Load() {
		return fmt.Errorf("the gateway's policy cannot be put into force: %w", err)
	}
	return s.tell(s.state(0))
}

func (s *clientSession) setProblem(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = clip(text, maxText)
}

func (s *clientSession) state(n uint64) toGateway {
	s.mu.Lock()
	defer s.mu.Unlock()
	problem := s.problem
	if s.client.leaving.Load() {
		problem = "the agent is stopping"
	}
	return toGateway{State: &agentState{Beat: n, Revision: s.revision.Load(), Problem: problem, Dropped: s.client.dropped.Load()}}
}

// tell hands a message to the writer.
func (s *clientSession) tell(m toGateway) error {
	select {
	case s.out <- m:
		return nil
	case <-s.mux.CloseChan():
		return errors.New("the connection to the gateway broke")
	}
}

func (s *clientSession) write() error {
	for {
		select {
		case m := <-s.out:
			_ = s.control.SetWriteDeadline(time.Now().Add(connectTime)) // fails only on a closed stream
			if err := writeFrame(s.control, m); err != nil {
				return err
			}
		case <-s.mux.CloseChan():
			return errors.New("the connection to the gateway broke")
		}
	}
}

// apply puts policies into force, and lets clients in once there is one.
func (s *clientSession) apply(ctx context.Context) {
	var last *Policy
	var accepting sync.WaitGroup
	defer accepting.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.mux.CloseChan():
			return
		case <-s.left:
			return
		case <-s.client.again:
			if last == nil {
				continue
			}
		case lists := <-s.lists:
			s.takeLists(lists)
			continue
		case last = <-s.policies:
			select {
			case lists := <-s.lists: // they came before it
				s.takeLists(lists)
			default:
			}
		}
		if err := s.putIntoForce(ctx, last); err != nil {
			if err := s.failed(err); err != nil {
				s.end(err)
				return
			}
			continue
		}
		s.revision.Store(last.Revision)
		if !s.accepting.Swap(true) {
			accepting.Go(s.accept)
		}
		s.setProblem("")
		if s.tell(s.state(0)) != nil {
			return
		}
	}
}

// putIntoForce applies a policy, unless another session has taken over: that one's are newer.
func (s *clientSession) putIntoForce(ctx context.Context, p *Policy) error {
	s.client.applying.Lock()
	defer s.client.applying.Unlock()
	select {
	case <-s.left:
		return nil
	default:
		return s.client.options.Apply(ctx, p)
	}
}

// accept takes the clients' connections. While no policy is in force they are turned away unread, and the gateway
// tries another agent.
func (s *clientSession) accept() {
	for {
		inner, err := s.mux.AcceptStream()
		if err != nil {
			return
		}
		if s.revision.Load() == 0 || s.client.leaving.Load() {
			_ = inner.Reset()
			continue
		}
		s.client.serving.Go(func() {
			_ = inner.SetReadDeadline(time.Now().Add(openTime)) // fails only on a closed stream
			h, err := ReadHeader(inner)
			if err != nil {
				_ = inner.Reset()
				return
			}
			_ = inner.SetReadDeadline(time.Time{})
			s.client.own(h.Handshake, s)
			s.client.options.Serve(newStream(inner, h), h)
		})
	}
}

// report sends what the engine has to tell. The end of the stream is the last word of all: what the gateway has read
// before it is everything, and it ends the tunnel then.
func (s *clientSession) report(stream *yamux.Stream) error {
	for {
		select {
		case r := <-s.reports:
			if err := sendReport(stream, r); err != nil {
				return err
			}
		case <-s.client.last.Done():
			if err := s.lastReports(stream); err != nil {
				return err
			}
			<-s.mux.CloseChan()
			return errors.New("the agent has stopped")
		case <-s.mux.CloseChan():
			return errors.New("the connection to the gateway broke")
		}
	}
}

func (s *clientSession) lastReports(stream *yamux.Stream) error {
	for {
		select {
		case r := <-s.reports:
			if err := sendReport(stream, r); err != nil {
				return err
			}
		default:
			return stream.CloseWrite()
		}
	}
}

func sendReport(stream *yamux.Stream, r report) error {
	_ = stream.SetWriteDeadline(time.Now().Add(connectTime)) // fails only on a closed stream
	return writeFrame(stream, r)
}

func (s *clientSession) keepRenewed(ctx context.Context) {
	tick := time.NewTicker(renewalLook)
	defer tick.Stop()
	for {
		if err := s.client.renew(ctx, s); err != nil && ctx.Err() == nil {
			s.client.options.Log.Warn("the agent's certificate was not renewed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.left:
			return
		case <-tick.C:
		}
	}
}

// certify asks the gateway for a certificate.
func (s *clientSession) certify(ctx context.Context, kind certificateKind, key crypto.Signer) ([]*x509.Certificate, error) {
	csr, err := request(key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	s.asking.Lock()
	defer s.asking.Unlock()
	reply := make(chan certificateReply, 1)
	s.mu.Lock()
	s.waiting = map[certificateKind]chan certificateReply{kind: reply}
	s.mu.Unlock()
	if err := s.tell(toGateway{Certificate: &certificateRequest{Kind: kind, CSR: csr}}); err != nil {
		return nil, err
	}
	select {
	case r := <-reply:
		if r.Error != "" {
			return nil, fmt.Errorf("the gateway issues no certificate: %s", clip(r.Error, maxText))
		}
		return parseChain(r.Chain)
	case <-s.mux.CloseChan():
		return nil, ErrNotConnected
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a certificate from the gateway: %w", context.Cause(ctx))
	}
}

// deliver hands a certificate to who asked for it.
func (s *clientSession) deliver(r certificateReply) {
	s.mu.Lock()
	reply := s.waiting[r.Kind]
	delete(s.waiting, r.Kind)
	s.mu.Unlock()
	if reply != nil {
		reply <- r // it has room for one
	}
}
