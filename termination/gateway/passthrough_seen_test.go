package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// sServer starts openssl's server and returns where it listens.
func sServer(t *testing.T, args ...string) string {
	t.Helper()
	port := strconv.Itoa(int(freePort(t)))
	server := exec.Command(tlstest.Program(t, "openssl"), append([]string{"s_server", "-accept", "127.0.0.1:" + port, "-quiet"}, args...)...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	await(t, "127.0.0.1:"+port)
	return "127.0.0.1:" + port
}

// What openssl's client and server say to each other is seen as far as it is said in the open, and what they refuse is
// told in the right words.
func TestPassthroughSeen(t *testing.T) {
	own, other := tlstest.NewCA(tlstest.CN("Service CA")), tlstest.NewCA(tlstest.CN("Other CA"))
	clients := tlstest.NewCA(tlstest.CN("Clients"))
	trust, distrust := own.WriteFiles(t, t.TempDir()).Cert, other.WriteFiles(t, t.TempDir()).Cert
	server := own.Server("sealed.localhost").WriteFiles(t, t.TempDir())
	clientCA := clients.WriteFiles(t, t.TempDir()).Cert
	alice := clients.Client("alice").WriteFiles(t, t.TempDir())
	mallory := other.Client("mallory").WriteFiles(t, t.TempDir())
	files := []string{"-cert", server.Cert, "-key", server.Key, "-CAfile", clientCA, "-verify_return_error"}
	r := newRig(t)
	plain, asking := freePort(t), freePort(t)
	r.endpoint("sealed", plain, "tcp://"+sServer(t, files...), sealed)
	r.endpoint("asking", asking, "tcp://"+sServer(t, append(files, "-Verify", "2")...), sealed)
	r.apply()

	with := func(f tlstest.Files) []string { return []string{"-cert", f.Cert, "-key", f.Key} }
	tests := []struct {
		name    string
		port    uint16 // of the endpoint that is named after it
		args    []string
		outcome termination.Outcome
		reason  termination.Reason
		alert   uint8 // 0: none
		service bool  // it is the service's
		// In TLS 1.2 alone:
		client  string // name of the certificate
		alert12 uint8
	}{
		{name: "nothing special", port: plain, args: []string{"-CAfile", trust, "-verify_return_error"}, outcome: termination.OutcomePassed},
		{name: "client certificate", port: asking, args: with(alice), outcome: termination.OutcomePassed, client: "alice"},
		{name: "client distrusts", port: plain, args: []string{"-CAfile", distrust, "-verify_return_error"}, outcome: termination.OutcomeClientRefused, reason: termination.ReasonClientRefusedUsCA, alert: 48},
		{name: "service distrusts", port: asking, args: with(mallory), outcome: termination.OutcomePassed, client: "mallory", alert12: 48, service: true},
		{name: "no client certificate", port: asking, outcome: termination.OutcomePassed, alert12: 40, service: true},
	}
	for _, test := range tests {
		for _, version := range []string{"-tls1_2", "-tls1_3"} {
			t.Run(test.name+version, func(t *testing.T) {
				early := version == "-tls1_2"
				name := map[uint16]string{plain: "sealed.localhost", asking: "asking.localhost"}[test.port]
				out := tlstest.OpenSSL(t, append([]string{"s_client", "-connect", address(test.port), "-servername", name, version}, test.args...)...)
				rec := r.next()
				if rec.Verdict.Outcome != test.outcome || rec.Verdict.Reason != test.reason {
					t.Fatalf("recorded %s %q (%s), openssl says %s", rec.Verdict.Outcome, rec.Verdict.Reason, rec.Error, out.Output())
				}
				seen := rec.Passed
				if seen == nil || rec.Chosen == nil {
					t.Fatalf("nothing was seen: %+v", rec)
				}
				want := test.alert
				if early && test.alert12 != 0 {
					want = test.alert12
				}
				if (rec.Alert != nil) != (want != 0) || rec.Alert != nil && (rec.Alert.Number != want || rec.Alert.Service != test.service || rec.Alert.Sent) {
					t.Errorf("alert %+v, want %d", rec.Alert, want)
				}
				if early {
					if seen.SealedFrom != termination.SealedFromFinished || len(seen.Service) != 1 || !strings.HasPrefix(seen.Service[0].Subject, "CN=sealed.localhost") {
						t.Errorf("of TLS 1.2 was seen %+v", seen)
					}
					if seen.AsksForCertificate != (test.port == asking) {
						t.Errorf("asks: %v", seen.AsksForCertificate)
					}
					if rec.Client.Name != test.client || len(rec.Presented) == 0 != (test.client == "") || rec.Client.Authority != "" {
						t.Errorf("client %+v, %d certificates", rec.Client, len(rec.Presented))
					}
				} else if seen.SealedFrom != termination.SealedFromServerHello || len(seen.Service) != 0 || len(rec.Presented) != 0 || seen.AsksForCertificate {
					t.Errorf("of TLS 1.3 was seen %+v", seen)
				}
				if goesOn := test.outcome == termination.OutcomePassed; seen.ClientWentOn != goesOn && test.alert12 == 0 {
					t.Errorf("the client went on: %v", seen.ClientWentOn)
				}
				if rec.Stages.Reply < 0 || rec.Stages.Wait < 0 {
					t.Errorf("stages %+v", rec.Stages)
				}
			})
		}
	}
}

// Go's clients send one alert for every cause, in TLS 1.3 sealed; what is known beside it says more.
func TestPassthroughRefusedByGo(t *testing.T) {
	own := tlstest.NewCA(tlstest.CN("Service CA"))
	for name, test := range map[string]struct {
		cert     *tlstest.Cert
		distrust bool
		reason   termination.Reason // in TLS 1.2
		says     string
	}{
		"CA":   {own.Server("sealed.localhost"), true, termination.ReasonClientRefusedUs, "Service CA"},
		"name": {own.Server("other.localhost"), false, termination.ReasonClientRefusedUsName, "other.localhost"},
		"date": {own.Server("sealed.localhost", tlstest.Expired()), false, termination.ReasonClientRefusedUsDate, "ended"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+" "+tls.VersionName(version), func(t *testing.T) {
				service := tlstest.TLS(t, &tls.Config{Certificates: []tls.Certificate{test.cert.TLS()}})
				r := newRig(t)
				port := freePort(t)
				r.endpoint("sealed", port, "tcp://"+service.Addr, sealed)
				r.apply()
				config := &tls.Config{ServerName: "sealed.localhost", RootCAs: own.Pool(), MinVersion: version, MaxVersion: version}
				if test.distrust {
					config.RootCAs = tlstest.NewCA().Pool()
				}
				if conn, err := tls.Dial("tcp", address(port), config); err == nil {
					conn.Close()
					t.Fatal("the client does not mind")
				}
				rec := r.next()
				if version == tls.VersionTLS13 {
					if rec.Verdict.Outcome != termination.OutcomePassed || !rec.Passed.ProbablyRefused || !strings.Contains(rec.Verdict.Explanation.Sentence, "probably") {
						t.Errorf("recorded %s %q, %+v: %s", rec.Verdict.Outcome, rec.Verdict.Reason, rec.Passed, rec.Verdict.Explanation.Sentence)
					}
					return
				}
				if rec.Verdict.Outcome != termination.OutcomeClientRefused || rec.Verdict.Reason != test.reason || rec.Verdict.Beat != termination.BeatServerCert {
					t.Errorf("recorded %s %q", rec.Verdict.Outcome, rec.Verdict.Reason)
				}
				if text := rec.Verdict.Explanation; !strings.Contains(text.Sentence+text.Right, test.says) || strings.Contains(text.Sentence, "our certificate") || len(text.Fixes) == 0 {
					t.Errorf("explained as %+v", text)
				}
			})
		}
	}
}

