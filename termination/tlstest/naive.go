package tlstest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Flaw is a mistake that gateways have really made.
type Flaw int

// The mistakes of the naive server. Without any of them it withstands every
// attack of this package.
const (
	// SharedTickets: the configurations of the endpoints are children that
	// GetConfigForClient returns, so they share the parent's ticket keys, and a
	// ticket of one endpoint resumes at another (CVE-2025-23419 in nginx).
	SharedTickets Flaw = iota
	// VerifiesOnce: the policy is checked in VerifyPeerCertificate, which crypto/tls
	// does not call when a session is resumed, and configurations outlive the
	// policy that they were made for.
	VerifiesOnce
	// JudgesOnce: the policy is checked in the handshake, and never again on the
	// same connection.
	JudgesOnce
	// NilPool: an endpoint whose authorities are lost has a nil pool, which stands
	// for the system's roots (CVE-2026-27586 in Caddy).
	NilPool
	// PinAnywhere: a pin is looked for in the whole presented list, of which only
	// the first certificate is proven.
	PinAnywhere
	// RoutesByHost: the request's Host decides about the endpoint, whatever server
	// name its connection was let in by (CVE-2026-48491 in Traefik).
	RoutesByHost
	// ComparesHostRaw: Host and server name are compared as they were sent, but
	// the route is found by the normalised Host (CVE-2026-53622).
	ComparesHostRaw
	// OneRecord: only the first record of a ClientHello is looked at, and what
	// cannot be read goes by the default configuration (CVE-2026-32305 in Traefik).
	OneRecord
	// DefaultEndpoint: a missing or unknown server name goes to an endpoint that
	// nobody has named as the fallback.
	DefaultEndpoint
	// RawPrefix: the policy of a path is found by a prefix of the request target as
	// it was sent.
	RawPrefix
	// BelievesHeaders: identity headers from outside reach the upstream.
	BelievesHeaders
	// PinIssues: the pins are in the pool of trust, so a pinned certificate that says
	// CA:TRUE issues others.
	PinIssues
	// LaxestWins: of two endpoints with one name, the one that asks less is served.
	LaxestWins
	// AssertsUnverified: the service is told who a presented certificate says that
	// the client is, verified or not.
	AssertsUnverified
	// GoDefaults: no more is checked than what crypto/x509 checks when it is asked
	// about no usage.
	GoDefaults
	// NoBounds: neither the length of the chain nor the number of certificates is
	// bounded.
	NoBounds
	// NoDeadline: handshakes may take as long as they like (CVE-2026-22045 in
	// Traefik).
	NoDeadline
	// FetchesFromCertificate: the issuer, CRL and OCSP addresses in a client's
	// certificate are called.
	FetchesFromCertificate
	// RulesByName: a rule about names does not look at who has written them.
	RulesByName
	// TrustsPresented: a CA certificate in the presented list that has a familiar
	// name is trusted.
	TrustsPresented
)

// Naive starts a server of the World that makes these mistakes.
func Naive(flaws ...Flaw) func(testing.TB, *World) Target {
	return func(t testing.TB, w *World) Target {
		t.Helper()
		n := &naive{world: w, flaws: flaws}
		n.configure()
		listener := listen(t)
		n.serve(t, listener)
		return Target{
			Addr: listener.Addr().String(),
			Losses: []Loss{{
				Name: "only bob's pin", Endpoint: StaffName, As: w.Alice,
				Apply: func() {
					n.tight.Store(true)
					n.configure()
					n.closeLost()
				},
				Undo: func() {
					n.tight.Store(false)
					n.configure()
				},
			}},
			Orphan: func() {
				n.orphaned.Store(true)
				n.configure()
			},
			Double: func() {
				n.doubled.Store(true) // refused, but for one flaw
				n.configure()
			},
			Hurry: func() { n.hurried.Store(true) },
		}
	}
}

type naive struct {
	world *World
	flaws []Flaw

	tight    atomic.Bool // only Bob's pin opens the staff endpoint
	orphaned atomic.Bool // Orphan was called
	doubled  atomic.Bool // Double was called
	hurried  atomic.Bool // Hurry was called

	mu      sync.Mutex
	configs map[string]*tls.Config // by endpoint
	parent  *tls.Config            // of all of them, with SharedTickets
	open    map[*peeked][]*x509.Certificate
}

func (n *naive) has(f Flaw) bool { return slices.Contains(n.flaws, f) }

var errNotAdmitted = errors.New("not admitted")

