package gateway_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// A service is told the same about a client wherever TLS ended, in every header set and by expressions; what is left out is
// on the record.
func TestToldAtEdgeAndAgent(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	issuing := devices.Intermediate()
	alice := issuing.Client("alice", tlstest.URI("spiffe://prod/alice"))
	large := issuing.Client("large", tlstest.ManyNames(1000))
	for where, start := range map[string]func(*testing.T) *rig{"edge": newRig, "agent": newAgentRig} {
		t.Run(where, func(t *testing.T) {
			upstream := tlstest.HTTP(t)
			r := start(t)
			r.trust("devices", devices)
			port := freePort(t)
			r.endpoint("a", port, upstream.URL, func(e *termination.Endpoint) {
				require("devices")(e)
				e.ForwardIdentity = []termination.IdentityFormat{
					termination.IdentityNginx, termination.IdentityXFCC, termination.IdentityRFC9440, termination.IdentityTraefik, termination.IdentityALB,
				}
				e.ForwardHeaders = []termination.ForwardHeader{{Name: "X-Who", Value: `client.authority + "/" + client.subject.common_name + req.path`}}
			})
			r.apply()
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				ask := func(cert *tlstest.Cert) http.Header {
					t.Helper()
					_, body, err := get(r.clientConfig("a.localhost", version, cert), port, "a.localhost")
					var echo tlstest.Echo
					if err == nil {
						err = json.Unmarshal([]byte(body), &echo)
					}
					if err != nil {
						t.Fatalf("%v: %.200s", err, body)
					}
					return echo.Header
				}
				h := ask(alice)
				sequence := func(der []byte) string { return ":" + base64.StdEncoding.EncodeToString(der) + ":" }
				for name, want := range map[string]string{
					"X-Client-Verify": "SUCCESS", "X-Client-Fingerprint": alice.Fingerprint(), "Client-Cert": sequence(alice.DER), "Client-Cert-Chain": sequence(issuing.DER),
					"X-Amzn-Mtls-Clientcert-Serial-Number": fmt.Sprintf("%010X", alice.X509.SerialNumber), "X-Who": "devices/alice/", "Countersign-Left-Out": "",
				} {
					if got := h.Get(name); got != want {
						t.Errorf("%s: %s is %q, want %q", tls.VersionName(version), name, got, want)
					}
				}
				if x := h.Get("X-Forwarded-Client-Cert"); !strings.HasPrefix(x, "Hash="+alice.Fingerprint()) || !strings.HasSuffix(x, ";URI=spiffe://prod/alice") {
					t.Errorf("%s: X-Forwarded-Client-Cert is %q", tls.VersionName(version), x)
				}
				r.end(r.next().ID)
				if h := ask(large); h.Get("X-Client-Cert") != "" || !strings.HasPrefix(h.Get("Countersign-Left-Out"), "X-Client-Cert, ") || h.Get("X-Client-CN") != "large" {
					t.Errorf("%s: of a large certificate it is told %.300q", tls.VersionName(version), h)
				}
				if end := r.end(r.next().ID); end.Reason != termination.ReasonIdentityLeftOut || !strings.Contains(end.Detail, "X-Client-Cert") {
					t.Errorf("%s: recorded %q: %s", tls.VersionName(version), end.Reason, end.Detail)
				}
			}
		})
	}
}
