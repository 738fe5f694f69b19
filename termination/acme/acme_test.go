package acme_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/acme"
	"countersign/termination/tlstest"
)

const challengeProtocol = "acme-tls/1"

func TestTLSALPN(t *testing.T) {
	port := freePort(t)
	a := newAuthority(t, freePort(t), port)
	release := make(chan struct{})
	a.fail(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	clients := tlstest.NewCA()
	r := newRig(t, port, options{settings: a.settings(), change: func(c *termination.Config) {
		c.Authorities = []termination.Authority{{ID: "au_1", Name: "clients", Certificates: []termination.CACertificate{{Certificate: clients.X509, Role: termination.RoleAnchor}}}}
		c.Endpoints[0].ClientAuth = termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"clients"}, OnLoss: termination.OnLossClose}
	}}, "a.test", "b.test")

	if !r.fromLocalCA("a.test") {
		t.Error("until there is a certificate the local CA does not answer")
	}
	a.heal()
	close(release)
	for _, name := range []string{"a.test", "b.test"} {
		tlstest.Eventually(t, "a try after the CA is back", func() bool {
			return slices.ContainsFunc(r.manager.Status().Names, func(n acme.NameStatus) bool {
				return n.Name == name && (n.State == acme.StateOK || n.State == acme.StateFailed && !r.manager.Retry(name))
			})
		})
		s := r.status(name, acme.StateOK)
		if s.Leaf == nil || s.Leaf.DNSNames[0] != name || !s.NextTry.After(time.Now().Add(24*time.Hour)) {
			t.Errorf("%s: %+v", name, s)
		}
		tlstest.Eventually(t, "the new certificate for "+name, func() bool { return r.from(name, a.roots(t)) })
	}
	rec := r.record(func(h *termination.Handshake) bool { return h.Verdict.Reason == termination.ReasonACMEChallenge })
	if rec.Verdict.Outcome != termination.OutcomeOpen || rec.EndpointID != "" || rec.Hello.ServerName == "" {
		t.Errorf("the CA's visit is recorded as %+v", rec.Verdict)
	}
}

// A client that offers the CA's protocol slips by nothing: without a challenge in flight for its name it meets the policy.
func TestChallengeProtocolIsNoWayIn(t *testing.T) {
	port := freePort(t)
	clients, others := tlstest.NewCA(), tlstest.NewCA()
	r := newRig(t, port, options{change: func(c *termination.Config) {
		c.Authorities = []termination.Authority{{ID: "au_1", Name: "clients", Certificates: []termination.CACertificate{{Certificate: clients.X509, Role: termination.RoleAnchor}}}}
		e := &c.Endpoints[0]
		e.Certificates = nil
		e.Scheme, e.Upstream = termination.SchemeTLS, termination.Upstream{Scheme: termination.UpstreamTCP, Address: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
		e.ClientAuth = termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"clients"}, OnLoss: termination.OnLossClose}
	}}, "a.test", "b.test")
	challenge := others.Server("proof.test").TLS()
	r.obtained.Present("b.test", &challenge)

	dial := func(name string, protocols ...string) (tls.ConnectionState, error) {
		conn, err := tls.Dial("tcp", r.address(), &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: protocols})
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, err = conn.Read(make([]byte, 1))
		return conn.ConnectionState(), err
	}
	for what, try := range map[string]func() (tls.ConnectionState, error){
		"another name":            func() (tls.ConnectionState, error) { return dial("a.test", challengeProtocol) },
		"beside another protocol": func() (tls.ConnectionState, error) { return dial("b.test", challengeProtocol, "h2") },
		"no protocol":             func() (tls.ConnectionState, error) { return dial("b.test") },
	} {
		state, err := try()
		if err == nil || len(state.PeerCertificates) > 0 && state.PeerCertificates[0].Subject.CommonName == "proof.test" {
			t.Errorf("%s: let in, or shown the proof", what)
		}
		rec := r.record(func(h *termination.Handshake) bool { return h.Verdict.Reason == termination.ReasonCertMissing })
		if rec.Verdict.Outcome != termination.OutcomeRefused {
			t.Errorf("%s: %+v", what, rec.Verdict)
		}
	}
	state, err := dial("b.test", challengeProtocol)
	if err == nil || state.NegotiatedProtocol != challengeProtocol || state.PeerCertificates[0].Subject.CommonName != "proof.test" {
		t.Errorf("the CA gets %q, %v", state.NegotiatedProtocol, err)
	}
	if err != io.EOF { //nolint:errorlint // the end as it is, and no other
		t.Errorf("the connection goes on: %v", err)
	}
	r.obtained.Withdraw("b.test")
	if state, err := dial("b.test", challengeProtocol); err == nil || state.NegotiatedProtocol == challengeProtocol && state.PeerCertificates[0].Subject.CommonName == "proof.test" {
		t.Error("after the challenge the CA's protocol still gets the proof")
	}
}

