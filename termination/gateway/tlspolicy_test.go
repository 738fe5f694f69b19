package gateway_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Each endpoint speaks TLS as its own policy says, on one port, and says so to those it refuses.
func TestTLSPolicyByEndpoint(t *testing.T) {
	const ecdsa128, ecdsa256 = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	r := newRig(t)
	port := freePort(t)
	add := func(name string, change func(*termination.Endpoint)) { r.endpoint(name, port, "whoami", change) }
	add("plain", nil)
	add("modern", func(e *termination.Endpoint) { e.Preset = termination.PresetModern })
	add("listed", func(e *termination.Endpoint) { e.Suites, e.MaxVersion = []uint16{ecdsa256}, tls.VersionTLS12 })
	add("http1", func(e *termination.Endpoint) { e.ALPN = []string{"http/1.1"} })
	r.apply()
	tests := []struct {
		name, endpoint string
		version        string
		more           []string
		has            string // in what openssl prints
		reason         termination.Reason
		says           string // in the explanation
	}{
		{"1.3 at modern", "modern", "-tls1_3", nil, "TLSv1.3", "", ""},
		{"1.2 at modern", "modern", "-tls1_2", nil, "protocol version", termination.ReasonVersionLow, "modern speaks TLS 1.3."},
		{"1.2 by default", "plain", "-tls1_2", []string{"-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"}, "ECDHE-ECDSA-AES128-GCM-SHA256", "", ""},
		{"CBC by default", "plain", "-tls1_2", []string{"-cipher", "ECDHE-ECDSA-AES128-SHA"}, "handshake failure", termination.ReasonNoCommonSuite, "in common"},
		{"RSA key exchange", "plain", "-tls1_2", []string{"-cipher", "AES128-GCM-SHA256"}, "handshake failure", termination.ReasonNoCommonSuite, "in common"},
		{"the suite of the list", "listed", "-tls1_2", nil, "ECDHE-ECDSA-AES256-GCM-SHA384", "", ""},
		{"another suite", "listed", "-tls1_2", []string{"-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"}, "handshake failure", termination.ReasonNoCommonSuite, "allowed are TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384."},
		{"1.3 above the maximum", "listed", "-tls1_3", nil, "protocol version", termination.ReasonVersionLow, "listed speaks TLS 1.2."},
		{"the protocol of the list", "http1", "-tls1_3", []string{"-alpn", "h2,http/1.1"}, "ALPN protocol: http/1.1", "", ""},
		{"another protocol", "http1", "-tls1_3", []string{"-alpn", "h2"}, "no application protocol", termination.ReasonALPN, "http1 speaks http/1.1."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"s_client", "-connect", address(port), "-servername", test.endpoint + ".localhost", test.version}, test.more...)
			out := tlstest.OpenSSL(t, args...)
			if !out.Has(test.has) {
				t.Errorf("openssl does not say %q: %s", test.has, out.Output())
			}
			rec := r.next()
			if rec.Verdict.Reason != test.reason || !strings.Contains(rec.Verdict.Explanation.Sentence, test.says) {
				t.Errorf("recorded %q: %s (%s)", rec.Verdict.Reason, rec.Verdict.Explanation.Sentence, rec.Error)
			}
		})
	}
}

// Clients that know a key exchange which withstands quantum computers get it without any setting; others are served too.
func TestPostQuantumByDefault(t *testing.T) {
	r := newRig(t)
	port := freePort(t)
	r.endpoint("api", port, "whoami", nil)
	r.apply()
	config := r.clientConfig("api.localhost", tls.VersionTLS13, nil)
	if _, _, err := get(config, port, "api.localhost"); err != nil {
		t.Fatal(err)
	}
	if rec := r.next(); rec.Chosen.Group != uint16(tls.X25519MLKEM768) || !rec.Chosen.PostQuantum {
		t.Errorf("Go's client got %+v", rec.Chosen)
	}
	want := tls.X25519
	version := regexp.MustCompile(`^OpenSSL (\d+)\.(\d+)`).FindStringSubmatch(tlstest.OpenSSL(t, "version").Stdout)
	if version == nil {
		t.Fatal("openssl does not say its version")
	}
	if major, _ := strconv.Atoi(version[1]); major > 3 || major == 3 && version[2] >= "5" {
		want = tls.X25519MLKEM768 // its first choice from 3.5 on
	}
	tlstest.OpenSSL(t, "s_client", "-connect", address(port), "-servername", "api.localhost")
	if rec := r.next(); rec.Chosen == nil || rec.Chosen.Group != uint16(want) {
		t.Errorf("%s got %+v, want group %d", version[0], rec.Chosen, want)
	}
}

