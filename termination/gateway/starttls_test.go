package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

const (
	sslRequest    = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	gssRequest    = "\x00\x00\x00\x08\x04\xd2\x16\x30"
	cancelRequest = "\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x01\x00\x12\x34\x56\x78"
	startup       = "\x00\x00\x00\x14\x00\x03\x00\x00user\x00alice\x00\x00"
)

// database makes an endpoint one in front of PostgreSQL, for clients with a certificate of these authorities.
func database(authorities ...string) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) {
		require(authorities...)(e)
		e.Scheme, e.StartTLS = termination.SchemeTLS, termination.StartTLSPostgres
	}
}

// PostgreSQL's own client comes to a real database through the edge and through an agent, with its certificate and with
// all of its checks.
func TestPSQL(t *testing.T) {
	backend := tlstest.Postgres(t)
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	alice := devices.Client("alice").WriteFiles(t, t.TempDir())
	mallory := tlstest.NewCA(tlstest.CN("Strangers")).Client("mallory").WriteFiles(t, t.TempDir())
	r := newRig(t)
	r.trust("devices", devices)
	root := r.serverCA.WriteFiles(t, t.TempDir()).Cert
	port := freePort(t)
	r.endpoint("db", port, "tcp://"+backend, database("devices"))
	r.endpoint("web", port, "whoami", nil) // on the same port
	r.agents()
	r.endpoint("far", port, "tcp://"+backend, func(e *termination.Endpoint) { database("devices")(e); atAgent(e) })
	r.apply()
	r.agent("far", "tcp://"+backend)
	to := func(host, mode string, files *tlstest.Files) string {
		s := fmt.Sprintf("host=%s.localhost hostaddr=127.0.0.1 port=%d user=alice password='%s' dbname=postgres sslmode=%s sslrootcert=%s", host, port, tlstest.PostgresPassword, mode, root)
		if files == nil {
			return s + " sslcert=/nonexistent/cert sslkey=/nonexistent/key"
		}
		return s + fmt.Sprintf(" sslcert=%s sslkey=%s", files.Cert, files.Key)
	}
	tests := []struct {
		name       string
		connection string
		says       string
		outcome    termination.Outcome
		reason     termination.Reason
		explains   string
	}{
		{"with a certificate", to("db", "verify-full", &alice), "42", termination.OutcomeVerified, "", ""},
		{"in TLS 1.2", to("db", "verify-full", &alice) + " ssl_max_protocol_version=TLSv1.2", "42", termination.OutcomeVerified, "", ""},
		{"through an agent", to("far", "verify-full", &alice), "42", termination.OutcomeVerified, "", ""},
		{"through an agent without a certificate", to("far", "verify-full", nil), "certificate required", termination.OutcomeRefused, termination.ReasonCertMissing, ""},
		{"that would rather not", to("db", "allow", &alice), "42", termination.OutcomeBrokenOff, termination.ReasonStartTLS, "without asking for TLS"},
		{"without a certificate", to("db", "verify-full", nil), "certificate required", termination.OutcomeRefused, termination.ReasonCertMissing, ""},
		{"of a stranger", to("db", "verify-full", &mallory), "unknown ca", termination.OutcomeRefused, termination.ReasonCAUnknown, ""},
		{"without TLS", to("db", "disable", nil), "connect with sslmode=verify-full", termination.OutcomeBrokenOff, termination.ReasonStartTLS, "without asking for TLS"},
		{"to another endpoint", to("web", "verify-full", &alice), "unrecognized name", termination.OutcomeRefused, termination.ReasonStartTLS, "and then for web"},
		{"to nobody", to("nobody", "verify-full", &alice), "unrecognized name", termination.OutcomeRefused, termination.ReasonNameUnknown, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := tlstest.PSQL(t, test.connection, "SELECT 6*7")
			if !got.Has(test.says) {
				t.Errorf("psql says %s", got.Output())
			}
			rec := r.next()
			if rec.Verdict.Outcome != test.outcome || rec.Verdict.Reason != test.reason || !strings.Contains(rec.Verdict.Explanation.Sentence, test.explains) {
				t.Errorf("recorded %s %q: %s (%s)", rec.Verdict.Outcome, rec.Verdict.Reason, rec.Verdict.Explanation.Sentence, rec.Error)
			}
			if asked := rec.StartTLS == termination.StartTLSPostgres; asked != (test.reason != termination.ReasonStartTLS || rec.Endpoint == "web") {
				t.Errorf("recorded that it asked first: %v", asked)
			}
			if test.name == "that would rather not" { // libpq tries again, with TLS
				if again := r.next(); again.Verdict.Outcome != termination.OutcomeVerified {
					t.Errorf("then %s", again.Verdict.Outcome)
				}
			}
		})
	}
}

