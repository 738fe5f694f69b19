package gateway_test

import (
	"crypto/tls"
	"math/big"
	"net/http"
	"testing"

	"golang.org/x/crypto/ocsp"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestResponderDecidesHandshakes: what an OCSP responder says decides at the edge and at agents, in TLS 1.2 and 1.3,
// and a client may bring the answer along.
func TestResponderDecidesHandshakes(t *testing.T) {
	t.Run("edge", func(t *testing.T) { testResponder(t, newRig(t)) })
	t.Run("agent", func(t *testing.T) { testResponder(t, newAgentRig(t)) })
}

func testResponder(t *testing.T, r *rig) {
	k := &kitchen{t: t}
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	good, bad := devices.Client("good"), devices.Client("bad")
	unasked, alone := devices.Client("unasked"), devices.Client("alone") // what is known of a client is known everywhere
	says := func(c *tlstest.Cert, status int) []byte {
		return tlstest.OCSPAnswer(c, devices, devices, func(o *ocsp.Response) { o.Status = status })
	}
	responder := tlstest.NewResponder(t, func(serial *big.Int) []byte {
		if serial.Cmp(bad.X509.SerialNumber) == 0 {
			return says(bad, ocsp.Revoked)
		}
		return says(good, ocsp.Good)
	})
	away := tlstest.NewResponder(t, func(*big.Int) []byte { return nil })
	for name, from := range map[string]termination.Revocation{
		"asked": {OCSPURL: responder.URL}, "soft": {OCSPURL: away.URL}, "hard": {OCSPURL: away.URL, Mode: termination.RevocationHard},
	} {
		r.trust(name, devices)
		r.config.Authorities[len(r.config.Authorities)-1].Revocation = from
	}
	port, service := freePort(t), tlstest.HTTP(t).URL
	for _, name := range []string{"asked", "soft", "hard"} {
		r.endpoint(name, port, service, require(name))
	}
	r.apply()
	pair := func(c *tlstest.Cert) *tls.Certificate { p := c.TLS(); return &p }
	reasons := func(records []*termination.Handshake, want termination.Reason) {
		t.Helper()
		for _, rec := range records {
			if rec.Verdict.Reason != want {
				t.Errorf("recorded %s, want %s: %+v", rec.Verdict.Reason, want, rec.Verdict.Checks)
			}
		}
	}
	k.visit(r, port, "asked.localhost", pair(good), true)
	reasons(k.visit(r, port, "asked.localhost", pair(bad), false), termination.ReasonRevoked)
	k.visit(r, port, "soft.localhost", pair(unasked), true)
	reasons(k.visit(r, port, "hard.localhost", pair(alone), false), termination.ReasonRevocationUnknown)

	// An answer that the client sends along stands in for the responder; Go sends it in TLS 1.3 alone.
	stapled := pair(alone)
	stapled.OCSPStaple = says(alone, ocsp.Good)
	config := r.clientConfig("hard.localhost", tls.VersionTLS13, nil)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return stapled, nil }
	status, _, err := get(config, port, "hard.localhost")
	if rec := r.next(); err != nil || status != http.StatusOK || rec.Verdict.Outcome != termination.OutcomeVerified {
		t.Errorf("with an answer of its own: %d, %v, %s %+v", status, err, rec.Verdict.Outcome, rec.Verdict.Checks)
	}
}
