package terminate_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/servercert"
	"countersign/termination/terminate"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
	"countersign/termination/wire"
)

const serverName = "api.localhost"

// setup is an endpoint with its Terminator and the CA behind its server certificate.
type setup struct {
	terminator *terminate.Terminator
	serverCA   *tlstest.Cert
	peer       netip.AddrPort // that the next clients come from, for the policy; zero: not known
}

func newSetup(t *testing.T, auth termination.ClientAuth, cas ...*tlstest.Cert) setup {
	t.Helper()
	return newSetupAt(t, nil, auth, cas...)
}

// newSetupAt is newSetup with a clock.
func newSetupAt(t *testing.T, now func() time.Time, auth termination.ClientAuth, cas ...*tlstest.Cert) setup {
	t.Helper()
	config := &termination.Config{Limits: termination.DefaultLimits()}
	for _, ca := range cas {
		name := ca.X509.Subject.CommonName
		config.Authorities = append(config.Authorities, termination.Authority{
			Name:         name,
			Certificates: []termination.CACertificate{{Certificate: ca.X509, Role: termination.RoleAnchor}},
		})
		auth.Authorities = append(auth.Authorities, name)
	}
	policy, err := verify.Compile(config, auth, verify.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	serverCA := tlstest.NewCA(tlstest.CN("Server CA"))
	server := serverCA.Server(serverName)
	chooser := servercert.NewChooser([]servercert.Chain{{Certificates: []*x509.Certificate{server.X509}, Key: server.Key}}, nil)
	terminator, err := terminate.New(terminate.Options{
		Endpoint:     &termination.Endpoint{Name: "api", Scheme: termination.SchemeHTTPS},
		Policy:       policy,
		Certificates: terminate.Certificates{GetCertificate: chooser.GetCertificate, Leaves: chooser.Leaves},
		Now:          now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return setup{terminator: terminator, serverCA: serverCA}
}

// meet runs one handshake: client is called with a connection to the Terminator. It returns the server's record.
func (s setup) meet(t *testing.T, client func(net.Conn)) *termination.Handshake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	records := make(chan *termination.Handshake, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			close(records)
			return
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(5 * time.Second))
		rec := &termination.Handshake{Time: time.Now(), Peer: s.peer}
		hello, seen, err := wire.ReadClientHello(raw, 0)
		if err != nil {
			t.Errorf("read the ClientHello: %v", err)
			close(records)
			return
		}
		rec.Hello = &termination.ClientHello{ServerName: hello.ServerName}
		conn := terminate.NewConn(raw, seen, time.Now)
		result := s.terminator.Handshake(conn, rec)
		if result.Conn != nil {
			_, _ = result.Conn.Write([]byte("hello"))
			_ = result.Conn.Close()
		} else {
			_ = conn.CloseWrite()
			_, _ = io.Copy(io.Discard, raw)
		}
		records <- rec
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	client(conn)
	_ = conn.Close()
	rec := <-records
	if rec == nil {
		t.Fatal("no record")
	}
	return rec
}

// goClient speaks with crypto/tls and returns the alert that it reads, if any.
func (s setup) goClient(version uint16, certs []tls.Certificate, change func(*tls.Config)) func(net.Conn) {
	return func(conn net.Conn) {
		config := &tls.Config{
			RootCAs: s.serverCA.Pool(), ServerName: serverName, MinVersion: version, MaxVersion: version,
			// Whatever the server announces, this client presents what it was given.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(certs) == 0 {
					return &tls.Certificate{}, nil
				}
				return &certs[0], nil
			},
		}
		if change != nil {
			change(config)
		}
		c := tls.Client(conn, config)
		if c.Handshake() == nil {
			_, _ = io.ReadAll(c)
		}
	}
}