func TestHTTP(t *testing.T) {
	port, httpPort := freePort(t), freePort(t)
	a := newAuthority(t, httpPort, freePort(t)) // nobody answers where it asks for TLS
	settings := a.settings()
	settings.HTTP = netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", httpPort))
	r := newRig(t, port, options{settings: settings}, "a.test")
	r.status("a.test", acme.StateOK)
	tlstest.Eventually(t, "the new certificate", func() bool { return r.from("a.test", a.roots(t)) })
	if p := r.manager.Status().Listener; p != "" {
		t.Error(p)
	}
	for _, path := range []string{"/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/none", "/.well-known/acme-challenge/../../etc/passwd", "/healthz"} {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", httpPort, path))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()

	// A port that another program has is a state, not an end.
	taken := *r.config
	taken.Revision++
	taken.ACME.HTTP = netip.MustParseAddrPort(strings.TrimPrefix(a.URL, "https://"))
	if err := r.gateway.Apply(t.Context(), &taken); err != nil {
		t.Fatal(err)
	}
	tlstest.Eventually(t, "the problem", func() bool { return strings.Contains(r.manager.Status().Listener, "in use") })
	if s := r.status("a.test", acme.StateOK); s.Leaf == nil {
		t.Errorf("%+v", s)
	}
}

func TestRefusal(t *testing.T) {
	port := freePort(t)
	a := newAuthority(t, freePort(t), port, "blocked.test")
	r := newRig(t, port, options{settings: a.settings()}, "a.blocked.test", "b.test")
	s := r.status("a.blocked.test", acme.StateFailed)
	if !strings.HasPrefix(s.Error, "the CA says (rejectedIdentifier): ") || !strings.Contains(s.Error, "blocked.test") {
		t.Errorf("the CA's words: %q", s.Error)
	}
	if s.LastTry.IsZero() || time.Until(s.NextTry) < 50*time.Minute {
		t.Errorf("tried at %s, again at %s", s.LastTry, s.NextTry)
	}
	if !r.fromLocalCA("a.blocked.test") {
		t.Error("the local CA does not answer for a name that the CA refuses")
	}
	r.status("b.test", acme.StateOK) // one name does not hold up another
}

func TestUnproven(t *testing.T) {
	a := newAuthority(t, freePort(t), freePort(t)) // asks where nobody is
	r := newRig(t, freePort(t), options{settings: a.settings()}, "a.test")
	if s := r.status("a.test", acme.StateFailed); !strings.HasPrefix(s.Error, "the CA says (") {
		t.Errorf("%q", s.Error)
	}
}

func TestRateLimit(t *testing.T) {
	port := freePort(t)
	a := newAuthority(t, freePort(t), port)
	a.fail(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7200")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"type":"urn:ietf:params:acme:error:rateLimited","status":429,"detail":"too many certificates for a.test <script>"}`)
	})
	r := newRig(t, port, options{settings: a.settings()}, "a.test")
	s := r.status("a.test", acme.StateFailed)
	if s.Error != "the CA says that it was asked too often: too many certificates for a.test <script>" {
		t.Errorf("%q", s.Error)
	}
	if wait := s.NextTry.Sub(s.LastTry); wait < 2*time.Hour-time.Minute {
		t.Errorf("tries again after %s", wait)
	}

	// A restart is no reason to ask sooner.
	a.fail(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the CA is asked for %s", r.URL) })
	again := newRig(t, freePort(t), options{settings: a.settings(), storage: r.storage}, "a.test")
	if kept := again.status("a.test", acme.StateFailed); kept.Error != s.Error || !kept.NextTry.Equal(s.NextTry) {
		t.Errorf("after a restart: %+v", kept)
	}
	// Nor is it one for the gateway to wait with its start.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := again.manager.Settle(ctx); err != nil {
		t.Errorf("the start waits for the end of the limit: %v", err)
	}
	again.manager.Close()
	a.heal()
	r.manager.Retry("a.test")
	r.status("a.test", acme.StateOK)
}

