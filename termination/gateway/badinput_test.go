package gateway_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Whatever comes instead of a ClientHello is bounded, recorded and explained.
func TestBadInput(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	r.config.Limits.HandshakeTimeout = 300 * time.Millisecond
	port := freePort(t)
	r.endpoint("a", port, upstream.URL, nil)
	r.apply()

	tests := []struct {
		name    string
		send    string
		wait    bool // stays connected and silent after that
		answer  string
		reason  termination.Reason
		outcome termination.Outcome
		noise   termination.Noise
	}{
		{name: "plain HTTP", send: "GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n", answer: "HTTP/1.1 400 Bad Request", reason: termination.ReasonNotTLS, outcome: termination.OutcomeBrokenOff, noise: termination.NoisePlainHTTP},
		{name: "garbage", send: "\x00\x01\x02garbage that is no protocol at all", reason: termination.ReasonNotTLS, outcome: termination.OutcomeBrokenOff, noise: termination.NoiseScan},
		{name: "PostgreSQL", send: "\x00\x00\x00\x08\x04\xd2\x16\x2f", reason: termination.ReasonStartTLS, outcome: termination.OutcomeBrokenOff},
		{name: "PROXY header", send: "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", reason: termination.ReasonProxyHeader, outcome: termination.OutcomeRefused},
		{name: "nothing", reason: termination.ReasonSilent, outcome: termination.OutcomeBrokenOff, noise: termination.NoisePortCheck},
		{name: "silence", wait: true, reason: termination.ReasonSilent, outcome: termination.OutcomeBrokenOff, noise: termination.NoisePortCheck},
		{name: "half a hello", send: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abc", reason: termination.ReasonHelloBroken, outcome: termination.OutcomeBrokenOff, noise: termination.NoiseHalfHello},
		{name: "half a hello, then silence", send: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abc", wait: true, reason: termination.ReasonTimeout, outcome: termination.OutcomeBrokenOff},
		{name: "MQTT, of a client that somebody wants to make work", send: "\x10\x10\x00\x04MQTT\x04\x02", reason: termination.ReasonNotTLS, outcome: termination.OutcomeBrokenOff},
		{name: "too large", send: "\x16\x03\x01\x40\x00\x01\x01\x00\x00", reason: termination.ReasonHelloBroken, outcome: termination.OutcomeRefused},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", address(port))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(conn, test.send); err != nil {
				t.Fatal(err)
			}
			if !test.wait {
				_ = conn.(*net.TCPConn).CloseWrite()
			}
			answer, err := io.ReadAll(conn)
			if err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("read the answer: %v", err)
			}
			if !strings.HasPrefix(string(answer), test.answer) {
				t.Errorf("answered %q, want %q", answer, test.answer)
			}
			rec := r.next()
			if rec.Verdict.Reason != test.reason || rec.Verdict.Outcome != test.outcome {
				t.Errorf("recorded %s %q, want %s %q (%s)", rec.Verdict.Outcome, rec.Verdict.Reason, test.outcome, test.reason, rec.Error)
			}
			if rec.Noise != test.noise {
				t.Errorf("classed as %q, want %q", rec.Noise, test.noise)
			}
			if rec.Verdict.Explanation.Sentence == "" {
				t.Error("no explanation")
			}
		})
	}
	t.Run("the HTTP answer can be read", func(t *testing.T) {
		conn, err := net.Dial("tcp", address(port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "https://") {
			t.Errorf("%d %q %v", res.StatusCode, body, err)
		}
	})
}

// Ten thousand connections that say nothing are held within the limits and let go at the deadline, and a client that
// comes meanwhile is served. The crowd is a process of its own, since each side needs ten thousand open files.
func TestTenThousandIdleConnections(t *testing.T) {
	const count = 10_000
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	r.config.Limits.HandshakeTimeout = 12 * time.Second
	r.config.Limits.HalfOpen, r.config.Limits.HalfOpenPerAddress = count+10, count+10
	r.config.Limits.Connections, r.config.Limits.ConnectionsPerAddress = count+10, count+10
	port := freePort(t)
	r.endpoint("a", port, upstream.URL, nil)
	r.apply()
	crowd := exec.Command(os.Args[0])
	crowd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", crowdVariable, address(port), count))
	crowd.Stderr = os.Stderr
	output, err := crowd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := crowd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	if !lines.Scan() || lines.Text() != "all are in" {
		_ = crowd.Wait()
		t.Fatalf("the crowd said %q", lines.Text())
	}
	r.wait("the crowd to be accepted", func() bool { return r.gateway.Status().HalfOpen >= count*9/10 })
	if status, _, err := get(r.clientConfig("a.localhost", tls.VersionTLS13, nil), port, "a.localhost"); err != nil || status != 200 {
		t.Errorf("beside the idle ones: %d, %v", status, err)
	}
	if !lines.Scan() || lines.Text() != "all were let go" {
		t.Errorf("the crowd said %q", lines.Text())
	}
	if err := crowd.Wait(); err != nil {
		t.Error(err)
	}
	r.wait("the end of the crowd", func() bool { return r.gateway.Status().Connections == 0 })
	if s := r.gateway.Status(); s.TurnedAway["half_open"] != 0 {
		t.Errorf("turned away %v", s.TurnedAway)
	}
}

