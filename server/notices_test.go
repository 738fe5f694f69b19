package server

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live/livetest"
	"countersign/termination/revocation"
	"countersign/termination/tlstest"
	"countersign/termination/tunnel"
)

const hookSecret = "0123456789abcdef0123456789abcdef"

// receiver takes what is posted.
type receiver struct {
	*httptest.Server
	status atomic.Int64 // of answers; 0: 204

	mu    sync.Mutex
	got   []posted
	tries int
	bad   []string // why a request is none of ours
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tries++
		at, _, _ := strings.Cut(strings.TrimPrefix(req.Header.Get(SignatureHeader), "t="), ",")
		var seconds int64
		if err := json.Unmarshal([]byte(at), &seconds); err != nil || sign(hookSecret, time.Unix(seconds, 0), body) != req.Header.Get(SignatureHeader) {
			r.bad = append(r.bad, "signature "+req.Header.Get(SignatureHeader))
		}
		if status := int(r.status.Load()); status != 0 {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			return
		}
		var p posted
		if err := json.Unmarshal(body, &p); err != nil || req.Method != http.MethodPost || req.URL.Path != "/inbox-7f" {
			r.bad = append(r.bad, req.Method+" "+req.URL.Path+" "+string(body))
		}
		r.got = append(r.got, p)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(r.Close)
	return r
}

// noticed is notices over a store of their own, with a clock that tests move.
type noticed struct {
	*Notices
	store  *store.Store
	begun  time.Time
	passed atomic.Int64 // nanoseconds since then
	config termination.Config
	status gateway.Status
	waits  []time.Duration
}

func (f *noticed) clock() time.Time { return f.begun.Add(time.Duration(f.passed.Load())) }

