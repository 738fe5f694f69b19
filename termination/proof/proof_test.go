package proof_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/localca"
	"countersign/termination/proof"
	"countersign/termination/tlstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a gateway to prove things about, with a local CA.
type world struct {
	t       *testing.T
	gateway *gateway.Gateway
	hub     *live.Hub
	config  *termination.Config
	ca      *termination.LocalCA
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ca, err := localca.Create(localca.Options{Name: "Local CA", Constrained: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	foreign := tlstest.NewCA(tlstest.CN("Partner CA"))
	w := &world{t: t, hub: live.New(live.Options{}), ca: ca, config: &termination.Config{
		Revision: 1, Node: "node_test", Limits: termination.DefaultLimits(), LocalCAs: []termination.LocalCA{*ca},
		Authorities: []termination.Authority{
			{ID: "ca_1", Name: "Local CA", Certificates: []termination.CACertificate{{Certificate: ca.Certificate, Role: termination.RoleAnchor}}},
			{ID: "ca_2", Name: "Partner", Certificates: []termination.CACertificate{{Certificate: foreign.X509, Role: termination.RoleAnchor}}},
		},
	}}
	w.gateway = gateway.New(gateway.Options{Hub: w.hub})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = w.gateway.Close(ctx)
		_ = w.hub.Close(ctx)
	})
	return w
}

// endpoint adds an https endpoint in front of whoami.
func (w *world) endpoint(name string, change func(*termination.Endpoint)) {
	e := termination.Endpoint{
		ID: "ep_" + name, Name: name, Enabled: true, Scheme: termination.SchemeHTTPS, Host: name + ".localhost",
		Listen: netip.MustParseAddr("127.0.0.1"), TerminateAt: termination.AtEdge, Port: freePort(w.t),
		Upstream:   termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami},
		ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, Announce: true, OnLoss: termination.OnLossClose},
	}
	if change != nil {
		change(&e)
	}
	w.config.Endpoints = append(w.config.Endpoints, e)
}

func (w *world) apply() {
	w.t.Helper()
	if err := w.gateway.Apply(context.Background(), w.config); err != nil {
		w.t.Fatal(err)
	}
}