// speak sends texts, each when the answer to the one before is there, and returns what came last.
func speak(t *testing.T, port uint16, texts ...string) (net.Conn, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	last := make([]byte, 1024)
	n := 0
	for _, text := range texts {
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if n, err = conn.Read(last); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	return conn, string(last[:n])
}

// What a client may ask before TLS, and in which order.
func TestStartTLSForPostgres(t *testing.T) {
	echo := tlstest.TCP(t)
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	r := newRig(t)
	r.trust("devices", devices)
	port, other := freePort(t), freePort(t)
	r.endpoint("db", port, "tcp://"+echo.Addr, database("devices"))
	r.endpoint("web", other, "whoami", nil)
	r.agents()
	r.endpoint("far", port, "tcp://"+echo.Addr, func(e *termination.Endpoint) { database("devices")(e); atAgent(e) })
	r.endpoint("idle", other, "tcp://"+echo.Addr, func(e *termination.Endpoint) { database("devices")(e); e.Enabled = false })
	r.apply()
	r.agent("far", "tcp://"+echo.Addr)
	config := r.clientConfig("db.localhost", tls.VersionTLS13, devices.Client("alice"))
	config.NextProtos = []string{"postgresql"} // as libpq 17
	enter := func(conn net.Conn) *tls.Conn {
		t.Helper()
		c := tls.Client(conn, config)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		echoes(t, c)
		return c
	}
	t.Run("TLS at once", func(t *testing.T) {
		conn, err := tls.Dial("tcp", address(port), config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		echoes(t, conn)
		if got := conn.ConnectionState().NegotiatedProtocol; got != "postgresql" {
			t.Errorf("agreed on %q, and libpq wants postgresql", got)
		}
		if rec := r.next(); rec.StartTLS != termination.StartTLSNone || rec.Verdict.Outcome != termination.OutcomeVerified {
			t.Errorf("recorded %q, %s", rec.StartTLS, rec.Verdict.Outcome)
		}
	})
	t.Run("TLS at once at an agent", func(t *testing.T) {
		far := r.clientConfig("far.localhost", tls.VersionTLS13, devices.Client("alice"))
		far.NextProtos = config.NextProtos
		conn, err := tls.Dial("tcp", address(port), far)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		echoes(t, conn)
		if got := conn.ConnectionState().NegotiatedProtocol; got != "postgresql" {
			t.Errorf("agreed on %q, and libpq wants postgresql", got)
		}
		r.next()
	})
	for name, texts := range map[string][]string{"asked for": {sslRequest}, "after GSSAPI was refused": {gssRequest, sslRequest}} {
		t.Run("TLS "+name, func(t *testing.T) {
			conn, answer := speak(t, port, texts...)
			if answer != "S" {
				t.Fatalf("answered %q", answer)
			}
			enter(conn)
			if rec := r.next(); rec.StartTLS != termination.StartTLSPostgres || rec.Verdict.Outcome != termination.OutcomeVerified {
				t.Errorf("recorded %q, %s", rec.StartTLS, rec.Verdict.Outcome)
			}
		})
	}
	t.Run("asked for byte by byte", func(t *testing.T) {
		conn, err := net.Dial("tcp", address(port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.Copy(conn, iotest.OneByteReader(strings.NewReader(sslRequest))); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 1)
		if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'S' {
			t.Fatalf("answered %q, %v", answer, err)
		}
		enter(conn)
		r.next()
	})
	refusals := []struct {
		name     string
		port     uint16
		texts    []string
		answer   string // in the last answer; empty: none
		outcome  termination.Outcome
		reason   termination.Reason
		explains string
	}{
		{"asked for twice", port, []string{sslRequest, sslRequest}, "", termination.OutcomeBrokenOff, termination.ReasonStartTLS, ""},
		{"GSSAPI twice", port, []string{gssRequest, gssRequest}, "", termination.OutcomeBrokenOff, termination.ReasonStartTLS, ""},
		{"GSSAPI after TLS", port, []string{sslRequest, gssRequest}, "", termination.OutcomeBrokenOff, termination.ReasonStartTLS, ""},
		{"without TLS after GSSAPI", port, []string{gssRequest, startup}, "SFATAL\x00VFATAL\x00C28000\x00M", termination.OutcomeBrokenOff, termination.ReasonStartTLS, "without asking for TLS"},
		{"without TLS after TLS was promised", port, []string{sslRequest, startup}, "", termination.OutcomeBrokenOff, termination.ReasonStartTLS, ""},
		{"HTTP after TLS was promised", port, []string{sslRequest, "GET / HTTP/1.1\r\n\r\n"}, "400 Bad Request", termination.OutcomeBrokenOff, termination.ReasonNotTLS, ""},
		{"cancelling", port, []string{cancelRequest}, "", termination.OutcomeBrokenOff, termination.ReasonStartTLS, "cancel a query"},
		{"with bytes behind", port, []string{sslRequest + startup}, "", termination.OutcomeRefused, termination.ReasonStartTLS, "more bytes came"},
		{"with a hello behind", port, []string{sslRequest + string(helloFor(t, "db.localhost"))}, "", termination.OutcomeRefused, termination.ReasonStartTLS, "more bytes came"},
		{"where nobody has it", other, []string{sslRequest}, "", termination.OutcomeBrokenOff, termination.ReasonStartTLS, "TLS comes first"},
		{"without TLS where nobody has it", other, []string{startup}, "sslnegotiation=direct", termination.OutcomeBrokenOff, termination.ReasonStartTLS, "TLS comes first"},
	}
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			_, answer := speak(t, test.port, test.texts...)
			if test.answer == "" && answer != "" || !strings.Contains(answer, test.answer) {
				t.Errorf("answered %q", answer)
			}
			rec := r.next()
			if rec.Verdict.Outcome != test.outcome || rec.Verdict.Reason != test.reason || !strings.Contains(rec.Verdict.Explanation.Sentence, test.explains) {
				t.Errorf("recorded %s %q: %s (%s)", rec.Verdict.Outcome, rec.Verdict.Reason, rec.Verdict.Explanation.Sentence, rec.Error)
			}
		})
	}
	t.Run("and then nothing", func(t *testing.T) {
		conn, _ := speak(t, port, sslRequest)
		_ = conn.Close()
		if rec := r.next(); rec.Verdict.Outcome != termination.OutcomeBrokenOff || rec.Verdict.Reason != termination.ReasonClientLeft {
			t.Errorf("recorded %s %q", rec.Verdict.Outcome, rec.Verdict.Reason)
		}
	})
	if got := echo.Accepted(); got != 5 {
		t.Errorf("the service was reached %d times", got)
	}
	r.change("db", func(e *termination.Endpoint) { e.StartTLS = termination.StartTLSNone })
	if _, answer := speak(t, port, sslRequest); answer != "S" {
		t.Errorf("answered %q while another endpoint of the address has it", answer)
	}
	r.change("far", func(e *termination.Endpoint) { e.StartTLS = termination.StartTLSNone })
	if _, answer := speak(t, port, sslRequest); answer != "" {
		t.Errorf("answered %q when nobody has it any more", answer)
	}
}