// admit is the policy: who may enter an endpoint, given what was presented.
func (n *naive) admit(endpoint string, presented []*x509.Certificate) error {
	n.fetch(presented)
	if endpoint == OpenName || endpoint == LobbyName || endpoint == StaffName && n.doubled.Load() && n.has(LaxestWins) {
		return nil
	}
	if len(presented) == 0 {
		return errNotAdmitted
	}
	proven := presented[:1]
	if n.has(PinAnywhere) {
		proven = presented
	}
	isBob := slices.ContainsFunc(proven, n.world.Bob.X509.Equal)
	switch {
	case endpoint == VaultName:
		if isBob || slices.ContainsFunc(proven, n.world.Carol.X509.Equal) || n.has(PinIssues) && n.verify(presented, n.world.Carol.Pool()) == nil {
			return nil
		}
		return errNotAdmitted
	case endpoint == DeskName:
		return n.desk(presented)
	case n.tight.Load():
		if !isBob {
			return errNotAdmitted
		}
		return nil
	case n.orphaned.Load() && !n.has(NilPool):
		return errNotAdmitted
	}
	return n.chains(presented)
}

// configure builds the configuration of each endpoint afresh, with ticket keys
// of its own.
func (n *naive) configure() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.configs != nil && n.has(VerifiesOnce) {
		return
	}
	n.configs = make(map[string]*tls.Config)
	for _, endpoint := range endpointNames() {
		n.configs[endpoint] = n.config(endpoint)
	}
	configs := n.configs
	n.parent = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return configs[hello.ServerName], nil
	}}
}

func (n *naive) config(endpoint string) *tls.Config {
	config := &tls.Config{
		Certificates: []tls.Certificate{n.world.Server(endpoint).TLS()},
		NextProtos:   []string{"h2", "http/1.1"},
	}
	// What is presented is judged by admit alone.
	switch endpoint {
	case OpenName, LobbyName:
		config.ClientAuth = tls.RequestClientCert
	default:
		config.ClientAuth = tls.RequireAnyClientCert
		if endpoint == StaffName && n.doubled.Load() && n.has(LaxestWins) {
			config.ClientAuth = tls.NoClientCert
		}
	}
	if n.has(VerifiesOnce) {
		config.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
			presented := make([]*x509.Certificate, len(raw))
			for i, der := range raw {
				var err error
				if presented[i], err = x509.ParseCertificate(der); err != nil {
					return err
				}
			}
			return n.admit(endpoint, presented)
		}
	} else {
		config.VerifyConnection = func(state tls.ConnectionState) error {
			return n.admit(endpoint, state.PeerCertificates)
		}
	}
	return config
}

// serve accepts, finds the endpoint, shakes hands, and leaves the rest to an HTTP
// server.
func (n *naive) serve(t testing.TB, listener net.Listener) {
	ready := &handedOver{conns: make(chan net.Conn), ended: make(chan struct{}), addr: listener.Addr()}
	server := &http.Server{
		Handler: n.handler(),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, admittedKey{}, conn.(*tls.Conn).NetConn().(*peeked))
		},
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          quiet(),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(ready)
	}()
	t.Cleanup(func() { // after serveConns has ended
		server.Close()
		<-done
	})
	serveConns(t, listener, func(ctx context.Context, conn net.Conn) {
		switch {
		case n.has(NoDeadline):
		case n.hurried.Load():
			conn.SetDeadline(time.Now().Add(HandshakeTime))
		default:
			conn.SetDeadline(time.Now().Add(20 * time.Second))
		}
		p, err := n.peek(conn)
		if err != nil {
			return
		}
		inner := tls.Server(p, n.configFor(p))
		if inner.HandshakeContext(ctx) != nil {
			return
		}
		conn.SetDeadline(time.Time{})
		n.keep(p, inner.ConnectionState().PeerCertificates)
		defer n.forget(p)
		select {
		case ready.conns <- inner:
			<-p.closed // by the HTTP server, or because the test ends
		case <-ctx.Done():
		}
	})
}

func (n *naive) configFor(p *peeked) *tls.Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.has(SharedTickets) && !p.fallback {
		return n.parent
	}
	return n.configs[p.endpoint]
}

// handedOver is a listener whose connections have shaken hands already.
type handedOver struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
	addr  net.Addr
}

func (l *handedOver) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *handedOver) Close() error {
	l.once.Do(func() { close(l.ended) })
	return nil
}

func (l *handedOver) Addr() net.Addr { return l.addr }