// crowdVariable makes the test binary a crowd instead: its value is an address and a count.
const crowdVariable = "COUNTERSIGN_TEST_CROWD"

// runCrowd opens connections that say nothing and waits until each is closed by the other side.
func runCrowd(what string) error {
	var address string
	var count int
	if _, err := fmt.Sscan(what, &address, &count); err != nil {
		return err
	}
	conns := make([]net.Conn, 0, count)
	for range count {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return fmt.Errorf("after %d connections: %w; raise the limit of open files (ulimit -n)", len(conns), err)
		}
		conns = append(conns, conn)
	}
	fmt.Println("all are in")
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(2 * patience))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(errors.New("a connection was not let go"), err)
		}
	}
	fmt.Println("all were let go")
	return nil
}

// Above a limit connections are turned away, counted and recorded, and places come back when connections end.
func TestLimits(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	r.config.Limits.HalfOpenPerAddress = 3
	port := freePort(t)
	r.endpoint("a", port, upstream.URL, nil)
	r.apply()
	var held []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", address(port))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	r.wait("three half-open connections", func() bool { return r.gateway.Status().HalfOpen == 3 })
	if _, _, err := get(r.clientConfig("a.localhost", tls.VersionTLS13, nil), port, "a.localhost"); err == nil {
		t.Error("the fourth was served")
	}
	rec := r.next()
	if rec.Verdict.Reason != termination.ReasonOverloaded || !strings.Contains(rec.Verdict.Explanation.Sentence, "half_open_per_address") {
		t.Errorf("recorded %q: %s", rec.Verdict.Reason, rec.Verdict.Explanation.Sentence)
	}
	if n := r.gateway.Status().TurnedAway["half_open_per_address"]; n != 1 {
		t.Errorf("turned away %d", n)
	}
	for _, c := range held {
		_ = c.Close()
	}
	r.wait("free places", func() bool { return r.gateway.Status().HalfOpen == 0 })
	if status, _, err := get(r.clientConfig("a.localhost", tls.VersionTLS13, nil), port, "a.localhost"); err != nil || status != 200 {
		t.Errorf("after the places were free: %d, %v", status, err)
	}
}

// An upstream that is down, resets, or never answers is bounded, recorded and explained, over HTTP and over raw bytes.
func TestUpstreamFailures(t *testing.T) {
	refusing, resetting := tlstest.Refusing(t), tlstest.Resetting(t)
	r := newRig(t)
	port := freePort(t)
	r.endpoint("down", port, "http://"+refusing.Addr, nil)
	r.endpoint("resets", port, "http://"+resetting.Addr, nil)
	r.endpoint("rawdown", port, "tcp://"+refusing.Addr, func(e *termination.Endpoint) { e.Scheme = termination.SchemeTLS })
	r.endpoint("sealed", port, "tcp://"+refusing.Addr, func(e *termination.Endpoint) {
		e.Scheme, e.TerminateAt = termination.SchemeTLS, termination.AtUpstream
	})
	r.apply()
	for _, name := range []string{"down", "resets"} {
		status, _, err := get(r.clientConfig(name+".localhost", tls.VersionTLS13, nil), port, name+".localhost")
		if err != nil || status != http.StatusBadGateway {
			t.Errorf("%s: status %d, %v", name, status, err)
		}
		if end := r.end(r.next().ID); end.Reason != termination.ReasonUpstreamDown || end.Detail == "" {
			t.Errorf("%s: ended with %q %q", name, end.Reason, end.Detail)
		}
	}
	conn, err := tls.Dial("tcp", address(port), r.clientConfig("rawdown.localhost", tls.VersionTLS13, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the client of the raw endpoint read %v, want a clean end", err)
	}
	conn.Close()
	if end := r.end(r.next().ID); end.Reason != termination.ReasonUpstreamDown || end.Upstream == nil {
		t.Errorf("raw: ended with %+v", end)
	}
	if _, err := tls.Dial("tcp", address(port), r.clientConfig("sealed.localhost", tls.VersionTLS13, nil)); err == nil {
		t.Error("the sealed endpoint answered")
	}
	if rec := r.next(); rec.Verdict.Reason != termination.ReasonUpstreamDown || rec.Verdict.Outcome != termination.OutcomeRefused {
		t.Errorf("sealed: recorded %s %q", rec.Verdict.Outcome, rec.Verdict.Reason)
	}
}
