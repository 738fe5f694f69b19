package tunnel

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"countersign/termination"
	"countersign/termination/localca"
)

const (
	// confirmSoon is how long an agent may take to confirm a policy before it gets no more clients, and confirmLate
	// until it is cut off with those that it has.
	confirmSoon = 2 * time.Second
	confirmLate = 10 * time.Second
	// farewell is how long a refused agent has to read why.
	farewell = 2 * time.Second
)

// session is one agent that is online, at the gateway's end.
type session struct {
	server  *Server
	agent   termination.Agent // as the registry had it when it came
	conn    net.Conn
	mux     *yamux.Session
	control *yamux.Stream
	since   time.Time
	turn    uint64 // guarded by Server.mu

	connections atomic.Int64
	mute        atomic.Bool   // it did not answer a client, and was not heard since
	policies    chan struct{} // the configuration may mean another policy
	checks      chan struct{} // the registry may say otherwise
	replies     chan certificateReply
	lists       chan struct{} // the gateway may have other revocation lists
	leaves      chan struct{}
	refusals    chan refusal

	mu      sync.Mutex
	state   agentState
	pushed  uint64    // revision of the policy that was sent last
	behind  time.Time // since when that is not confirmed; zero: it is
	ends    time.Time // of the agent's certificate
	heard   time.Time
	beat    uint64
	beatAt  time.Time
	trip    time.Duration
	given   map[string]*Passage // by handshake
	why     error               // it ended
	refused bool
}

// tunnel serves one agent that has proven by its certificate who it is, until it goes.
func (s *Server) tunnel(conn *tls.Conn, greeted func()) error {
	mux, err := gatewayMux(conn)
	if err != nil {
		return err
	}
	defer func() { _ = mux.Close() }()
	n := &session{
		server: s, conn: conn.NetConn(), mux: mux, since: s.options.Now(), heard: time.Now(), given: map[string]*Passage{},
		policies: make(chan struct{}, 1), checks: make(chan struct{}, 1), replies: make(chan certificateReply, fromAgent), leaves: make(chan struct{}, 1), lists: make(chan struct{}, 1), refusals: make(chan refusal, 1),
	}
	// Until the agent has said who it is, the deadline of the connection holds.
	if n.control, err = mux.AcceptStream(); err != nil {
		return fmt.Errorf("wait for the control stream: %w", err)
	}
	var first toGateway
	if err := readFrame(n.control, maxState, &first); err != nil || first.Hello == nil {
		_ = n.sayNo(refusal{Code: refusedBusy, Text: "the gateway did not understand this agent; run the same version of countersign on both sides"})
		return fmt.Errorf("the agent did not say what it is: %w", err)
	}
	leaf := conn.ConnectionState().PeerCertificates[0] // there is one: see agentOf
	if no := n.admit(leaf, *first.Hello); no != nil {
		return n.sayNo(*no)
	}
	greeted()
	_ = conn.SetReadDeadline(time.Time{}) // fails only on a closed connection; beats watch from here on
	return n.run()
}

// admit decides whether an agent may come in: by the registry's row, whose key must be that of the certificate.
func (n *session) admit(leaf *x509.Certificate, hello agentHello) *refusal {
	s := n.server
	ctx, cancel := context.WithTimeout(s.stopped, registryTime)
	defer cancel()
	a, err := s.options.Registry.Agent(ctx, localca.AgentID(leaf))
	switch {
	case err != nil:
		return s.refusalOf(err)
	case a.Removed:
		return s.refusalOf(ErrAgentRemoved)
	case a.Key != termination.KeyFingerprintOf(leaf):
		return s.refusalOf(ErrAgentUnknown)
	}
	if _, e := s.current(a.EndpointID); e == nil {
		return endpointGone()
	}
	a.Name, a.Version, a.Address = clip(hello.Name, maxName), clip(hello.Version, maxName), addressOf(n.conn.RemoteAddr()).String()
	n.agent, n.ends = a, leaf.NotAfter
	return nil
}