// prove runs the proof of an endpoint through the gateway's own listener, or through another address.
func (w *world) prove(name string, elsewhere net.Listener) *proof.Report {
	w.t.Helper()
	e := w.config.Endpoint(name)
	o := proof.Options{
		Config: w.config, Endpoint: e, Direct: (&net.Dialer{}).DialContext,
		Dial: func(ctx context.Context) (proof.Connection, error) {
			p, err := w.gateway.DialProbe(ctx, e.Address())
			if err != nil {
				return proof.Connection{}, err
			}
			return proof.Connection{Conn: p, Record: p.Record()}, nil
		},
	}
	if elsewhere != nil {
		o.Patience = 500 * time.Millisecond
		o.Dial = func(ctx context.Context) (proof.Connection, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", elsewhere.Addr().String())
			return proof.Connection{Conn: c}, err
		}
	}
	report, err := proof.Run(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

// results lists what came of each try.
func results(r *proof.Report) string {
	var out []string
	for _, l := range r.Lines {
		s := string(l.Try) + " " + string(l.Result)
		if l.Happened != "" {
			s += " (" + l.Happened + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, "\n")
}

func lineOf(t *testing.T, r *proof.Report, try proof.Try) proof.Line {
	t.Helper()
	i := slices.IndexFunc(r.Lines, func(l proof.Line) bool { return l.Try == try })
	if i < 0 {
		t.Fatalf("nothing was tried of %s:\n%s", try, results(r))
	}
	return r.Lines[i]
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// Every mode, with both TLS versions as the lowest, with a CA whose key is here and one whose key is not: the gateway
// does what its policy says, and the proof says what it could not show.
func TestModesHold(t *testing.T) {
	w := newWorld(t)
	modes := []termination.Mode{termination.ModeOff, termination.ModeRequest, termination.ModeRequireAny, termination.ModeOptional, termination.ModeRequire}
	name := func(mode termination.Mode, version uint16, ca string) string {
		return fmt.Sprintf("%s-%x-%s", strings.ReplaceAll(string(mode), "_", "-"), version, strings.ToLower(ca[:5]))
	}
	for _, mode := range modes {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, ca := range []string{"Local CA", "Partner"} {
				w.endpoint(strings.TrimSpace(name(mode, version, ca)), func(e *termination.Endpoint) {
					e.MinVersion, e.ClientAuth.Mode = version, mode
					if mode != termination.ModeOff {
						e.ClientAuth.Authorities = []string{ca}
					}
				})
			}
		}
	}
	w.apply()
	in, out := "holds (let in)", "holds (refused)"
	table := map[termination.Mode]map[proof.Try]string{
		termination.ModeOff:        {proof.TryNone: in, proof.TryStranger: in},
		termination.ModeRequest:    {proof.TryNone: in, proof.TryStranger: in, proof.TryTrusted: in, proof.TryExpired: in, proof.TryWrongUse: in},
		termination.ModeRequireAny: {proof.TryNone: out, proof.TryStranger: in, proof.TryTrusted: in, proof.TryExpired: in, proof.TryWrongUse: in},
		termination.ModeOptional:   {proof.TryNone: in, proof.TryStranger: out, proof.TryTrusted: in, proof.TryExpired: out, proof.TryWrongUse: out},
		termination.ModeRequire:    {proof.TryNone: out, proof.TryStranger: out, proof.TryTrusted: in, proof.TryExpired: out, proof.TryWrongUse: out},
	}
	for _, mode := range modes {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, ca := range []string{"Local CA", "Partner"} {
				n := strings.TrimSpace(name(mode, version, ca))
				t.Run(n, func(t *testing.T) {
					t.Parallel()
					r := w.prove(n, nil)
					if r.Result != proof.Holds {
						t.Fatalf("%s:\n%s\n%+v", r.Result, results(r), r.Lines)
					}
					for try, want := range table[mode] {
						l := lineOf(t, r, try)
						got := fmt.Sprintf("%s (%s)", l.Result, l.Happened)
						if ca == "Partner" && (try == proof.TryTrusted || try == proof.TryExpired || try == proof.TryWrongUse) {
							want = "not_shown ()"
						}
						if got != want {
							t.Errorf("%s: %s, want %s", try, got, want)
						}
						if (l.Handshake == "") != (l.Result == proof.NotShown) {
							t.Errorf("%s: handshake %q", try, l.Handshake)
						}
						if l.Happened == "refused" && l.Alert == nil {
							t.Errorf("%s is refused without an alert", try)
						}
					}
					// Of Partner no certificate can be made, so TLS 1.2 is told from the alert.
					l12 := lineOf(t, r, proof.TryTLS12)
					refused12 := version == tls.VersionTLS13
					if byVersion := l12.Alert != nil && l12.Alert.Number == 70; l12.Result != proof.Holds || byVersion != refused12 || l12.Weak == refused12 {
						t.Errorf("TLS 1.2: %+v", l12)
					}
					if l11 := lineOf(t, r, proof.TryTLS11); l11.Result != proof.Holds || l11.Happened != "refused" {
						t.Errorf("TLS 1.1: %+v", l11)
					}
				})
			}
		}
	}
	t.Cleanup(func() {
		if c := w.hub.Counts(time.Minute, ""); c.Total() != 0 {
			t.Errorf("proofs are counted: %+v", c)
		}
	})
}

// What is told apart by more than the certificate: routes of their own, pins, raw bytes, a database's way to ask for TLS,
// a fallback, a load balancer's header.
func TestOtherEndpointsHold(t *testing.T) {
	w := newWorld(t)
	upstream := tlstest.TCP(t)
	raw := func(e *termination.Endpoint) {
		e.Scheme, e.Upstream = termination.SchemeTLS, termination.Upstream{Scheme: termination.UpstreamTCP, Address: upstream.Addr}
	}
	require := func(e *termination.Endpoint) {
		e.ClientAuth.Mode, e.ClientAuth.Authorities = termination.ModeRequire, []string{"Local CA"}
	}
	strict := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"Local CA"}, Announce: true, OnLoss: termination.OnLossClose}
	open := termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose}
	w.endpoint("raw", func(e *termination.Endpoint) { raw(e); require(e) })
	w.endpoint("fallback", func(e *termination.Endpoint) { raw(e); require(e); e.Host = "" })
	w.endpoint("laxer-route", func(e *termination.Endpoint) {
		require(e)
		e.Routes = []termination.Route{{Path: "/public", ClientAuth: &open}}
	})
	w.endpoint("stricter-route", func(e *termination.Endpoint) {
		e.Routes = []termination.Route{{Path: "/private", ClientAuth: &strict}}
	})
	w.endpoint("pinned", func(e *termination.Endpoint) {
		e.ClientAuth.Mode, e.ClientAuth.Pins = termination.ModeRequire, []termination.Pin{{Key: true}}
	})
	w.endpoint("database", func(e *termination.Endpoint) { raw(e); require(e); e.StartTLS = termination.StartTLSPostgres })
	w.endpoint("balanced", func(e *termination.Endpoint) {
		require(e)
		e.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	w.endpoint("modern", func(e *termination.Endpoint) { require(e); e.Preset, e.ALPN = termination.PresetModern, []string{"h2"} })
	w.endpoint("everywhere", func(e *termination.Endpoint) { require(e); e.Listen = netip.IPv4Unspecified() })
	w.apply()
	for name, tries := range map[string]map[proof.Try]string{
		"raw":            {proof.TryNone: "holds refused", proof.TryTrusted: "holds let in"},
		"fallback":       {proof.TryNone: "holds refused", proof.TryTrusted: "holds let in"},
		"laxer-route":    {proof.TryNone: "holds refused", proof.TryTrusted: "holds let in", proof.TryStranger: "holds refused"},
		"stricter-route": {proof.TryNone: "holds let in", proof.TryRoute: "holds refused"},
		"pinned":         {proof.TryNone: "holds refused", proof.TryStranger: "holds refused", proof.TryUnlisted: "holds refused", proof.TryTrusted: "not_shown "},
		"database":       {proof.TryNone: "holds refused", proof.TryTrusted: "holds let in", proof.TryTLS12: "holds let in"},
		"balanced":       {proof.TryNone: "holds refused", proof.TryTrusted: "holds let in"},
		"modern":         {proof.TryNone: "holds refused", proof.TryTrusted: "holds let in", proof.TryTLS12: "holds refused"},
		"everywhere":     {proof.TryNone: "holds refused", proof.TryTrusted: "holds let in"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.prove(name, nil)
			for try, want := range tries {
				if l := lineOf(t, r, try); string(l.Result)+" "+l.Happened != want {
					t.Errorf("%s: %+v, want %s", try, l, want)
				}
			}
			if r.Result != proof.Holds {
				t.Errorf("%s:\n%+v", r.Result, r.Lines)
			}
		})
	}
}