func TestHang(t *testing.T) {
	port := freePort(t)
	a := newAuthority(t, freePort(t), port)
	a.fail(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r := newRig(t, port, options{settings: a.settings(), attempt: 50 * time.Millisecond}, "a.test")
	s := r.status("a.test", acme.StateFailed)
	if !strings.HasPrefix(s.Error, "the CA did not answer in time") {
		t.Errorf("%q", s.Error)
	}
	if !r.fromLocalCA("a.test") {
		t.Error("while the CA hangs the local CA does not answer")
	}
}

// An attempt in flight ends with Close, and with the configuration that wanted it.
func TestEndOfAnAttempt(t *testing.T) {
	port := freePort(t)
	a := newAuthority(t, freePort(t), port)
	asked, over := make(chan struct{}, 8), make(chan struct{}, 8)
	a.fail(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
		over <- struct{}{}
	})
	r := newRig(t, port, options{settings: a.settings()}, "a.test")
	<-asked
	next := *r.config
	next.Revision++
	next.Endpoints = append([]termination.Endpoint(nil), next.Endpoints...)
	next.Endpoints[0].Certificates = nil
	if err := r.gateway.Apply(t.Context(), &next); err != nil {
		t.Fatal(err)
	}
	<-over
	if names := r.manager.Status().Names; len(names) != 0 {
		t.Errorf("still obtains %+v", names)
	}
	again := *r.config
	again.Revision = next.Revision + 1
	if err := r.gateway.Apply(t.Context(), &again); err != nil {
		t.Fatal(err)
	}
	<-asked
	r.manager.Close()
	<-over
}

// What was obtained is there after a restart, without asking the CA.
func TestRestart(t *testing.T) {
	port := freePort(t)
	a := newAuthority(t, freePort(t), port)
	r := newRig(t, port, options{settings: a.settings()}, "a.test")
	first := r.status("a.test", acme.StateOK).Leaf
	a.fail(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the CA is asked for %s", r.URL) })
	again := newRig(t, freePort(t), options{settings: a.settings(), storage: r.storage}, "a.test")
	if s := again.status("a.test", acme.StateOK); !s.Leaf.Equal(first) {
		t.Error("another certificate after a restart")
	}
	tlstest.Eventually(t, "the certificate", func() bool { return again.from("a.test", a.roots(t)) })
}

// Without a local CA nobody answers until the certificate is there; and then somebody does.
func TestWithoutLocalCA(t *testing.T) {
	port := freePort(t)
	a := newAuthority(t, freePort(t), port)
	r := newRig(t, port, options{settings: a.settings(), change: func(c *termination.Config) { c.LocalCAs = nil }}, "a.test")
	r.status("a.test", acme.StateOK)
	tlstest.Eventually(t, "the endpoint to open", func() bool {
		conn, err := tls.Dial("tcp", r.address(), &tls.Config{ServerName: "a.test", RootCAs: a.roots(t)})
		if err == nil {
			_ = conn.Close()
		}
		return err == nil && r.gateway.Status().Endpoints[0].Problem == ""
	})
}

// A CA that cannot be reached is told from one that refuses.
func TestUnreachable(t *testing.T) {
	a := newAuthority(t, freePort(t), freePort(t))
	private := a.settings()
	private.Roots = nil
	r := newRig(t, freePort(t), options{settings: private}, "a.test")
	if s := r.status("a.test", acme.StateFailed); !strings.HasPrefix(s.Error, "the CA cannot be reached: ") || !strings.HasSuffix(s.Error, "(ca_file)") {
		t.Errorf("a private CA: %q", s.Error)
	}
	away := a.settings()
	away.Directory = fmt.Sprintf("https://127.0.0.1:%d/directory", freePort(t))
	r = newRig(t, freePort(t), options{settings: away}, "a.test")
	if s := r.status("a.test", acme.StateFailed); !strings.HasPrefix(s.Error, "the CA cannot be reached: ") || !strings.Contains(s.Error, "refused") {
		t.Errorf("one that is away: %q", s.Error)
	}
}