func endpointGone() *refusal {
	return &refusal{Code: refusedEndpoint, Text: "the endpoint that this agent serves was removed on the gateway, or its TLS ends elsewhere now (terminate_at); make it anew, or stop this agent"}
}

// run carries the session until it ends.
func (n *session) run() error {
	s := n.server
	config, e := s.current(n.agent.EndpointID)
	if e == nil {
		return n.sayNo(*endpointGone())
	}
	stale := config.Agents.Stale()
	if err := n.send(toAgent{Welcome: &welcome{Endpoint: e.Name, Every: beatEvery(stale), Stale: stale}}); err != nil {
		return err
	}
	s.enter(n)
	s.options.Log.Info("an agent is online", "agent", n.agent.ID, "endpoint", e.Name, "from", n.agent.Address)
	n.configured() // what has changed since admit
	var parts sync.WaitGroup
	parts.Go(func() { n.end(n.write(beatEvery(stale))) })
	parts.Go(func() { n.end(n.read()) })
	parts.Go(func() { n.end(n.readReports()) })
	n.watch()
	s.leave(n)
	_ = n.mux.Close() // it is over either way
	parts.Wait()
	n.seen()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.why
}

// end ends the session for a reason; the first one counts.
func (n *session) end(err error) {
	n.mu.Lock()
	if n.why == nil {
		n.why = err
	}
	n.mu.Unlock()
	// Neither mux.Close, which waits for goroutines that may be waiting for us, nor TLS, which would say good-bye.
	_ = n.conn.Close()
}

// configured makes the session look at the configuration and the registry again. It never blocks.
func (n *session) configured() {
	for _, c := range [...]chan struct{}{n.policies, n.checks} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// leave makes the session tell the agent that another process has taken over. It never blocks.
func (n *session) leave() {
	select {
	case n.leaves <- struct{}{}:
	default:
	}
}

// mayComeBack reports whether an agent whose session has ended is likely to be back in a moment: one that was serving,
// and neither stopped by itself nor was refused.
func (n *session) mayComeBack() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.Revision > 0 && n.state.Problem == "" && !n.refused
}

// watch asks the registry whether the agent is still welcome, and returns when the session has ended.
func (n *session) watch() {
	tick := time.NewTicker(seenEvery)
	defer tick.Stop()
	var again <-chan time.Time
	n.seen()
	for {
		select {
		case <-n.mux.CloseChan():
			return
		case <-n.checks:
		case <-again:
		case <-tick.C:
			n.seen()
		}
		no, err := n.unwelcome()
		if again = nil; err != nil { // it may have been about this agent that we were to ask
			again = time.After(askAgain)
		}
		if no != nil {
			n.refuse()
			select {
			case n.refusals <- *no:
			default: // one is on its way
			}
		}
	}
}

// refuse keeps clients from the agent from here on, however long it takes until it has heard.
func (n *session) refuse() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refused = true
}

// unwelcome reports why the agent may no longer be here. A registry that does not answer removes nobody, and the error
// says so.
func (n *session) unwelcome() (*refusal, error) {
	s := n.server
	ctx, cancel := context.WithTimeout(s.stopped, registryTime)
	defer cancel()
	a, err := s.options.Registry.Agent(ctx, n.agent.ID)
	switch {
	case errors.Is(err, ErrAgentUnknown), errors.Is(err, ErrAgentRemoved):
		return s.refusalOf(err), nil
	case err != nil:
		s.failures.log(s.options, slog.LevelError, "cannot look up an agent that is online", "agent", n.agent.ID, "error", err)
		return nil, err
	case a.Removed:
		return s.refusalOf(ErrAgentRemoved), nil
	case a.EndpointID != n.agent.EndpointID || a.Key != n.agent.Key:
		return s.refusalOf(ErrAgentUnknown), nil
	}
	return nil, nil //nolint:nilnil // to be welcome is no error
}