// wrong is a server that stands where an endpoint should be.
func wrong(t *testing.T, config *tls.Config, handle func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if config != nil {
				c = tls.Server(c, config)
			}
			handle(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l
}

// The proof catches what it is there to catch: servers in the endpoint's place that let everyone in, let nobody in, take
// old versions, do not ask, or break.
func TestWrongEndpointsAreCaught(t *testing.T) {
	w := newWorld(t)
	w.endpoint("strict", func(e *termination.Endpoint) {
		e.MinVersion, e.ClientAuth.Mode, e.ClientAuth.Authorities = tls.VersionTLS13, termination.ModeRequire, []string{"Local CA"}
	})
	w.endpoint("open", nil)
	server := tlstest.NewCA().Server("strict.localhost").TLS()
	own := x509.NewCertPool()
	own.AddCert(w.ca.Certificate)
	drain := func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.Copy(io.Discard, c)
	}
	config := func(change func(*tls.Config)) *tls.Config {
		c := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: own, MinVersion: tls.VersionTLS13}
		change(c)
		return c
	}
	for name, c := range map[string]struct {
		endpoint string
		config   *tls.Config
		handle   func(net.Conn)
		result   proof.Result
		wrong    []proof.Try // in this order, first
	}{
		"as it should be": {"strict", config(func(*tls.Config) {}), drain, proof.Holds, nil},
		"lets everyone in": {
			"strict", config(func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }), drain, proof.Contradicts,
			[]proof.Try{proof.TryNone, proof.TryStranger, proof.TryExpired, proof.TryWrongUse},
		},
		"does not ask": {
			"strict", config(func(c *tls.Config) { c.ClientAuth = tls.NoClientCert }), drain, proof.Contradicts,
			[]proof.Try{proof.TryNone, proof.TryStranger, proof.TryExpired, proof.TryWrongUse},
		},
		"any certificate": {
			"strict", config(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }), drain, proof.Contradicts,
			[]proof.Try{proof.TryStranger, proof.TryExpired, proof.TryWrongUse},
		},
		"looks at no date": {
			"strict", config(func(c *tls.Config) { c.Time = func() time.Time { return time.Now().Add(-90 * time.Minute) } }), drain, proof.Contradicts, nil,
		},
		"takes TLS 1.2":   {"strict", config(func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 }), drain, proof.Contradicts, []proof.Try{proof.TryTLS12}},
		"takes TLS 1.0":   {"strict", config(func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 }), drain, proof.Contradicts, []proof.Try{proof.TryTLS12, proof.TryTLS11}},
		"lets nobody in":  {"strict", config(func(c *tls.Config) { c.ClientCAs = x509.NewCertPool() }), drain, proof.Contradicts, []proof.Try{proof.TryTrusted}},
		"asks too much":   {"open", config(func(c *tls.Config) { c.ClientAuth, c.MinVersion = tls.RequestClientCert, tls.VersionTLS12 }), drain, proof.Contradicts, []proof.Try{proof.TryNone}},
		"hangs up":        {"strict", nil, func(net.Conn) {}, proof.Failed, nil},
		"speaks no TLS":   {"strict", nil, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n") }, proof.Failed, nil},
		"says nothing":    {"open", nil, func(c net.Conn) { _, _ = c.Read(make([]byte, 8)) }, proof.Failed, nil},
		"without tickets": {"strict", config(func(c *tls.Config) { c.ClientAuth, c.SessionTicketsDisabled = tls.RequestClientCert, true }), drain, proof.Contradicts, []proof.Try{proof.TryNone}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := w.prove(c.endpoint, wrong(t, c.config, c.handle))
			if r.Result != c.result {
				t.Errorf("%s, want %s:\n%+v", r.Result, c.result, r.Lines)
			}
			for i, try := range c.wrong {
				if r.Lines[i].Try != try || r.Lines[i].Result != proof.Contradicts {
					t.Errorf("line %d is %+v, want %s to contradict", i, r.Lines[i], try)
				}
			}
		})
	}
}