// Tickets are taken by the endpoint that gave them, as long as its TLS policy and its client policy are those under
// which it did.
func TestTicketsFollowThePolicy(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			devices := tlstest.NewCA(tlstest.CN("Devices"))
			r := newRig(t)
			r.trust("devices", devices)
			port := freePort(t)
			r.endpoint("one", port, "whoami", require("devices"))
			r.endpoint("two", port, "whoami", require("devices"))
			r.apply()
			cache := tls.NewLRUClientSessionCache(1)
			visit := func(name string) bool {
				t.Helper()
				config := r.clientConfig(name+".localhost", version, devices.Client("alice"))
				config.ClientSessionCache = oneTicket{cache}
				config.InsecureSkipVerify = true // else the client does not offer one endpoint's ticket to another
				if status, _, err := get(config, port, name+".localhost"); err != nil || status != 200 {
					t.Fatalf("%s: %d, %v", name, status, err)
				}
				return r.next().Chosen.Resumed
			}
			if visit("one") || !visit("one") {
				t.Fatal("a ticket is not taken")
			}
			if visit("two") {
				t.Error("a ticket opened another endpoint")
			}
			visit("one")
			r.change("two", func(e *termination.Endpoint) { e.ALPN = []string{"http/1.1"} })
			if !visit("one") {
				t.Error("a change of another endpoint killed a ticket")
			}
			for what, change := range map[string]func(*termination.Endpoint){
				"suites":        func(e *termination.Endpoint) { e.Suites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256} },
				"ALPN":          func(e *termination.Endpoint) { e.ALPN = []string{"http/1.1"} },
				"client policy": func(e *termination.Endpoint) { e.ClientAuth.MaxDepth = 2 },
			} {
				if !visit("one") {
					visit("one")
				}
				r.change("one", change)
				if visit("one") {
					t.Errorf("a ticket outlived a change of %s", what)
				}
			}
		})
	}
}

// oneTicket keeps the tickets of all names as if they were one.
type oneTicket struct{ tls.ClientSessionCache }

func (c oneTicket) Get(string) (*tls.ClientSessionState, bool) { return c.ClientSessionCache.Get("") }

func (c oneTicket) Put(_ string, state *tls.ClientSessionState) { c.ClientSessionCache.Put("", state) }

// Connections that a new TLS policy would not agree upon end; the others stay.
func TestLiveConnectionsUnderNewTLSPolicy(t *testing.T) {
	const kept, dropped = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	r := newRig(t)
	port := freePort(t)
	echo := tlstest.TCP(t)
	r.endpoint("raw", port, "tcp://"+echo.Addr, func(e *termination.Endpoint) { e.Scheme = termination.SchemeTLS })
	r.apply()
	open := func(version, suite uint16) (*tls.Conn, string) {
		t.Helper()
		config := r.clientConfig("raw.localhost", version, nil)
		config.CipherSuites = []uint16{suite}
		conn, err := tls.Dial("tcp", address(port), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		echoes(t, conn)
		return conn, r.next().ID
	}
	good, _ := open(tls.VersionTLS12, kept)
	modern, _ := open(tls.VersionTLS13, 0)
	_, lost := open(tls.VersionTLS12, dropped)
	r.change("raw", func(e *termination.Endpoint) { e.Suites = []uint16{kept} })
	if end := r.end(lost); end.ClosedBy != termination.ClosedByPolicy {
		t.Errorf("closed by %s", end.ClosedBy)
	}
	echoes(t, good)
	echoes(t, modern)
	r.change("raw", func(e *termination.Endpoint) { e.Suites, e.Preset = nil, termination.PresetModern })
	if _, err := good.Read(make([]byte, 1)); err == nil {
		t.Error("TLS 1.2 goes on under the preset modern")
	}
	echoes(t, modern)
}

func echoes(t *testing.T, conn net.Conn) {
	t.Helper()
	const word = "ping"
	if _, err := conn.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(word))
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != word {
		t.Fatalf("%q came back, %v", back, err)
	}
}