// A client that goes or stops half way is told from a service that does.
func TestPassthroughBreaksOff(t *testing.T) {
	cert := tlstest.NewCA().Server("sealed.localhost")
	r := newRig(t)
	r.config.Limits.HandshakeTimeout = time.Second
	service := tlstest.TLS(t, &tls.Config{Certificates: []tls.Certificate{cert.TLS()}})
	leaving := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) { // after its hello
		raw := &cutAfter{Conn: conn, writes: 1}
		_ = tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert.TLS()}}).Handshake()
	})
	atOnce := make(chan struct{})
	close(atOnce)
	port, other, third := freePort(t), freePort(t), freePort(t)
	r.endpoint("sealed", port, "tcp://"+service.Addr, sealed)
	r.endpoint("leaving", other, "tcp://"+leaving.Addr, sealed)
	r.endpoint("plain", third, "tcp://"+tlstest.Slow(t, []byte("220 mail.example ESMTP\r\n"), atOnce).Addr, sealed)
	r.apply()
	hello := func(port uint16, name string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", address(port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := conn.Write(helloFor(t, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	check := func(what string, outcome termination.Outcome, reason termination.Reason, beat termination.Beat) {
		t.Helper()
		if rec := r.next(); rec.Verdict.Outcome != outcome || rec.Verdict.Reason != reason || rec.Verdict.Beat != beat {
			t.Errorf("%s: recorded %s %q at %d (%s)", what, rec.Verdict.Outcome, rec.Verdict.Reason, rec.Verdict.Beat, rec.Error)
		}
	}
	_ = hello(port, "sealed.localhost").Close()
	check("the client goes", termination.OutcomeBrokenOff, termination.ReasonClientLeft, termination.BeatServerCert)
	hello(port, "sealed.localhost")
	check("the client stops", termination.OutcomeBrokenOff, termination.ReasonTimeout, termination.BeatServerCert)
	hello(other, "leaving.localhost")
	check("the service goes", termination.OutcomeBrokenOff, termination.ReasonUpstreamDown, termination.BeatAgreement)
	hello(third, "plain.localhost")
	check("the service speaks something else", termination.OutcomePassed, "", termination.BeatHello)
}