func TestFailuresAreNamed(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	strangers := tlstest.NewCA(tlstest.CN("Strangers"))
	require := termination.ClientAuth{Mode: termination.ModeRequire, Announce: true}
	s := newSetup(t, require, devices)
	if !s.terminator.Exact() {
		t.Fatal("require with announced authorities must be on the exact path")
	}
	const both = 0
	tests := []struct {
		name    string
		version uint16
		cert    *tlstest.Cert
		change  func(*tls.Config)
		outcome termination.Outcome
		reason  termination.Reason
		beat    termination.Beat
		alert   int // in TLS 1.3
		alert12 int // in TLS 1.2 where it differs
		sent    bool
	}{
		{name: "good", cert: devices.Client("alice"), outcome: termination.OutcomeVerified, beat: 5, alert: -1},
		{name: "none", outcome: termination.OutcomeRefused, reason: termination.ReasonCertMissing, beat: 4, alert: 116, alert12: 40, sent: true},
		{name: "stranger", cert: strangers.Client("eve"), outcome: termination.OutcomeRefused, reason: termination.ReasonCAUnknown, beat: 4, alert: 48, sent: true},
		{name: "expired", cert: devices.Client("old", tlstest.Expired()), outcome: termination.OutcomeRefused, reason: termination.ReasonCertExpired, beat: 4, alert: 45, sent: true},
		{name: "early", cert: devices.Client("new", tlstest.NotYetValid()), outcome: termination.OutcomeRefused, reason: termination.ReasonCertEarly, beat: 4, alert: 45, sent: true},
		{name: "server certificate", cert: devices.Server("api"), outcome: termination.OutcomeRefused, reason: termination.ReasonCertUse, beat: 4, alert: 42, sent: true},
		{name: "critical extension", cert: devices.Client("odd", tlstest.UnknownCritical()), outcome: termination.OutcomeRefused, reason: termination.ReasonCertExtension, beat: 4, alert: 42, sent: true},
		{name: "client distrusts us", cert: devices.Client("alice"), change: func(c *tls.Config) { c.RootCAs = strangers.Pool() }, outcome: termination.OutcomeClientRefused, reason: termination.ReasonClientRefusedUs, beat: 3, alert: 42},
		{name: "client expects another name", cert: devices.Client("alice"), change: func(c *tls.Config) { c.ServerName = "other.localhost" }, outcome: termination.OutcomeClientRefused, reason: termination.ReasonClientRefusedUsName, beat: 3, alert: 42},
		{name: "no protocol in common", cert: devices.Client("alice"), change: func(c *tls.Config) { c.NextProtos = []string{"spdy/1"} }, outcome: termination.OutcomeRefused, reason: termination.ReasonALPN, beat: 2, alert: 120, sent: true},
		{name: "TLS 1.1", version: tls.VersionTLS11, outcome: termination.OutcomeRefused, reason: termination.ReasonVersionLow, beat: 2, alert: 70, sent: true},
		{name: "no suite in common", version: tls.VersionTLS12, change: func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA} }, outcome: termination.OutcomeRefused, reason: termination.ReasonNoCommonSuite, beat: 2, alert: 40, sent: true},
	}
	for _, test := range tests {
		versions := []uint16{test.version}
		if test.version == both {
			versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}
		}
		for _, version := range versions {
			t.Run(test.name+" "+tls.VersionName(version), func(t *testing.T) {
				var certs []tls.Certificate
				if test.cert != nil {
					certs = append(certs, test.cert.TLS())
				}
				rec := s.meet(t, s.goClient(version, certs, test.change))
				v := rec.Verdict
				if v.Outcome != test.outcome || v.Reason != test.reason || v.Beat != test.beat {
					t.Errorf("got %s %q at beat %d, want %s %q at beat %d (%s)", v.Outcome, v.Reason, v.Beat, test.outcome, test.reason, test.beat, rec.Error)
				}
				want := test.alert
				if version == tls.VersionTLS12 && test.alert12 != 0 {
					want = test.alert12
				}
				checkAlert(t, rec, want, test.sent)
			})
		}
	}
}

func checkAlert(t *testing.T, rec *termination.Handshake, want int, sent bool) {
	t.Helper()
	switch {
	case want < 0 && rec.Alert != nil:
		t.Errorf("unexpected alert %+v", rec.Alert)
	case want < 0:
	case rec.Alert == nil:
		t.Errorf("no alert was recorded, want %d (%s)", want, rec.Error)
	case int(rec.Alert.Number) != want || rec.Alert.Sent != sent:
		t.Errorf("alert %d sent=%v, want %d sent=%v (%s)", rec.Alert.Number, rec.Alert.Sent, want, sent, rec.Error)
	}
}

// On our own path every refusal of a certificate is bad_certificate, since crypto/tls sends no other for it.
func TestOwnPathSendsBadCertificate(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	strangers := tlstest.NewCA(tlstest.CN("Strangers"))
	s := newSetup(t, termination.ClientAuth{Mode: termination.ModeRequire, Announce: false}, devices)
	if s.terminator.Exact() {
		t.Fatal("without announcing, crypto/tls cannot verify first")
	}
	for name, cert := range map[string]*tlstest.Cert{
		"stranger": strangers.Client("eve"),
		"expired":  devices.Client("old", tlstest.Expired()),
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+" "+tls.VersionName(version), func(t *testing.T) {
				rec := s.meet(t, s.goClient(version, []tls.Certificate{cert.TLS()}, nil))
				if rec.Verdict.Outcome != termination.OutcomeRefused {
					t.Errorf("got %s, want refused", rec.Verdict.Outcome)
				}
				if len(rec.Presented) == 0 {
					t.Error("the presented chain was not recorded")
				}
				checkAlert(t, rec, 42, true)
			})
		}
	}
}