// Data before the handshake is done can be replayed. A client that holds a session which allows it, from another server of
// that name, is refused and recorded.
func TestEarlyDataIsRefused(t *testing.T) {
	program := tlstest.Program(t, "openssl")
	r := newRig(t)
	port := freePort(t)
	r.endpoint("api", port, "whoami", nil)
	r.apply()
	dir := t.TempDir()
	files := r.serverCA.Server("api.localhost").WriteFiles(t, dir)
	other := strconv.Itoa(int(freePort(t)))
	server := exec.Command(program, "s_server", "-accept", "127.0.0.1:"+other, "-cert", files.Cert, "-key", files.Key, "-early_data", "-max_early_data", "1000", "-quiet")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	await(t, "127.0.0.1:"+other)

	session, early := filepath.Join(dir, "session.pem"), filepath.Join(dir, "early.txt")
	if err := os.WriteFile(early, []byte("GET / HTTP/1.1\r\nHost: api.localhost\r\n\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first := exec.CommandContext(ctx, program, "s_client", "-connect", "127.0.0.1:"+other, "-servername", "api.localhost", "-sess_out", session)
	keepOpen, err := first.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	r.wait("a session that allows early data", func() bool {
		text, err := os.ReadFile(session)
		return err == nil && strings.Contains(string(text), "END SSL SESSION")
	})
	_ = keepOpen.Close()
	_ = first.Wait()

	out := tlstest.OpenSSL(t, "s_client", "-connect", address(port), "-servername", "api.localhost", "-sess_in", session, "-early_data", early)
	rec := r.next()
	if !rec.Hello.EarlyData {
		t.Fatalf("openssl did not try: %s", out.Output())
	}
	if out.Has("Early data was accepted") || rec.Verdict.Outcome.In() || rec.Verdict.Reason != termination.ReasonEarlyData {
		t.Errorf("recorded %s %q (%s)", rec.Verdict.Outcome, rec.Verdict.Reason, rec.Error)
	}
	if rec.Alert == nil || rec.Alert.Number != 110 || !out.Has("unsupported extension") {
		t.Errorf("alert %+v; openssl says %s", rec.Alert, out.Output())
	}
	// Our own sessions allow none, so that nobody is tempted.
	ours := filepath.Join(dir, "ours.pem")
	out = tlstest.OpenSSLInput(t, "GET / HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\n\r\n", "s_client", "-connect", address(port), "-servername", "api.localhost", "-ign_eof", "-sess_out", ours)
	if text := tlstest.OpenSSL(t, "sess_id", "-in", ours, "-noout", "-text"); !text.Has("Max Early Data: 0") {
		t.Errorf("our session: %s; %s", text.Output(), out.Output())
	}
}

// A client that asks for another handshake on the same connection is cut off (CVE-2011-1473).
func TestRenegotiationIsRefused(t *testing.T) {
	program := tlstest.Program(t, "openssl")
	r := newRig(t)
	port := freePort(t)
	echo := tlstest.TCP(t)
	r.endpoint("raw", port, "tcp://"+echo.Addr, func(e *termination.Endpoint) { e.Scheme = termination.SchemeTLS })
	r.apply()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := exec.CommandContext(ctx, program, "s_client", "-connect", address(port), "-servername", "raw.localhost", "-tls1_2")
	input, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	client.Stdout, client.Stderr = &said, &said
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	rec := r.next()
	if _, err := io.WriteString(input, "R\n"); err != nil { // to s_client: renegotiate
		t.Fatal(err)
	}
	if err := client.Wait(); err == nil || ctx.Err() != nil {
		t.Errorf("openssl goes on: %v", err)
	}
	if !strings.Contains(said.String(), "RENEGOTIATING") || !strings.Contains(said.String(), "alert") {
		t.Errorf("openssl says %s", said.String())
	}
	if end := r.end(rec.ID); rec.Verdict.Outcome != termination.OutcomeOpen || end.BytesIn == 0 {
		t.Errorf("recorded %s, %+v", rec.Verdict.Outcome, end)
	}
}
