package clienterror_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/clienterror"
	"countersign/termination/tlstest"
)

// What curl, openssl and Go print here when a server refuses them is what the table says, and leads back to the reason.
func TestRealRefusals(t *testing.T) {
	ca := tlstest.NewCA()
	server := ca.Server("localhost")
	dir := t.TempDir()
	root := server.WriteFiles(t, dir).Root
	good, stranger, expired := ca.Client("good"), tlstest.NewCA().Client("stranger"), ca.Client("expired", tlstest.Expired())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		demanding := func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{server.TLS()}, MinVersion: version, MaxVersion: version, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
		}
		plain, denying := demanding(), demanding()
		denying.VerifyConnection = func(tls.ConnectionState) error { return errors.New("a rule says no") }
		missing := uint8(116)
		if version == tls.VersionTLS12 {
			missing = 40
		}
		for _, c := range []struct {
			config *tls.Config
			as     *tlstest.Cert
			reason termination.Reason
			alert  uint8
		}{
			{plain, nil, termination.ReasonCertMissing, missing},
			{plain, stranger, termination.ReasonCAUnknown, 48},
			{plain, expired, termination.ReasonCertExpired, 45},
			{denying, good, termination.ReasonPolicyDenied, 42},
		} {
			port := serve(t, func(conn net.Conn) { handshake(conn, c.config) })
			info, _ := c.reason.Info()
			lines := clienterror.Lines(record(c.reason, c.alert, version, info.Beat, termination.SchemeHTTPS))
			curl := []string{"-sS", "--max-time", "10", "--cacert", root, "https://localhost:" + port + "/"}
			openssl := []string{"s_client", "-connect", "localhost:" + port, "-CAfile", root, "-quiet"}
			config := &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}
			if c.as != nil {
				f := c.as.WriteFiles(t, dir)
				curl, openssl = append(curl, "--cert", f.Chain, "--key", f.Key), append(openssl, "-cert", f.Chain, "-key", f.Key)
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { cert := c.as.TLS(); return &cert, nil }
			}
			printed(t, lines, c.reason, "curl", run(t, "curl", curl...))
			printed(t, lines, c.reason, "openssl s_client", run(t, "openssl", openssl...))
			printed(t, lines, c.reason, "Go", dial(port, config))
		}
	}
}

// Every alert of the table, as Go and, for some, curl print it when it answers a ClientHello.
func TestRealAlerts(t *testing.T) {
	for _, number := range []uint8{10, 20, 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 70, 71, 80, 86, 109, 110, 112, 116, 120} {
		port := serve(t, func(conn net.Conn) {
			if _, err := conn.Read(make([]byte, 4096)); err == nil {
				_, _ = conn.Write([]byte{21, 3, 3, 0, 2, 2, number})
			}
			half(conn)
		})
		outs := []string{dial(port, &tls.Config{InsecureSkipVerify: true})}
		if slices.Contains([]uint8{45, 46, 51, 70, 112, 116, 120}, number) {
			outs = append(outs, run(t, "curl", "-sS", "--max-time", "10", "-k", "https://localhost:"+port+"/"))
		}
		for _, out := range outs {
			readings := clienterror.Read(out)
			if len(readings) == 0 {
				t.Errorf("alert %d: not recognised: %q", number, out)
				continue
			}
			if got := readings[0].Alert; got != number && (number != 45 || !slices.Contains(readings[0].Reasons, termination.ReasonCertExpired)) {
				t.Errorf("alert %d: read as %d: %q", number, got, out)
			}
		}
	}
}

// What clients print of a server that they do not accept.
func TestRealServers(t *testing.T) {
	ca := tlstest.NewCA()
	for _, c := range []struct {
		server *tlstest.Cert
		trust  *tlstest.Cert
		reason termination.Reason
	}{
		{ca.Server("localhost"), tlstest.NewCA(), termination.ReasonClientRefusedUsCA},
		{ca.Server("other.example"), ca, termination.ReasonClientRefusedUsName},
		{ca.Server("localhost", tlstest.Expired()), ca, termination.ReasonClientRefusedUsDate},
	} {
		port := serve(t, func(conn net.Conn) { handshake(conn, &tls.Config{Certificates: []tls.Certificate{c.server.TLS()}}) })
		root := c.trust.WriteFiles(t, t.TempDir()).Cert
		pool := x509.NewCertPool()
		pool.AddCert(c.trust.X509)
		for _, out := range []string{run(t, "curl", "-sS", "--max-time", "10", "--cacert", root, "https://localhost:"+port+"/"), dial(port, &tls.Config{RootCAs: pool, ServerName: "localhost"})} {
			readings := clienterror.Read(out)
			if len(readings) == 0 || !slices.Contains(readings[0].Reasons, c.reason) {
				t.Errorf("%s: %q leads to %+v", c.reason, out, readings)
			}
		}
	}
}

var version = regexp.MustCompile(`OpenSSL/[0-9a-z.]+: |^[0-9A-F]+:`)

// printed checks that one of the tool's lines is what it printed.
func printed(t *testing.T, lines []clienterror.Printed, reason termination.Reason, tool, out string) {
	t.Helper()
	got := version.ReplaceAllString(out, "")
	found := false
	for _, l := range lines {
		if !strings.HasPrefix(l.Tool, tool) {
			continue
		}
		before, after, _ := strings.Cut(l.Text, "…")
		found = found || strings.Contains(got, before) && strings.Contains(got, after)
	}
	if !found {
		t.Errorf("%s printed for %s what no line says: %q", tool, reason, out)
	}
	readings := clienterror.Read(out)
	if len(readings) == 0 || !slices.Contains(readings[0].Reasons, reason) {
		t.Errorf("%s printed for %s what does not lead back to it: %q: %+v", tool, reason, out, readings)
	}
}

// serve accepts one connection after the other until the test ends.
func serve(t *testing.T, one func(net.Conn)) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			one(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func handshake(conn net.Conn, config *tls.Config) {
	_ = tls.Server(conn, config).Handshake()
	half(conn)
}

// half lets the other side read what was sent before it learns of the end.
func half(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, conn)
}

// run returns the first line of an error that a tool prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var errs strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader("GET / HTTP/1.0\r\n\r\n"), &errs
	_ = cmd.Run() // it fails, that is the point
	for line := range strings.Lines(errs.String()) {
		if strings.Contains(line, "curl: ") || strings.Contains(line, ":error:") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(errs.String())
}

// dial returns what Go says.
func dial(port string, config *tls.Config) string {
	conn, err := tls.Dial("tcp", "localhost:"+port, config)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	if _, err = conn.Read(make([]byte, 1)); err != nil {
		return err.Error()
	}
	return ""
}