func (n *session) seen() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.server.stopped), registryTime)
	defer cancel()
	a := n.agent
	a.Seen = n.server.options.Now()
	if err := n.server.options.Registry.Seen(ctx, a); err != nil {
		n.server.failures.log(n.server.options, slog.LevelError, "cannot note that an agent was seen", "agent", a.ID, "error", err)
	}
}

// send writes one message. Only the goroutine of write calls it once the session runs.
func (n *session) send(m toAgent) error {
	_ = n.control.SetWriteDeadline(time.Now().Add(connectTime)) // fails only on a closed stream
	return writeFrame(n.control, m)
}

// sayNo refuses the agent, and gives it the time to read why.
func (n *session) sayNo(no refusal) error {
	if err := n.send(toAgent{Refused: &no}); err == nil {
		_ = n.control.CloseWrite()
		select {
		case <-n.mux.CloseChan(): // it has read, and gone
		case <-time.After(farewell):
		}
	}
	if n.agent.ID == "" {
		return fmt.Errorf("the agent was refused: %s", no.Code)
	}
	return fmt.Errorf("agent %s was refused: %s", n.agent.ID, no.Code)
}

// write sends what there is to say: beats, policies, certificates, and a refusal at the end.
func (n *session) write(every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var lists outgoing
	for {
		var err error
		select {
		case <-n.mux.CloseChan():
			return errors.New("the connection to the agent broke")
		case no := <-n.refusals:
			return n.sayNo(no)
		case <-n.policies:
			every = n.pace(tick, every)
			if err = n.pushLists(&lists); err == nil {
				err = n.push(len(lists.parts) > 0)
			}
		case <-n.lists:
			err = n.pushLists(&lists)
		case <-lists.ready():
			err = n.pushPart(&lists)
		case r := <-n.replies:
			err = n.send(toAgent{Certificate: &r})
		case <-n.leaves:
			err = n.send(toAgent{Leaving: &leaving{}})
		case <-tick.C:
			err = n.sendBeat(every)
		}
		if err != nil {
			return err
		}
	}
}

// pace beats as often as the configuration wants it now.
func (n *session) pace(tick *time.Ticker, every time.Duration) time.Duration {
	config, _ := n.server.current(n.agent.EndpointID)
	if next := beatEvery(config.Agents.Stale()); next != every {
		tick.Reset(next)
		return next
	}
	return every
}

// sendBeat beats, unless the agent is to be given up.
func (n *session) sendBeat(every time.Duration) error {
	n.mu.Lock()
	now := time.Now()
	silent, behind := now.Sub(n.heard), !n.behind.IsZero() && now.Sub(n.behind) > confirmLate
	n.beat++
	n.beatAt = now
	b := beat{N: n.beat}
	n.mu.Unlock()
	switch {
	case silent > missedBeats*every+time.Second:
		return fmt.Errorf("the agent has not answered for %s", silent.Round(time.Millisecond))
	case behind:
		return errors.New("the agent did not put the policy into force")
	}
	return n.send(toAgent{Beat: &b})
}

// push sends the policy of the configuration in force, one at a time: the next when this one was confirmed. The first one
// waits for the revocation lists: an agent that serves without them might let somebody in.
func (n *session) push(listsMissing bool) error {
	config, e := n.server.current(n.agent.EndpointID)
	if e == nil {
		n.refuse()
		return n.sayNo(*endpointGone())
	}
	if !e.Enabled {
		return nil // it gets no clients
	}
	n.mu.Lock()
	wait := n.pushed == config.Revision || !n.behind.IsZero() || n.pushed == 0 && listsMissing
	if !wait {
		n.pushed, n.behind = config.Revision, time.Now()
	}
	n.mu.Unlock()
	if wait {
		return nil
	}
	policy, err := PolicyOf(config, e).MarshalJSON()
	if err != nil {
		return fmt.Errorf("encode the policy of endpoint %q: %w", e.Name, err)
	}
	return n.send(toAgent{Policy: policy})
}