func newNoticed(t *testing.T, hook string) *noticed {
	t.Helper()
	f := &noticed{begun: time.Now()}
	st, err := store.Open(t.Context(), t.TempDir(), store.Options{Clock: f.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	f.store = st
	if hook != "" {
		if _, _, err := st.Change(t.Context(), store.Actor{Name: "rhea", Via: "test"}, func(tx *store.Tx) error {
			return tx.SetNotifications(store.Notifications{Webhook: hook, Secret: hookSecret})
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
	f.Notices = NewNotices(NoticeOptions{
		Store: func() *store.Store { return st }, Now: f.clock, Config: func() *termination.Config { return &f.config }, Gateway: func() gateway.Status { return f.status },
		Revocation: func() []revocation.Status { return nil }, Log: slog.New(slog.DiscardHandler),
		Wait: func(_ context.Context, d time.Duration) bool { f.waits = append(f.waits, d); return true },
	})
	t.Cleanup(func() { f.Close(context.Background()) })
	return f
}

// TestKnownClientFails: one notice for a client and a reason in an hour; none of strangers, of noise and of the gateway's own proofs.
func TestKnownClientFails(t *testing.T) {
	r := newReceiver(t)
	f := newNoticed(t, r.URL+"/inbox-7f")
	fail := func(change func(*termination.Handshake)) *termination.Handshake {
		h := livetest.Handshake(8, f.clock())
		h.Client.IdentityID, h.Client.Identity = "id_1", "billing\u202e"
		change(h)
		return h
	}
	in := livetest.Handshake(0, f.clock())
	in.Client.IdentityID = "id_1"
	f.lookAtFailures(t.Context(), []*termination.Handshake{
		fail(func(*termination.Handshake) {}), fail(func(*termination.Handshake) {}),
		fail(func(h *termination.Handshake) { h.Verdict.Reason = termination.ReasonRevoked }),
		fail(func(h *termination.Handshake) {
			h.Client = termination.ClientName{Name: "stranger", Fingerprint: termination.Fingerprint{9}}
		}),
	})
	for _, h := range []*termination.Handshake{in, fail(func(h *termination.Handshake) { h.Proof = true }), fail(func(h *termination.Handshake) { h.Noise = termination.NoiseScan }), fail(func(h *termination.Handshake) { h.Client = termination.ClientName{} })} {
		f.Observe(h)
	}
	f.passed.Add(int64(failureQuiet + time.Second))
	f.Observe(fail(func(*termination.Handshake) {}))
	f.Close(t.Context())
	if len(r.got) != 3 || len(r.bad) != 0 || r.got[0].Kind != "client_failed" || r.got[0].Handshake != "hs_8" || r.got[0].Path != "/handshakes/hs_8" {
		t.Errorf("posted %+v, %q", r.got, r.bad)
	}
	kept, err := f.store.Notices(t.Context(), "", 10)
	if err != nil || len(kept) != 3 {
		t.Errorf("kept %+v, %v", kept, err)
	}
	if later, err := f.store.Notices(t.Context(), kept[1].ID, 10); err != nil || len(later) != 1 {
		t.Errorf("after the last but one: %+v, %v", later, err)
	}
}

// TestNoticesAreBounded: when a CA ends and everyone fails at once, nobody gets a thousand messages.
func TestNoticesAreBounded(t *testing.T) {
	f := newNoticed(t, "")
	for i := range 3 * mostFailures {
		h := livetest.Handshake(8, f.clock())
		h.Client.IdentityID = "id_" + strings.Repeat("x", i+1)
		f.lookAtFailures(t.Context(), []*termination.Handshake{h})
	}
	if kept, err := f.store.Notices(t.Context(), "", 1000); err != nil || len(kept) != mostFailures {
		t.Errorf("%d notices, %v", len(kept), err)
	}
}

// TestReceiverFails: another try where that may help, none where it cannot, and never after a redirect.
func TestReceiverFails(t *testing.T) {
	for status, want := range map[int]int{500: 4, 429: 4, 404: 1, 302: 1, 307: 1} {
		r := newReceiver(t)
		r.status.Store(int64(status))
		f := newNoticed(t, r.URL+"/inbox-7f")
		f.send(t.Context(), []store.Notice{{ID: "ntc_1", Kind: store.NoticeExpiry}})
		if r.tries != want || f.failed.Load() != 1 || len(r.bad) != 0 {
			t.Errorf("status %d: %d tries, %q", status, r.tries, r.bad)
		}
		if err := f.Test(t.Context()); err == nil {
			t.Errorf("status %d: the test says that all is well", status)
		}
	}
	f := newNoticed(t, "http://169.254.169.254/latest")
	if err := f.Test(t.Context()); err == nil || !strings.Contains(err.(*Problem).Detail, "link-local") || strings.Contains(err.(*Problem).Detail, "latest") { //nolint:errorlint // our own
		t.Errorf("a link-local address: %v", err)
	}
}

// TestDatesAndAgents: a CA is told of once for each step towards its end, an agent once it has been away for two looks.
func TestDatesAndAgents(t *testing.T) {
	f := newNoticed(t, "")
	ca := tlstest.NewCA(tlstest.CN("Devices"), tlstest.Valid(f.clock().Add(-time.Hour), f.clock().Add(99*time.Hour)))
	f.config.Authorities = []termination.Authority{{Name: "devices", Certificates: []termination.CACertificate{{Certificate: ca.X509}}}}
	f.status.Agents = []tunnel.AgentStatus{{ID: "agt_1", Name: "berlin", Endpoint: "shop"}}
	look := func(after time.Duration, want int) {
		t.Helper()
		f.passed.Add(int64(after))
		if err := f.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if kept, err := f.store.Notices(t.Context(), "", 100); err != nil || len(kept) != want {
			t.Errorf("%d notices, not %d: %+v, %v", len(kept), want, kept, err)
		}
	}
	look(0, 0)
	look(80*time.Hour, 1)
	look(time.Minute, 1)
	look(15*time.Hour, 2)
	f.status.Agents = nil
	look(time.Minute, 2)
	look(time.Minute, 3)
	look(time.Minute, 3)
	look(5*time.Hour, 4)
	look(time.Hour, 4)
}

// TestNoticeSettings: address and secret are sealed and never shown, what is wrong stands at its field, and the test tells what became of it.
func TestNoticeSettings(t *testing.T) {
	r := newReceiver(t)
	var notices *Notices
	f := signedIn(t, func(o *Options) {
		st := ownStore(t, o)
		notices = NewNotices(NoticeOptions{Store: func() *store.Store { return st }, Log: o.Log})
		o.Notices = notices
	})
	t.Cleanup(func() { notices.Close(context.Background()) })
	wantAll(t, f.get("/settings"), 200, "Notices", "Nobody was told of anything yet", "Allow on this desktop")
	wantAll(t, f.post("/settings/notices/test", url.Values{}), http.StatusConflict, "There is no webhook to test")
	wantAll(t, f.post("/settings/notices", url.Values{"webhook": {"ftp://x"}, "hook_secret": {hookSecret}, "kinds": {"expiry"}}), 422, "no http or https address")
	wantAll(t, f.post("/settings/notices", url.Values{"webhook": {r.URL + "/inbox-7f"}, "hook_secret": {"short"}, "kinds": {"expiry"}}), 422, "characters at least")
	wantAll(t, f.post("/settings/notices", url.Values{"webhook": {r.URL + "/inbox-7f"}, "hook_secret": {hookSecret}}), 422, "Choose at least one kind")
	wantAll(t, f.post("/settings/notices", url.Values{"webhook": {r.URL + "/inbox-7f"}, "hook_secret": {hookSecret}, "kinds": {"nonsense"}}), 422, "no kind of notice")
	wantAll(t, f.post("/settings/notices", url.Values{"webhook": {r.URL + "/inbox-7f"}, "hook_secret": {hookSecret}, "kinds": {"expiry"}}), http.StatusSeeOther)
	wantAll(t, f.post("/settings/notices/test", url.Values{}), http.StatusSeeOther)
	if len(r.got) != 1 || len(r.bad) != 0 || r.got[0].Kind != "test" {
		t.Errorf("posted %+v, %q", r.got, r.bad)
	}
	if _, _, err := f.store.AddNotice(t.Context(), store.Notice{Kind: store.NoticeExpiry, About: "a", Title: "<b>CA</b> ends", Text: "soon", Href: "/authorities/x"}, 0); err != nil {
		t.Fatal(err)
	}
	page := f.get("/settings").body + f.get("/audit").body
	for _, secret := range []string{"/inbox-7f", hookSecret, "<b>CA"} {
		if strings.Contains(page, secret) {
			t.Errorf("the pages show %q", secret)
		}
	}
	var listed struct {
		Items []struct{ Title, Kind, Path string }
	}
	if r := f.get("/api/v1/notices"); json.Unmarshal([]byte(r.body), &listed) != nil || len(listed.Items) != 1 || listed.Items[0].Title != "<b>CA</b> ends" || listed.Items[0].Path != "/authorities/x" {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	wantAll(t, f.get("/api/v1/notices?after=zzz"), 200, `"items":[]`)
	wantAll(t, f.post("/settings/notices", url.Values{"off": {"on"}}), http.StatusSeeOther)
	if n, err := f.store.Notifications(t.Context()); err != nil || n.Webhook != "" {
		t.Errorf("after it was switched off: %+v, %v", n, err)
	}
}

// ownStore gives a dashboard a store that something else has, too.
func ownStore(t *testing.T, o *Options) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), t.TempDir(), store.Options{Clock: o.Clock, Log: o.Log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	o.Store = st
	return st
}