// Where the service behind ends TLS, its own certificate is what clients get.
func TestPassthrough(t *testing.T) {
	w := newWorld(t)
	server := tlstest.NewCA().Server("sealed.localhost")
	other := tlstest.NewCA().Server("sealed.localhost")
	service := tlstest.HTTPS(t, &tls.Config{Certificates: []tls.Certificate{server.TLS()}})
	w.endpoint("sealed", func(e *termination.Endpoint) {
		e.Scheme, e.TerminateAt = termination.SchemeTLS, termination.AtUpstream
		e.Upstream = termination.Upstream{Scheme: termination.UpstreamTCP, Address: service.Addr}
	})
	w.apply()
	r := w.prove("sealed", nil)
	if r.Result != proof.Holds || r.Count(proof.Holds) != 2 || lineOf(t, r, proof.TryPolicy).Result != proof.NotShown {
		t.Errorf("%s:\n%+v", r.Result, r.Lines)
	}
	// Somebody in between answers with a certificate of his own.
	between := wrong(t, &tls.Config{Certificates: []tls.Certificate{other.TLS()}}, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	if r := w.prove("sealed", between); r.Result != proof.Contradicts || r.Lines[0].Try != proof.TrySame {
		t.Errorf("%s:\n%+v", r.Result, r.Lines)
	}
	// The key is here after all.
	w.config.Certificates = []termination.Certificate{{ID: "crt_1", Name: "copy", Chain: []*x509.Certificate{server.X509}, Key: server.Key}}
	if r := w.prove("sealed", nil); r.Result != proof.Contradicts || r.Lines[0].Try != proof.TryNoKey || !strings.Contains(r.Lines[0].Detail, "copy") {
		t.Errorf("%s:\n%+v", r.Result, r.Lines)
	}
}

func TestWhatCannotBeTried(t *testing.T) {
	w := newWorld(t)
	w.endpoint("stopped", func(e *termination.Endpoint) { e.Enabled = false })
	w.endpoint("away", nil)
	if _, err := proof.Run(t.Context(), proof.Options{Config: w.config, Endpoint: w.config.Endpoint("stopped")}); err == nil || !strings.Contains(err.Error(), "start it") {
		t.Errorf("a stopped endpoint: %v", err)
	}
	// Nothing was applied, so nobody listens.
	r := w.prove("away", nil)
	if r.Result != proof.Failed || r.Count(proof.Failed) != len(r.Lines) {
		t.Errorf("%s:\n%+v", r.Result, r.Lines)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := proof.Run(ctx, proof.Options{Config: w.config, Endpoint: w.config.Endpoint("away"), Dial: func(context.Context) (proof.Connection, error) {
		return proof.Connection{}, context.Canceled
	}}); err == nil {
		t.Error("a proof that was broken off has a report")
	}
}