// read takes what the agent says on the control stream.
func (n *session) read() error {
	for {
		var m toGateway
		if err := readFrame(n.control, maxState, &m); err != nil {
			return fmt.Errorf("read from the agent: %w", err)
		}
		switch {
		case m.State != nil:
			n.take(*m.State)
		case m.Certificate != nil:
			select {
			case n.replies <- n.certify(*m.Certificate):
			case <-n.mux.CloseChan():
				return errors.New("the connection to the agent broke")
			}
		default:
			return errors.New("the agent said nothing that is understood")
		}
	}
}

// take notes the state that an agent tells.
func (n *session) take(state agentState) {
	state.Problem = clip(state.Problem, maxText)
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.heard = now
	n.mute.Store(false)
	if state.Beat != 0 && state.Beat == n.beat {
		n.trip = now.Sub(n.beatAt)
	}
	if state.Revision > n.pushed {
		state.Revision = 0 // it cannot have what it was not given
	}
	n.state = state
	defer func() {
		if state.Revision > 0 && state.Problem == "" && state.Beat == 0 {
			n.server.rejoin.arrived()
		}
	}()
	if !n.behind.IsZero() && (state.Revision == n.pushed || state.Problem != "") {
		n.behind = time.Time{}
		select {
		case n.policies <- struct{}{}: // there may be a newer one
		default:
		}
	}
}

// certify answers a request for a certificate. Only the key is the agent's to choose.
func (n *session) certify(r certificateRequest) certificateReply {
	reply := certificateReply{Kind: r.Kind}
	chain, err := n.sign(r)
	if err != nil {
		reply.Error = clip(err.Error(), maxText)
		return reply
	}
	reply.Chain = ders(chain)
	return reply
}

func (n *session) sign(r certificateRequest) ([]*x509.Certificate, error) {
	s := n.server
	config, e := s.current(n.agent.EndpointID)
	if e == nil {
		return nil, errors.New("the endpoint is gone")
	}
	switch r.Kind {
	case forServer:
		return s.options.Sign(config, e, r.CSR)
	case forAgent:
		csr, err := localca.ReadRequest(r.CSR)
		if err != nil {
			return nil, err
		}
		if sha256.Sum256(csr.RawSubjectPublicKeyInfo) != n.agent.Key {
			return nil, errors.New("an agent keeps the key that it joined with")
		}
		if config.Agents.CA == nil {
			return nil, errors.New("there is no CA for agents")
		}
		cert, err := localca.SignAgent(config.Agents.CA, n.agent.ID, csr, s.options.Now())
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		n.ends = cert.NotAfter
		n.mu.Unlock()
		s.rejoin.arrived()
		return []*x509.Certificate{cert}, nil
	default:
		return nil, errors.New("no such certificate is issued here")
	}
}

// ready reports whether clients may be given to the agent.
func (n *session) ready() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.why != nil, n.refused, n.state.Revision == 0, n.state.Problem != "":
		return false
	case !n.behind.IsZero() && time.Since(n.behind) > confirmSoon:
		return false
	}
	return n.server.options.Now().Before(n.ends)
}

// troubled reports whether the agent says why it cannot serve.
func (n *session) troubled() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.Problem != ""
}

func (n *session) status() AgentStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := AgentStatus{
		ID: n.agent.ID, Name: n.agent.Name, EndpointID: n.agent.EndpointID, Since: n.since, Version: n.agent.Version,
		Address: n.agent.Address, Connections: int(n.connections.Load()), Revision: n.state.Revision,
		Problem: n.state.Problem, RoundTrip: n.trip, Dropped: n.state.Dropped,
	}
	if s.Problem == "" && !n.server.options.Now().Before(n.ends) {
		s.Problem = "the certificate by which it is known has ended and was not renewed; its log says why"
	}
	return s
}