// Somebody on the way puts bytes of his own between the request for TLS and the client's TLS (CVE-2021-23214). A server
// that takes what it buffered for what came inside TLS lets them in; the gateway does not.
func TestBytesBeforeTLSNeverCountAsInside(t *testing.T) {
	const injected = "injected"
	ca := tlstest.NewCA()
	cert := ca.Server("db.localhost")
	attack := func(t *testing.T, addr string, config *tls.Config, received func() string) bool {
		t.Helper()
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conn, sslRequest+injected); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 1)
		if n, _ := conn.Read(answer); n == 0 || answer[0] != 'S' {
			return false
		}
		c := tls.Client(conn, config)
		if c.Handshake() != nil {
			return false
		}
		_ = c.CloseWrite()
		_, _ = io.ReadAll(c)
		return strings.Contains(received(), injected)
	}

	took := make(chan string, 1)
	naive := tlstest.ServeOnce(t, func(conn net.Conn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		request := make([]byte, len(sslRequest))
		if _, err := io.ReadFull(in, request); err != nil {
			return
		}
		_, _ = conn.Write([]byte{'S'})
		early, _ := in.Peek(in.Buffered()) // kept for the protocol inside
		secured := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert.TLS()}})
		if secured.Handshake() != nil {
			return
		}
		inside, _ := io.ReadAll(io.MultiReader(bytes.NewReader(early), secured))
		took <- string(inside)
	})
	if !attack(t, naive, &tls.Config{RootCAs: ca.Pool(), ServerName: "db.localhost"}, func() string { return <-took }) {
		t.Fatal("the attack does not work on a naive server")
	}

	echo := tlstest.TCP(t)
	r := newRig(t)
	port := freePort(t)
	r.endpoint("db", port, "tcp://"+echo.Addr, func(e *termination.Endpoint) {
		e.Scheme, e.StartTLS = termination.SchemeTLS, termination.StartTLSPostgres
	})
	r.apply()
	if attack(t, address(port), r.clientConfig("db.localhost", tls.VersionTLS13, nil), func() string { return injected }) {
		t.Error("the attack works on the gateway")
	}
	if echo.Accepted() != 0 {
		t.Error("the service was reached")
	}
}