// cutAfter closes after some writes.
type cutAfter struct {
	net.Conn
	writes int
}

func (c *cutAfter) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p[:min(len(p), 100)])
	if c.writes--; c.writes <= 0 {
		_ = c.Close()
	}
	return n, err
}

// Not a byte is changed, in either direction, whatever is watched.
func TestPassthroughChangesNothing(t *testing.T) {
	ca := tlstest.NewCA()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		far := make(chan *recording, 1)
		addr := tlstest.ServeOnce(t, func(conn net.Conn) {
			raw := &recording{Conn: conn}
			defer func() { _ = raw.Close(); far <- raw }()
			c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{ca.Server("sealed.localhost").TLS()}, ClientAuth: tls.RequireAnyClientCert})
			_, _ = io.Copy(c, c)
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, raw)
		})
		r := newRig(t)
		port := freePort(t)
		r.endpoint("sealed", port, "tcp://"+addr, sealed)
		r.apply()
		conn, err := net.Dial("tcp", address(port))
		if err != nil {
			t.Fatal(err)
		}
		near := &recording{Conn: conn}
		c := tls.Client(near, &tls.Config{
			ServerName: "sealed.localhost", RootCAs: ca.Pool(), MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{ca.Client("alice").TLS()},
		})
		if _, err := io.Copy(c, io.LimitReader(&pattern{}, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(&pattern{t: t}, c); err != nil || n != 1<<20 {
			t.Errorf("%d bytes came back, %v", n, err)
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, near)
		_ = conn.Close()
		service := <-far
		if !bytes.Equal(near.sent.Bytes(), service.got.Bytes()) || !bytes.Equal(service.sent.Bytes(), near.got.Bytes()) {
			t.Errorf("%s: sent %d, arrived %d; answered %d, arrived %d", tls.VersionName(version), near.sent.Len(), service.got.Len(), service.sent.Len(), near.got.Len())
		}
	}
}

// recording keeps what was sent and what came.
type recording struct {
	net.Conn
	mu        sync.Mutex
	sent, got bytes.Buffer
}

func (c *recording) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got.Write(p[:n])
	return n, err
}

func (c *recording) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent.Write(p[:n])
	return n, err
}