// OpenSSL does not trust our certificate and says so in plaintext, which crypto/tls reports as a bad record MAC.
func TestPlaintextAlertOfOpenSSL(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	s := newSetup(t, termination.ClientAuth{Mode: termination.ModeRequire, Announce: true}, devices)
	files := tlstest.NewCA(tlstest.CN("Other")).WriteFiles(t, t.TempDir())
	rec := s.meetProgram(t, func(address string) {
		tlstest.Curl(t, "--silent", "--cacert", files.Cert, "--connect-to", serverName+":443:"+address, "https://"+serverName+"/")
	})
	if rec.Verdict.Reason != termination.ReasonClientRefusedUsCA || rec.Verdict.Outcome != termination.OutcomeClientRefused {
		t.Errorf("got %s %q (%s)", rec.Verdict.Outcome, rec.Verdict.Reason, rec.Error)
	}
	if rec.Alert == nil || rec.Alert.Number != 48 || !rec.Alert.Plaintext {
		t.Errorf("alert %+v, want 48 in plaintext", rec.Alert)
	}
}

// meetProgram lets a program on this machine be the client.
func (s setup) meetProgram(t *testing.T, run func(address string)) *termination.Handshake {
	t.Helper()
	return s.meet(t, func(conn net.Conn) {
		relay, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer relay.Close()
		done, said := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			c, err := relay.Accept()
			if err != nil {
				close(said)
				return
			}
			defer c.Close()
			go func() {
				defer close(said)
				_, _ = io.Copy(conn, c)
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(c, conn)
		}()
		run(relay.Addr().String())
		_ = relay.Close()
		<-said // its last words are on their way, too
		_ = conn.Close()
		<-done
	})
}

func TestClientLeavesAndTimeouts(t *testing.T) {
	s := newSetup(t, termination.ClientAuth{Mode: termination.ModeOff})
	t.Run("closes after the hello", func(t *testing.T) {
		rec := s.meet(t, func(conn net.Conn) {
			c := tls.Client(writeOnly{conn}, &tls.Config{ServerName: serverName, InsecureSkipVerify: true})
			_ = c.Handshake() // fails, since nothing can be read; the hello is out
		})
		if rec.Verdict.Outcome != termination.OutcomeBrokenOff || rec.Verdict.Reason != termination.ReasonClientLeft {
			t.Errorf("got %s %q (%s)", rec.Verdict.Outcome, rec.Verdict.Reason, rec.Error)
		}
	})
}

type writeOnly struct{ net.Conn }

func (writeOnly) Read([]byte) (int, error) { return 0, io.EOF }

// Resumption is on, and a resumed session is judged again.
func TestResumedSessionIsJudgedAgain(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	s := newSetup(t, termination.ClientAuth{Mode: termination.ModeRequire, Announce: true}, devices)
	alice := devices.Client("alice").TLS()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(1)
		withCache := func(c *tls.Config) { c.ClientSessionCache = cache }
		for i, want := range []bool{false, true} {
			rec := s.meet(t, s.goClient(version, []tls.Certificate{alice}, withCache))
			if rec.Chosen == nil || rec.Chosen.Resumed != want {
				t.Errorf("%s, connection %d: resumed is not %v: %+v", tls.VersionName(version), i, want, rec.Chosen)
			}
			if rec.Verdict.Outcome != termination.OutcomeVerified || rec.Client.Name != "alice" {
				t.Errorf("%s, connection %d: %s as %q", tls.VersionName(version), i, rec.Verdict.Outcome, rec.Client.Name)
			}
		}
		// Another Terminator, for the same names, the same CA and the same policy, takes none of these tickets.
		other := newSetup(t, termination.ClientAuth{Mode: termination.ModeRequire, Announce: true}, devices)
		rec := other.meet(t, other.goClient(version, []tls.Certificate{alice}, func(c *tls.Config) {
			c.ClientSessionCache = cache
			c.InsecureSkipVerify = true
		}))
		if rec.Chosen == nil || rec.Chosen.Resumed {
			t.Errorf("%s: a ticket crossed from one endpoint to another", tls.VersionName(version))
		}
	}
}
