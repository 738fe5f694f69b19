package terminate_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/servercert"
	"countersign/termination/terminate"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// A certificate that ends while its handshake is being finished lets nobody in as an unverified client.
func TestExpiryAtTheLastMoment(t *testing.T) {
	ca, serverCA := tlstest.NewCA(tlstest.CN("Devices")), tlstest.NewCA(tlstest.CN("Server CA"))
	alice := ca.Client("alice")
	config := &termination.Config{Limits: termination.DefaultLimits(), Authorities: []termination.Authority{{
		Name: "devices", Certificates: []termination.CACertificate{{Certificate: ca.X509, Role: termination.RoleAnchor}},
	}}}
	policy, err := verify.Compile(config, termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Announce: true}, verify.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	server := serverCA.Server(serverName)
	chooser := servercert.NewChooser([]servercert.Chain{{Certificates: []*x509.Certificate{server.X509}, Key: server.Key}}, nil)
	var looks atomic.Int64 // at the clock
	meet := func(expiresAt int64) *termination.Handshake {
		looks.Store(0)
		terminator, err := terminate.New(terminate.Options{
			Endpoint: &termination.Endpoint{Name: "api", Scheme: termination.SchemeTLS}, Policy: policy,
			Certificates: terminate.Certificates{GetCertificate: chooser.GetCertificate, Leaves: chooser.Leaves},
			Now: func() time.Time {
				if looks.Add(1) >= expiresAt {
					return alice.X509.NotAfter.Add(time.Second)
				}
				return time.Now()
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		s := setup{terminator: terminator, serverCA: serverCA}
		return s.meet(t, func(conn net.Conn) {
			s.goClient(tls.VersionTLS13, []tls.Certificate{alice.TLS()}, nil)(conn)
		})
	}
	if rec := meet(1 << 40); rec.Verdict.Outcome != termination.OutcomeVerified {
		t.Fatalf("recorded %s %q", rec.Verdict.Outcome, rec.Verdict.Reason)
	}
	for at := looks.Load(); at > 0; at-- {
		if rec := meet(at); rec.Verdict.Outcome == termination.OutcomeOpen {
			t.Errorf("with the end at look %d: recorded %s %q", at, rec.Verdict.Outcome, rec.Verdict.Reason)
		}
	}
}
