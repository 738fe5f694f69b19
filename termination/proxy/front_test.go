package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient is how long a test waits for what must happen.
const patient = 20 * time.Second

// front is a small gateway: it ends TLS on one listener, asks every client for a certificate and lets everyone in, so
// that whoever gets further than they should got past the proxy.
type front struct {
	t       testing.TB
	proxy   *Proxy
	address netip.AddrPort
	ca      *tlstest.Cert // vouches for the server
	clients *tlstest.Cert // the authority "devices"
	others  *tlstest.Cert // the authority "partners"

	identities  []termination.Identity // of the configuration, as what follows
	blocked     []termination.Block    // from the next apply on
	credentials []termination.Credential
	revocation  *revocation.Registry

	listener net.Listener
	server   *http.Server
	ready    chan net.Conn
	ended    context.Context
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]*frontConn
	notes []Note
	noted chan struct{} // closed and made anew with every note
}

// frontConn is what the front knows of a connection.
type frontConn struct {
	http   *Conn
	raw    net.Conn
	closed chan struct{} // closes when the proxy asks for the end of the connection, or the server ends it
}

// endedConn tells when the server closes it.
type endedConn struct {
	net.Conn
	over func()
}

func (c *endedConn) Close() error {
	c.over()
	return c.Conn.Close()
}

type frontOptions struct {
	proxy   Options
	clients *tlstest.Cert // the authority "devices"; nil: a new one
}

func newFront(t testing.TB, o frontOptions) *front {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(context.Background())
	f := &front{
		t: t, proxy: New(o.proxy), listener: listener, address: listener.Addr().(*net.TCPAddr).AddrPort(),
		ca: tlstest.NewCA(), clients: tlstest.NewCA(tlstest.CN("Devices")), others: tlstest.NewCA(tlstest.CN("Partners")),
		revocation: revocation.New(revocation.Options{}),
		ready:      make(chan net.Conn), ended: ended, conns: map[net.Conn]*frontConn{}, noted: make(chan struct{}),
	}
	if o.clients != nil {
		f.clients = o.clients
	}
	f.server = NewServer(f.proxy, ServerOptions{
		Limits: termination.DefaultLimits(),
		Log:    slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Conn:   func(nc net.Conn) *Conn { return f.conn(nc).http },
	})
	f.running.Go(func() { _ = f.server.Serve(f) })
	f.running.Go(f.accept)
	t.Cleanup(func() {
		end()
		_ = listener.Close()
		_ = f.server.Close()
		f.mu.Lock()
		for nc := range f.conns {
			_ = nc.Close()
		}
		f.mu.Unlock()
		f.running.Wait()
		f.proxy.Close()
	})
	return f
}

// Accept, Close and Addr make the front the listener of its HTTP server.
func (f *front) Accept() (net.Conn, error) {
	select {
	case c := <-f.ready:
		return c, nil
	case <-f.ended.Done():
		return nil, net.ErrClosed
	}
}

func (f *front) Close() error   { return nil }
func (f *front) Addr() net.Addr { return f.listener.Addr() }

func (f *front) conn(nc net.Conn) *frontConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns[nc]
}

func (f *front) accept() {
	server := f.ca.Server("public.test", tlstest.DNS("private.test", "*.wild.test", "open.test", "strict.test", "raw.test", "broken.test"), tlstest.IP("127.0.0.1")).TLS()
	for {
		raw, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.running.Go(func() { f.handshake(raw, server) })
	}
}

func (f *front) handshake(raw net.Conn, certificate tls.Certificate) {
	_ = raw.SetDeadline(time.Now().Add(patient))
	ended := make(chan struct{})
	var once sync.Once
	over := func() { once.Do(func() { close(ended) }) }
	conn := tls.Server(&endedConn{raw, over}, &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"},
	})
	if err := conn.Handshake(); err != nil {
		_ = raw.Close()
		return
	}
	_ = raw.SetDeadline(time.Time{})
	state := conn.ConnectionState()
	site, _ := f.proxy.current.Load().table.Lookup(f.address, state.ServerName)
	if site == nil {
		_ = raw.Close()
		return
	}
	rec := &termination.Handshake{
		ID: termination.NewID(termination.PrefixHandshake, time.Now()), EndpointID: site.Endpoint.ID,
		Peer: raw.RemoteAddr().(*net.TCPAddr).AddrPort(), Local: f.address,
		Hello: &termination.ClientHello{ServerName: state.ServerName},
		Chosen: &termination.Negotiated{
			Version: state.Version, CipherSuite: state.CipherSuite, Group: uint16(state.CurveID), ALPN: state.NegotiatedProtocol,
			PostQuantum: state.CurveID == tls.X25519MLKEM768, Resumed: state.DidResume,
		},
		Presented: state.PeerCertificates,
	}
	c := &frontConn{raw: raw, closed: ended}
	f.mu.Lock()
	c.http = NewConn(ConnOptions{
		Handshake: rec, Listen: f.address, Visit: int64(len(f.conns) + 1), Note: f.note,
		Close: func() {
			over()
			_ = raw.Close()
		},
	})
	f.conns[conn] = c
	f.mu.Unlock()
	select {
	case f.ready <- conn:
	case <-f.ended.Done():
		_ = conn.Close()
	}
}

