package gateway_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Whatever a stranger presents to an agent harms nobody else who is connected through it: a report that the gateway does
// not take would end the tunnel, and everyone's connection with it.
func TestStrangersDoNotEndTheTunnel(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	echo := tlstest.TCP(t).Addr
	r := newRig(t)
	r.trust("devices", devices)
	r.agents()
	port := freePort(t)
	r.endpoint("a", port, "tcp://"+echo, func(e *termination.Endpoint) { asTLS(e); require("devices")(e); atAgent(e) })
	r.apply()
	r.agent("a", "tcp://"+echo)
	alice := devices.Client("alice")
	conn, err := r.echoTLS("a", port, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.next()
	filler := tlstest.NewCA(tlstest.CN("f")).X509.Raw
	mallory := alice.TLS() // its key is not looked at: the chain is refused before
	mallory.Certificate = devices.Client("mallory").TLS().Certificate
	for range 400 {
		mallory.Certificate = append(mallory.Certificate, filler)
	}
	config := r.clientConfig("a.localhost", tls.VersionTLS13, nil)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &mallory, nil }
	bad, err := tls.Dial("tcp", address(port), config)
	if err == nil {
		_ = bad.SetDeadline(time.Now().Add(patience))
		_, err = bad.Read(make([]byte, 1))
		_ = bad.Close()
	}
	if err == nil {
		t.Error("a stranger was let in")
	}
	if rec := r.next(); rec.Verdict.Outcome != termination.OutcomeRefused || rec.Verdict.Reason == termination.ReasonAgentOffline {
		t.Errorf("recorded %s %s, %s", rec.Verdict.Outcome, rec.Verdict.Reason, rec.Error)
	}
	if _, err := fmt.Fprintln(conn, "again"); err != nil {
		t.Fatalf("another client was cut off: %v", err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "again\n" {
		t.Fatalf("another client was cut off: %q, %v", line, err)
	}
}
