package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/tlstest"
)

// stays opens a connection as a client that stays, and returns it with the ID of its handshake.
func (f *fixture) stays(config *tls.Config, port uint16) (*tls.Conn, string) {
	f.t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), config)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: api.localhost\r\n\r\n"); err != nil {
		f.t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		f.t.Fatal(err)
	}
	id := ""
	f.eventually(func() bool {
		page, err := f.store.Handshakes(f.t.Context(), store.HistoryQuery{})
		if err != nil || len(page.Records) == 0 {
			return false
		}
		for _, r := range page.Records {
			if r.Handshake.Peer.String() == conn.LocalAddr().String() {
				id = r.Handshake.ID
			}
		}
		return id != ""
	})
	return conn, id
}

func (f *fixture) clientOf(cert *tlstest.Cert) *tls.Config {
	roots := x509.NewCertPool()
	for _, ca := range f.current().LocalCAs {
		roots.AddCert(ca.Certificate)
	}
	return &tls.Config{
		ServerName: "api.localhost", RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(1),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c := cert.TLS()
			return &c, nil
		},
	}
}

// Whoever blocks a client from its handshake's page sees the proof: its connection was closed, and its ticket refused.
func TestBlockingShowsThatItCuts(t *testing.T) {
	f, port := withClients(t)
	if page := f.get("/blocked"); page.status != 200 || !strings.Contains(page.body, "Nobody is blocked") {
		t.Errorf("empty: %d", page.status)
	} else if !strings.Contains(page.body, `href="/identities" data-key="i" aria-current="page"`) || !strings.Contains(page.body, `href="/blocked" aria-current="page"`) {
		t.Error("it does not stand among the pages about clients")
	}
	alice := tlstest.NewCA(tlstest.CN("Elsewhere")).Client("alice", tlstest.CN(`<img src=x>alice`))
	config := f.clientOf(alice)
	conn, id := f.stays(config, port)
	if page := f.get("/handshakes/" + id); !strings.Contains(page.body, `href="/blocked/new?handshake=`+id+`"`) {
		t.Error("the handshake's page does not offer to block its client")
	}
	form := f.get("/blocked/new?handshake=" + id)
	if form.status != 200 || !strings.Contains(form.body, "&lt;img src=x&gt;alice") || strings.Contains(form.body, "<img") {
		t.Errorf("the form: %d", form.status)
	}
	fingerprint := termination.FingerprintOf(alice.X509).String()
	if bad := f.post("/blocked/new", url.Values{"certificate": {fingerprint}, "what": {"certificate"}, "why": {"a\x01b"}}); bad.status != http.StatusUnprocessableEntity || !strings.Contains(bad.body, "control characters") {
		t.Errorf("a hostile reason: %d", bad.status)
	}
	done := f.post("/blocked/new", url.Values{"certificate": {fingerprint}, "what": {"certificate"}, "why": {"laptop <b>lost</b>"}})
	where := done.header.Get("Location")
	if done.status != http.StatusSeeOther || !strings.HasPrefix(where, "/blocked/blk_") {
		t.Fatalf("blocked: %d to %q: %s", done.status, where, done.body)
	}
	if _, err := io.ReadAll(conn); err == nil {
		t.Log("the connection was closed with a good-bye")
	}
	if again, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), config); err == nil {
		if _, err := again.Read(make([]byte, 1)); err == nil {
			t.Error("it came in again")
		}
		_ = again.Close()
	}
	f.eventually(func() bool {
		page := f.get(where).body
		return strings.Contains(page, "1 live connection was closed.") && strings.Contains(page, "1 attempt was refused, 1 of them with a session ticket.")
	})
	page := f.get(where).body
	for _, want := range []string{"connection closed", "ticket refused", "laptop &lt;b&gt;lost&lt;/b&gt;", "/handshakes/" + id, "rhea"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if list := f.get("/blocked").body; !strings.Contains(list, fingerprint) || strings.Contains(list, "<img") {
		t.Error("the list does not show it as it is")
	}
	if gone := f.post(where+"/unblock", url.Values{}); gone.status != http.StatusSeeOther || len(f.current().Blocked) != 0 {
		t.Errorf("unblocked: %d", gone.status)
	}
	f.stays(f.clientOf(alice), port)
	if page := f.get(where); page.status != http.StatusNotFound {
		t.Errorf("the page of a block that is gone: %d", page.status)
	}
}

