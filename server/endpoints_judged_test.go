package server

import (
	"crypto/x509"
	"net/http"
	"net/url"
	"testing"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestEndpointTellsWhoDecides: the answer names each step, for rules and expressions that are saved and for those that are
// not, and trying saves nothing.
func TestEndpointTellsWhoDecides(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	clients := tlstest.NewCA(tlstest.CN("Clients"))
	f.withAuthority("clients", clients)
	wantAll(t, f.post("/endpoints", endpointFields(freeTCPPort(t), "rules", "refuse ou=\"test\"\nallow dns=\"*.example.com\"", "when", `inCidrRange(conn.client_ip, "10.0.0.0/8") && req.method == "GET"`,
		"route0_path", "/open", "route0_mode", "off")), http.StatusSeeOther)
	pem := func(opts ...tlstest.Option) string { return string(clients.Client("rhea", opts...).PEM()) }
	judge := func(fields ...string) reply {
		form := url.Values{}
		for i := 0; i < len(fields); i += 2 {
			form.Add(fields[i], fields[i+1])
		}
		return f.post("/endpoints/shop/judge", form)
	}
	good := pem(tlstest.DNS("a.example.com"))
	wantAll(t, judge("pem", good, "try_address", "10.1.2.3"), 200, "<b>Through TLS; then each request decides</b>", "Rule 2", "matches, and decides: in", "Rule 1", "does not match", "decided for each request; name a path")
	wantAll(t, judge("pem", good, "try_address", "10.1.2.3", "try_path", "/x"), 200, "<b>Yes</b>", "conn.client_ip (string)", "10.1.2.3", "req.method (string)", "/open")
	wantAll(t, judge("pem", good, "try_address", "10.1.2.3", "try_path", "/x", "try_method", "post"), 200, "<b>No</b>", "false")
	wantAll(t, judge("pem", good, "try_address", "192.0.2.1", "try_path", "/x"), 200, "<b>No</b>", "A rule says no")
	wantAll(t, judge("pem", good, "try_path", "/x"), 200, "<b>No</b>", "The expression failed", "address, which is not known")
	wantAll(t, judge("pem", pem(tlstest.OrgUnit("test"), tlstest.DNS("a.example.com")), "try_address", "10.1.2.3"), 200, "<b>No</b>", "matches, and decides: out", "matches, but a rule before it decided")
	wantAll(t, judge("pem", pem()), 200, "<b>No</b>", "Whom no rule allows is refused.")
	wantAll(t, judge("pem", string(tlstest.NewCA().Client("eve").PEM())), 200, "<b>No</b>", "not asked: chain or pin does not hold")
	wantAll(t, judge("pem", good, "try_address", "office"), 422, "is no address")
	wantAll(t, judge("pem", good, "try_path", "x"), 422, "is no path")
	wantAll(t, judge("try_handshake", "hs_nothing"), 422, "not in the history")
	wantAll(t, judge("try_identity", "nobody"), 422, "There is no identity")

	before := f.current().Revision
	draft := []string{"mode", "require", "authorities", "clients", "on_loss", "close", "rules", `allow cn="rhea"`}
	wantAll(t, judge(draft...), 200, "Nothing is saved", `name="rules" value="allow cn=&#34;rhea&#34;"`)
	wantAll(t, judge(append(draft, "pem", pem())...), 200, "<b>Yes</b>", "It is not saved", "matches, and decides: in")
	wantAll(t, judge("mode", "require", "authorities", "clients", "when", "client.nothing", "pem", pem()), 422, "cannot be saved as it is", "nothing here is called client.nothing")
	wantAll(t, judge("mode", "require", "authorities", "clients", "rules", "refuse cn=x\nrefuse cn=x", "pem", pem()), 422, "rule 2: it is never reached", "nobody could enter")
	if got := f.current(); got.Revision != before || len(got.Endpoint("shop").ClientAuth.Rules) != 2 {
		t.Error("trying changed the configuration")
	}
}

// TestEndpointTriesIdentities: an identity is tried by the certificate that was registered, blocks included.
func TestEndpointTriesIdentities(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	wantAll(t, f.post("/endpoints", endpointFields(freeTCPPort(t), "rules", "allow cn=other")), http.StatusSeeOther)
	own := tlstest.SelfSigned(tlstest.CN("meter"))
	register := func(blocked bool) func(tx *store.Tx) error {
		return func(tx *store.Tx) error {
			i, err := tx.Identity("meter")
			if err != nil {
				_, err = tx.CreateIdentity(termination.Identity{
					Name: "meter", Endpoints: []string{"shop"}, Pins: []termination.Pin{{Fingerprint: termination.FingerprintOf(own.X509)}},
					Certificates: []*x509.Certificate{own.X509},
				})
				return err
			}
			i.Blocked = blocked
			return tx.UpdateIdentity(i)
		}
	}
	judge := func() reply { return f.post("/endpoints/shop/judge", url.Values{"try_identity": {"meter"}}) }
	f.mutate(register(false))
	wantAll(t, judge(), 200, "<b>Yes</b>", "Known as meter.", "An identity of this endpoint needs none.")
	f.mutate(register(true))
	wantAll(t, judge(), 200, "<b>No</b>", "Blocked here by hand")
}