// What speaks first in its own words is recognised, recorded under a stable reason, and told how to begin with TLS.
func TestOtherProtocolsAreRecognised(t *testing.T) {
	r := newRig(t)
	port := freePort(t)
	r.endpoint("raw", port, "tcp://127.0.0.1:9", func(e *termination.Endpoint) { e.Scheme = termination.SchemeTLS })
	r.apply()
	for sent, want := range map[string]struct {
		reason termination.Reason
		fix    string
	}{
		"EHLO mail.example\r\n":                    {termination.ReasonStartTLS, "submissions"},
		"A001 CAPABILITY\r\n":                      {termination.ReasonStartTLS, "imaps"},
		"CAPA\r\n":                                 {termination.ReasonStartTLS, "pop3s"},
		"AUTH TLS\r\n":                             {termination.ReasonStartTLS, "ftps://"},
		"<stream:stream to='example.com'>":         {termination.ReasonStartTLS, "direct TLS"},
		"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03": {termination.ReasonStartTLS, "ldaps://"},
		"SSH-2.0-OpenSSH_9.6\r\n":                  {termination.ReasonNotTLS, "ProxyCommand"},
		"\x10\x10\x00\x04MQTT\x04\x02":             {termination.ReasonNotTLS, "mqtts://"},
		"AMQP\x00\x00\x09\x01":                     {termination.ReasonNotTLS, "amqps://"},
		"*1\r\n$4\r\nPING\r\n":                     {termination.ReasonNotTLS, "rediss://"},
		"GET / HTTP/1.1\r\n\r\n":                   {termination.ReasonNotTLS, "https://"},
		sslRequest:                                 {termination.ReasonStartTLS, "set starttls: postgres"},
	} {
		t.Run(fmt.Sprintf("%.12q", sent), func(t *testing.T) {
			speak(t, port, sent)
			rec := r.next()
			if fixes := rec.Verdict.Explanation.Fixes; rec.Verdict.Reason != want.reason || len(fixes) == 0 || !strings.Contains(fixes[0].Text, want.fix) {
				t.Errorf("recorded %q: %s %+v (%s)", rec.Verdict.Reason, rec.Verdict.Explanation.Sentence, fixes, rec.Error)
			}
		})
	}
}

// A load balancer's PROXY header comes before everything, PostgreSQL's request too.
func TestStartTLSBehindBalancer(t *testing.T) {
	echo := tlstest.TCP(t)
	r := newRig(t)
	port := freePort(t)
	r.endpoint("db", port, "tcp://"+echo.Addr, func(e *termination.Endpoint) {
		from("127.0.0.1/32")(e)
		e.StartTLS = termination.StartTLSPostgres
	})
	r.apply()
	conn, answer := speak(t, port, "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n"+sslRequest)
	if answer != "S" {
		t.Fatalf("answered %q", answer)
	}
	inside := tls.Client(conn, r.clientConfig("db.localhost", tls.VersionTLS13, nil))
	if err := inside.Handshake(); err != nil {
		t.Fatal(err)
	}
	echoes(t, inside)
	if rec := r.next(); rec.Peer != farClient || rec.StartTLS != termination.StartTLSPostgres {
		t.Errorf("recorded %s, %q", rec.Peer, rec.StartTLS)
	}
}