// What is typed in may be a whole fingerprint, the beginning of one that was seen, a key or a serial number.
func TestBlockingByHand(t *testing.T) {
	f, port := withClients(t)
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	f.withAuthority("devices", devices)
	alice := devices.Client("alice", tlstest.Serial(0x1f3a))
	f.stays(f.clientOf(alice), port)
	fingerprint := termination.FingerprintOf(alice.X509).String()
	colons := strings.ToUpper(fingerprint[:2] + ":" + fingerprint[2:4] + ":" + fingerprint[4:6] + ":" + fingerprint[6:8])
	for what, test := range map[string]struct {
		form url.Values
		want string // block, or else what the page says
	}{
		"a prefix with colons":  {url.Values{"pin": {colons}}, fingerprint},
		"a key":                 {url.Values{"pin": {"spki:" + termination.KeyFingerprintOf(alice.X509).String()}}, "spki:" + termination.KeyFingerprintOf(alice.X509).String()},
		"a serial number":       {url.Values{"serial": {"1F:3A"}, "authority": {"devices"}}, "serial 1f3a of devices"},
		"the serial of its CA":  {url.Values{"certificate": {fingerprint}, "what": {"serial:devices"}}, "serial 1f3a of devices"},
		"nothing":               {url.Values{}, "Say whom to block"},
		"a stranger's prefix":   {url.Values{"pin": {"00000000"}}, "no certificate that was seen here"},
		"garbage":               {url.Values{"pin": {"<script>"}}, "no certificate that was seen here"},
		"a serial that is none": {url.Values{"serial": {"zz"}, "authority": {"devices"}}, "hex"},
		"a CA that is none":     {url.Values{"serial": {"1f"}, "authority": {"nobody"}}, "no authority"},
	} {
		got := f.post("/blocked/new", test.form)
		if got.status == http.StatusSeeOther {
			if b := f.current().Blocked; len(b) != 1 || b[0].String() != test.want {
				t.Errorf("%s: blocked %v", what, b)
			}
			for _, b := range f.current().Blocked {
				f.post("/blocked/"+b.ID+"/unblock", url.Values{})
			}
			continue
		}
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, test.want) || len(f.current().Blocked) != 0 {
			t.Errorf("%s: %d", what, got.status)
		}
	}
	if missing := f.get("/blocked/new?handshake=hs_nothing"); missing.status != http.StatusNotFound {
		t.Errorf("an unknown handshake: %d", missing.status)
	}
	f.mutate(func(tx *store.Tx) error {
		for n := range 250 {
			if _, err := tx.Block(termination.Block{Pin: &termination.Pin{Fingerprint: termination.Fingerprint{byte(n), 1}}}); err != nil {
				return err
			}
		}
		return nil
	})
	if page := f.get("/blocked?from=100").body; !strings.Contains(page, "101 to 200 of 250") || !strings.Contains(page, "/blocked?from=200") {
		t.Error("the second page of many")
	}
}

