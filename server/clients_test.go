package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// seenClients writes handshakes of a client that ends soon, of one with a hostile name, and of many strangers.
func seenClients(t *testing.T, f *fixture) (ending, hostile termination.Fingerprint) {
	t.Helper()
	ca := tlstest.NewCA()
	record := func(n int, c *tlstest.Cert, name string, o termination.Outcome) *termination.Handshake {
		now := f.now()
		h := &termination.Handshake{
			ID: termination.NewID(termination.PrefixHandshake, now), Seq: uint64(n + 1), Time: now, EndpointID: "ep_1", Endpoint: "api", Presented: c.Chain(),
			Hello: &termination.ClientHello{JA4: "t13d1516h2_8daaf6152771_02713d6af862"}, Verdict: termination.Verdict{Outcome: o, Beat: termination.BeatEstablished},
			Client: termination.ClientName{Name: name, Full: name, Issuer: "Devices CA", Fingerprint: termination.FingerprintOf(c.X509)},
		}
		if !o.In() {
			h.Verdict.Reason = termination.ReasonCAUnknown
		}
		return h
	}
	soon := ca.Client("soon", tlstest.Valid(time.Now().Add(-90*day), time.Now().Add(5*day)))
	odd := tlstest.SelfSigned(tlstest.CN("odd"), tlstest.NoEKU())
	batch := termination.HistoryBatch{Handshakes: []*termination.Handshake{
		record(0, soon, "billing-batch", termination.OutcomeVerified), record(1, odd, "<img src=x>\u202e", termination.OutcomeRefused),
	}}
	for n := range 120 {
		c := *odd.X509
		c.Raw = append([]byte{byte(n)}, c.Raw...)
		h := record(n+2, odd, "stranger", termination.OutcomeRefused)
		h.Presented[0] = &c
		batch.Handshakes = append(batch.Handshakes, h)
	}
	if err := f.store.WriteHistory(batch); err != nil {
		t.Fatal(err)
	}
	return termination.FingerprintOf(soon.X509), termination.FingerprintOf(odd.X509)
}

func TestClientsSeen(t *testing.T) {
	f := signedIn(t, nil)
	if empty := f.get("/clients"); empty.status != http.StatusOK || !strings.Contains(empty.body, "No client has presented a certificate yet") {
		t.Errorf("empty: %d", empty.status)
	}
	ending, hostile := seenClients(t, f)
	for path, says := range map[string][]string{
		"/clients":                           {"billing-batch", "1 to 100 of 122", "ends soon", "Copy for the owner"},
		"/clients?from=100":                  {"101 to 122 of 122"},
		"/clients?from=99999999999999":       {"1 to 100"},
		"/clients?state=strangers&q=odd":     {"No client fits."},
		"/clients?q=img":                     {"&lt;img src=x"},
		"/clients?state=nonsense":            {"billing-batch"},
		"/clients?q=BILLING":                 {"billing-batch", "Find"},
		"/clients/" + ending.String():        {"billing-batch", "t13d1516h2_", "Give it a name", "/blocked/new?certificate=" + ending.String(), "fp%3A" + ending.String(), "Last 30 days", "1 let in, 0 failed"},
		"/clients/" + hostile.String()[:8]:   {"never verified", "has never shown", "no usage", "Why it failed"},
		"/expiry":                            {"billing-batch", "Copy all as mail text", "No CA is trusted", "ends in 4 days"},
		"/identities":                        {`href="/clients"`},
		"/api/v1/clients?state=ends_soon":    {`"total":1`, ending.String(), `"ends_soon":1`},
		"/api/v1/clients/alerts":             {`"kind":"ends_soon"`, `"to_owner":"Client certificate of billing-batch`},
		"/api/v1/clients/" + ending.String(): {`"software":[{"value":"t13d1516h2_`, `"verified":1`, `"hours":[`},
	} {
		got := f.get(path)
		for _, text := range says {
			if got.status != http.StatusOK || !strings.Contains(got.body, text) {
				t.Errorf("%s: %d, without %q", path, got.status, text)
			}
		}
		if strings.Contains(got.body, "<img src=x") || strings.Contains(got.body, "\u202e") && !strings.HasPrefix(path, "/api/") {
			t.Errorf("%s: a stranger's text came through", path)
		}
	}
	for path, status := range map[string]int{
		"/clients/zz": http.StatusNotFound, "/clients/0000": http.StatusNotFound, "/clients/%00": http.StatusNotFound,
		"/api/v1/clients/0000": http.StatusNotFound, "/api/v1/clients?state=x": http.StatusUnprocessableEntity, "/api/v1/clients?limit=0": http.StatusUnprocessableEntity,
		"/api/v1/clients?from=-1": http.StatusUnprocessableEntity, "/api/v1/endpoints/none/trend": http.StatusNotFound,
	} {
		if got := f.get(path); got.status != status {
			t.Errorf("%s: %d, want %d", path, got.status, status)
		}
	}
}
