package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
)

const (
	// mostConnections bounds what is open on the listener for agents, and mostGreeting what has not proven yet that it
	// is an agent: of all, and of one address, so that one stranger does not keep all agents away.
	mostConnections     = 4096
	mostGreeting        = 512
	mostGreetingAddress = 32
	// seenEvery is how often the registry is asked about an agent that is online, and told that it is.
	seenEvery = time.Minute
	// registryTime bounds one question to the registry.
	registryTime = 5 * time.Second
	// askAgain is how long after a question that failed it is asked again.
	askAgain = 2 * time.Second
)

// ServerOptions are what the gateway's end needs.
type ServerOptions struct {
	Registry Registry
	// Sign issues a server certificate for the key of a certificate request, for the names of an endpoint as the
	// configuration has them.
	Sign func(config *termination.Config, e *termination.Endpoint, csr []byte) ([]*x509.Certificate, error)
	// Lists returns the revocation lists that the gateway has fetched, and the generation that they belong to. Nil: it
	// fetches none.
	Lists func() ([]revocation.Fetched, uint64)
	Log   *slog.Logger
	Now   func() time.Time
}

// Server is the gateway's end of all tunnels. It serves nobody until Apply.
type Server struct {
	options     ServerOptions
	certificate listenerCertificate
	joins       joinLimits
	strangers   logLimit // lines about who is no agent
	failures    logLimit // lines about the registry, which all agents need
	stop        context.CancelFunc
	stopped     context.Context
	work        sync.WaitGroup

	mu       sync.Mutex
	config   *termination.Config
	tls      *tls.Config // nil: nobody can connect
	closed   bool
	open     int
	greeting map[netip.Addr]int // by network
	greeters int
	sessions []*session // online, in the order in which they came
	rejoin   rejoining
	turn     uint64 // of Open, to take turns
}

// NewServer returns a Server. It runs until Close.
func NewServer(o ServerOptions) *Server {
	s := &Server{options: o, greeting: map[netip.Addr]int{}, rejoin: newRejoining(o.Registry)}
	s.certificate.now = o.Now
	s.stopped, s.stop = context.WithCancel(context.Background())
	return s
}

// Apply tells about a new configuration: agents get the policies that they need of it, and those that it no longer
// admits are cut off. It does not wait for them.
func (s *Server) Apply(config *termination.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.config
	s.config = config
	ca := config.Agents.CA
	s.certificate.use(ca)
	switch {
	case ca == nil || s.options.Registry == nil:
		s.tls = nil
	case s.tls == nil || before.Agents.CA == nil || !ca.Certificate.Equal(before.Agents.CA.Certificate):
		s.tls = listenerTLS(s.certificate.get, ca.Certificate, s.options.Now)
	}
	for _, session := range s.sessions {
		session.configured()
	}
	s.rejoin.keep(config)
}

// Leave tells the agents that another process of this gateway listens now. They connect to that one, and the clients
// that they have here stay.
func (s *Server) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, session := range s.sessions {
		session.leave()
	}
}

// Take serves a connection that was accepted on the listener for agents. It returns at once.
func (s *Server) Take(conn net.Conn) {
	from := networkOf(addressOf(conn.RemoteAddr()))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.tls == nil || s.open >= mostConnections || s.greeters >= mostGreeting || s.greeting[from] >= mostGreetingAddress {
		_ = conn.Close() // an agent tries again
		return
	}
	s.open++
	s.greeters++
	s.greeting[from]++
	config := s.tls
	s.work.Go(func() {
		greeted := sync.OnceFunc(func() { s.hasGreeted(from) })
		defer s.hasClosed()
		defer greeted()
		defer conn.Close()
		stop := context.AfterFunc(s.stopped, func() { _ = conn.Close() })
		defer stop()
		s.serve(conn, config, greeted)
	})
}

func (s *Server) hasClosed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

func (s *Server) hasGreeted(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.greeters--
	if s.greeting[from]--; s.greeting[from] <= 0 {
		delete(s.greeting, from)
	}
}