func TestAPIBlocksAndRevokes(t *testing.T) {
	f, port := withClients(t)
	operator, admin, reader := f.as(store.ScopeOperate), f.as(store.ScopeAdmin), f.as(store.ScopeRead)
	alice := tlstest.NewCA().Client("alice")
	f.stays(f.clientOf(alice), port)
	fingerprint := termination.FingerprintOf(alice.X509).String()
	var made struct{ ID, Pin, Why, By string }
	if s := operator.call(http.MethodPost, "/blocked", map[string]any{"pin": fingerprint[:10], "why": "lost"}, &made); s != http.StatusCreated || made.Pin != fingerprint || made.Why != "lost" || made.By == "" {
		t.Fatalf("%d %+v", s, made)
	}
	for what, body := range map[string]map[string]any{
		"again":    {"pin": fingerprint},
		"nothing":  {"why": "x"},
		"both":     {"pin": fingerprint, "serial": "1", "authority": "x"},
		"a serial": {"serial": "x", "authority": "x"},
		"nobody":   {"serial": "1", "authority": "nobody"},
		"half key": {"pin": "spki:" + fingerprint[:10]},
	} {
		var p problem
		if s := operator.call(http.MethodPost, "/blocked", body, &p); s != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %+v", what, s, p)
		}
	}
	if s := reader.call(http.MethodPost, "/blocked", map[string]any{"pin": fingerprint}, nil); s != http.StatusForbidden {
		t.Errorf("a reader blocks: %d", s)
	}
	if s := operator.call(http.MethodPost, "/blocked", map[string]any{"pin": "0000"}, nil); s != http.StatusNotFound {
		t.Errorf("a prefix of nothing: %d", s)
	}
	var list struct{ Items []struct{ ID string } }
	if s := reader.call(http.MethodGet, "/blocked", nil, &list); s != http.StatusOK || len(list.Items) != 1 || list.Items[0].ID != made.ID {
		t.Errorf("%d %+v", s, list)
	}
	if s := admin.call(http.MethodDelete, "/blocked/"+made.ID, nil, nil); s != http.StatusNoContent || len(f.current().Blocked) != 0 {
		t.Errorf("unblock: %d", s)
	}
	if s := admin.call(http.MethodDelete, "/blocked/"+made.ID, nil, nil); s != http.StatusNotFound {
		t.Errorf("unblock twice: %d", s)
	}
	local := f.current().LocalCAs[0].Name
	if s := admin.call(http.MethodPost, "/authorities/"+local+"/revoked", map[string]any{"serial": "0A:1F", "reason": "key lost"}, nil); s != http.StatusNoContent {
		t.Errorf("revoke: %d", s)
	}
	var revoked struct {
		Items []struct{ Serial, Reason string }
	}
	if s := reader.call(http.MethodGet, "/authorities/"+local+"/revoked", nil, &revoked); s != http.StatusOK || len(revoked.Items) != 1 || revoked.Items[0].Serial != "a1f" || revoked.Items[0].Reason != "key lost" {
		t.Errorf("%d %+v", s, revoked)
	}
	if s := admin.call(http.MethodPost, "/authorities/nobody/revoked", map[string]any{"serial": "1"}, nil); s != http.StatusNotFound {
		t.Errorf("revoke of nobody: %d", s)
	}
}

// A certificate that was issued here is taken back on its page.
func TestRevokingOnThePage(t *testing.T) {
	f := signedIn(t, nil)
	ca := f.withLocalCA(true)
	signer := &tlstest.Cert{X509: ca.Certificate, Key: ca.Key}
	cert := signer.Client("rhea")
	authority := f.current().Authorities[0]
	if err := f.store.AddIssued(t.Context(), store.Actor{Name: "rhea", Via: "test"}, authority.Name, kindClient, "rhea", cert.X509); err != nil {
		t.Fatal(err)
	}
	page := "/certificates/" + termination.FingerprintOf(cert.X509).String()
	if body := f.get(page).body; !strings.Contains(body, page+"/revoke") || !strings.Contains(body, "/blocked/new?certificate=") {
		t.Error("the page offers neither to revoke nor to block it")
	}
	if bad := f.post(page+"/revoke", url.Values{"reason": {strings.Repeat("x", 300)}}); bad.status != http.StatusUnprocessableEntity || !strings.Contains(bad.body, "is longer than") {
		t.Errorf("a long reason: %d", bad.status)
	}
	if done := f.post(page+"/revoke", url.Values{"reason": {"key <lost>"}}); done.status != http.StatusSeeOther {
		t.Fatalf("revoke: %d %s", done.status, done.body)
	}
	if got := f.current().Authorities[0].Revocation.Revoked; len(got) != 1 || got[0].Serial != termination.SerialOf(cert.X509) {
		t.Errorf("revoked %+v", got)
	}
	if body := f.get(page).body; !strings.Contains(body, "key &lt;lost&gt;") || strings.Contains(body, page+"/revoke") {
		t.Error("the page does not say that it is revoked")
	}
	stranger := f.post("/certificates/"+termination.FingerprintOf(ca.Certificate).String()+"/revoke", url.Values{})
	if stranger.status != http.StatusNotFound {
		t.Errorf("revoke the CA: %d", stranger.status)
	}
}
