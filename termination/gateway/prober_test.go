package gateway_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// A record is a proof's by the addresses of its connection, whatever becomes of it; nobody else's is.
func TestProbesAreTagged(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	r := newRig(t)
	r.trust("devices", devices)
	port := freePort(t)
	r.endpoint("strict", port, "whoami", require("devices"))
	service := tlstest.TLS(t, &tls.Config{Certificates: []tls.Certificate{r.serverCA.Server("sealed.localhost").TLS()}})
	r.endpoint("sealed", port, "tcp://"+service.Addr, func(e *termination.Endpoint) {
		e.Scheme, e.TerminateAt = termination.SchemeTLS, termination.AtUpstream
	})
	r.apply()
	alice := devices.Client("alice")
	speak := func(name string, cert *tlstest.Cert) func(net.Conn) {
		return func(c net.Conn) { _ = tls.Client(c, r.clientConfig(name, tls.VersionTLS12, cert)).Handshake() }
	}
	tries := []struct {
		name    string
		speak   func(net.Conn)
		outcome termination.Outcome
	}{
		{"let in", speak("strict.localhost", alice), termination.OutcomeVerified},
		{"refused", speak("strict.localhost", nil), termination.OutcomeRefused},
		{"unknown name", speak("nobody.localhost", nil), termination.OutcomeRefused},
		{"sealed", speak("sealed.localhost", nil), termination.OutcomePassed},
		{"not TLS", func(c net.Conn) { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") }, termination.OutcomeBrokenOff},
	}
	for _, c := range tries {
		// Whoever comes from the same address once the probe has given it back is a stranger. Another program may have got it in
		// between, and keep it: then another probe tells as much.
		var stranger net.Conn
		for attempt := 0; stranger == nil; attempt++ {
			probe, err := r.gateway.DialProbe(t.Context(), netip.MustParseAddrPort(address(port)))
			if err != nil {
				t.Fatal(err)
			}
			_ = probe.SetDeadline(time.Now().Add(patience))
			c.speak(probe)
			got := <-probe.Record()
			if rec := r.next(); rec != got || !rec.Proof || rec.Verdict.Outcome != c.outcome {
				t.Errorf("%s: recorded %+v, %v", c.name, rec.Verdict, rec.Proof)
			}
			from := probe.LocalAddr()
			_ = probe.Conn.(*net.TCPConn).SetLinger(0) // so that the address is free at once
			_ = probe.Close()
			stranger, err = (&net.Dialer{LocalAddr: from, Control: reuse}).DialContext(t.Context(), "tcp", address(port))
			if err != nil && (!errors.Is(err, syscall.EADDRINUSE) || attempt == 100) {
				t.Fatal(err)
			}
		}
		_ = stranger.SetDeadline(time.Now().Add(patience))
		c.speak(stranger)
		if rec := r.next(); rec.Proof || rec.Peer.String() != stranger.LocalAddr().String() || rec.Verdict.Outcome != c.outcome {
			t.Errorf("%s: a stranger's record: %+v", c.name, rec)
		}
		_ = stranger.Close()
	}
	r.wait("the count of strangers, and of nobody else", func() bool { return r.hub.Counts(time.Minute, "").Total() == uint64(len(tries)) })
}

// reuse lets an address be used again that was in use a moment ago.
func reuse(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
	return errors.Join(cerr, err)
}