// serve is the story of one connection to the listener for agents.
func (s *Server) serve(raw net.Conn, config *tls.Config, greeted func()) {
	_ = raw.SetDeadline(time.Now().Add(connectTime)) // fails only on a closed connection, and then so does the rest
	conn := tls.Server(raw, config)
	if err := conn.HandshakeContext(s.stopped); err != nil {
		s.strangers.log(s.options, slog.LevelInfo, "a connection to the listener for agents was refused", "from", raw.RemoteAddr().String(), "error", err)
		return
	}
	if conn.ConnectionState().NegotiatedProtocol == protocolJoin {
		s.join(conn)
		return
	}
	if err := s.tunnel(conn, greeted); err != nil && s.stopped.Err() == nil {
		s.options.Log.Info("an agent's tunnel ended", "from", raw.RemoteAddr().String(), "error", err)
	}
}

// Close cuts all tunnels, and returns when every goroutine of the server has ended. Take must not be called any more.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.work.Wait()
}

// current is the configuration in force, and the endpoint of that ID where agents terminate for it; else nil.
func (s *Server) current(endpointID string) (*termination.Config, *termination.Endpoint) {
	s.mu.Lock()
	config := s.config
	s.mu.Unlock()
	return config, agentEndpoint(config, func(e *termination.Endpoint) bool { return e.ID == endpointID })
}

func agentEndpoint(config *termination.Config, is func(*termination.Endpoint) bool) *termination.Endpoint {
	if config == nil {
		return nil
	}
	for i := range config.Endpoints {
		if e := &config.Endpoints[i]; e.TerminateAt == termination.AtAgent && is(e) {
			return e
		}
	}
	return nil
}

// enter makes a session one of those online. A session of the same agent ends: its connection is one that broke without
// our knowing.
func (s *Server) enter(n *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = slices.DeleteFunc(s.sessions, func(o *session) bool {
		if o.agent.ID != n.agent.ID {
			return false
		}
		o.end(errReplaced)
		return true
	})
	s.sessions = append(s.sessions, n)
}

func (s *Server) leave(n *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.mayComeBack() {
		s.rejoin.lost(n.agent.EndpointID)
	}
	s.sessions = slices.DeleteFunc(s.sessions, func(o *session) bool { return o == n })
}

var errReplaced = errors.New("the agent has connected anew")

// Agents tells who is online, in the order in which they came.
func (s *Server) Agents() []AgentStatus {
	s.mu.Lock()
	config, sessions := s.config, slices.Clone(s.sessions)
	s.mu.Unlock()
	out := make([]AgentStatus, 0, len(sessions))
	for _, n := range sessions {
		status := n.status()
		if e := agentEndpoint(config, func(e *termination.Endpoint) bool { return e.ID == status.EndpointID }); e != nil {
			status.Endpoint = e.Name
		}
		out = append(out, status)
	}
	return out
}

// hopeless reports whether agents of the endpoint are online that say, all of them, why they cannot serve: then waiting
// for them is of no use.
func (s *Server) hopeless(endpointID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	online := false
	for _, n := range s.sessions {
		if n.agent.EndpointID == endpointID {
			if !n.troubled() {
				return false
			}
			online = true
		}
	}
	return online
}

// choose returns the agent that serves the endpoint with the fewest connections, of those that answer if there are any;
// nil: none is online that was not tried yet. It counts the connection.
func (s *Server) choose(endpointID string, tried []*session) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best *session
	for _, n := range s.sessions {
		if n.agent.EndpointID != endpointID || slices.Contains(tried, n) || !n.ready() {
			continue
		}
		if best == nil || n.before(best) {
			best = n
		}
	}
	if best != nil {
		s.turn++
		best.turn = s.turn
		best.connections.Add(1)
	}
	return best
}

// before reports whether a client is better given to this session than to the other: to one that answers, then to that
// with the fewest connections, then to that which has waited longest. The lock of the server is held.
func (n *session) before(o *session) bool {
	if mute := n.mute.Load(); mute != o.mute.Load() {
		return !mute
	}
	if d := n.connections.Load() - o.connections.Load(); d != 0 {
		return d < 0
	}
	return n.turn < o.turn
}