// only returns the one connection that there is.
func (f *front) only() *frontConn {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.conns) != 1 {
		f.t.Fatalf("%d connections, want one", len(f.conns))
	}
	for _, c := range f.conns {
		return c
	}
	return nil
}

func (f *front) note(n Note) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notes = append(f.notes, n)
	close(f.noted)
	f.noted = make(chan struct{})
}

// waitNote waits for a note with that reason.
func (f *front) waitNote(reason termination.Reason) Note {
	f.t.Helper()
	deadline := time.After(patient)
	for {
		f.mu.Lock()
		notes, more := f.notes, f.noted
		f.mu.Unlock()
		for _, n := range notes {
			if n.Reason == reason {
				return n
			}
		}
		select {
		case <-more:
		case <-deadline:
			f.t.Fatalf("no note says %q; there are %+v", reason, notes)
		}
	}
}

// noNote fails the test if a note has that reason.
func (f *front) noNote(reason termination.Reason) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.notes {
		if n.Reason == reason {
			f.t.Errorf("noted %+v", n)
		}
	}
}

// endpoint makes an https endpoint of the front; change says what is special about it.
func (f *front) endpoint(host, upstream string, change ...func(*termination.Endpoint)) termination.Endpoint {
	f.t.Helper()
	u, err := termination.ParseUpstream(upstream)
	if err != nil {
		f.t.Fatal(err)
	}
	e := termination.Endpoint{
		ID: "ep_" + host, Name: host, Enabled: true, Scheme: termination.SchemeHTTPS, Host: host,
		Listen: f.address.Addr(), Port: f.address.Port(), TerminateAt: termination.AtEdge, Upstream: u,
		ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose},
	}
	if host == "" {
		e.Name, e.ID = "fallback", "ep_fallback"
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

// mode gives an endpoint a client policy on the authority "devices".
func mode(m termination.Mode) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) {
		e.ClientAuth.Mode = m
		if m != termination.ModeOff {
			e.ClientAuth.Authorities = []string{"devices"}
		}
	}
}

func forwardNginx(e *termination.Endpoint) {
	e.ForwardIdentity = []termination.IdentityFormat{termination.IdentityNginx}
}

func onLoss(l termination.OnLoss) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) { e.ClientAuth.OnLoss = l }
}

func trusting(authority string) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) { e.ClientAuth.Authorities = []string{authority} }
}

// route adds a route with a policy of its own, or, with an empty mode, the endpoint's.
func route(path string, m termination.Mode) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) {
		r := termination.Route{Path: path}
		if m != "" {
			r.ClientAuth = &termination.ClientAuth{Mode: m, OnLoss: termination.OnLossClose}
			if m != termination.ModeOff {
				r.ClientAuth.Authorities = []string{"devices"}
			}
		}
		e.Routes = append(e.Routes, r)
	}
}

// apply serves these endpoints from now on.
func (f *front) apply(endpoints ...termination.Endpoint) {
	f.t.Helper()
	f.proxy.Swap(f.table(endpoints...))
}

func (f *front) table(endpoints ...termination.Endpoint) *Table {
	f.t.Helper()
	config := &termination.Config{
		Limits: termination.DefaultLimits(), Endpoints: endpoints,
		Identities: f.identities, Blocked: f.blocked, Credentials: f.credentials,
	}
	for name, ca := range map[string]*tlstest.Cert{"devices": f.clients, "partners": f.others} {
		config.Authorities = append(config.Authorities, termination.Authority{
			ID: "ca_" + name, Name: name, Certificates: []termination.CACertificate{{Certificate: ca.X509, Role: termination.RoleAnchor}},
		})
	}
	f.revocation.Apply(config)
	scope := verify.Scope{Revocation: f.revocation}
	var sites []*Site
	for i := range endpoints {
		e := &endpoints[i]
		var policy *verify.Policy
		var err error
		if e.TerminateAt == termination.AtEdge {
			scope.Endpoint = e.Name
			if policy, err = verify.Compile(config, e.PolicyFor(nil), scope); err != nil {
				f.t.Fatal(err)
			}
		}
		site, err := NewSite(config, e, policy, scope)
		if err != nil {
			f.t.Fatal(err)
		}
		sites = append(sites, site)
	}
	table, err := NewTable(sites...)
	if err != nil {
		f.t.Fatal(err)
	}
	table.UseCredentials(config)
	return table
}
