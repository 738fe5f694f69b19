package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination/gateway"
	"countersign/termination/live"
)

// fixture is a dashboard over a store of its own, listening on loopback, with somebody signed in.
type fixture struct {
	*Server
	t      *testing.T
	log    *logBuffer
	client *http.Client // holds the session's cookie; follows no redirects
	csrf   string
}

// logBuffer collects what is logged.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start runs a dashboard until the test ends. change may alter its options first.
func start(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	log := &logBuffer{}
	o := Options{
		Log: slog.New(slog.NewTextHandler(log, nil)), Listen: "127.0.0.1:0", Version: "v0.0.0-test", User: "rhea", Parts: true,
		Clock: time.Now,
	}
	if change != nil {
		change(&o)
	}
	if o.Store == nil {
		st, err := store.Open(t.Context(), t.TempDir(), store.Options{Clock: o.Clock, Log: o.Log})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		o.Store = st
	}
	if o.Hub == nil {
		hub := live.New(live.Options{FirstSeq: o.Store.NextSeq(), Sink: o.Store.WriteHistory, Log: o.Log, Flush: 20 * time.Millisecond})
		t.Cleanup(func() { closeAll(t, hub.Close) })
		o.Hub = hub
	}
	if o.Gateway == nil {
		o.Portal = &Portal{}
		gate := gateway.New(gateway.Options{Portal: o.Portal, Hub: o.Hub, Log: o.Log, Now: o.Clock, Registry: AgentRegistry(func() *store.Store { return o.Store })})
		t.Cleanup(func() { closeAll(t, gate.Close) })
		o.Gateway = gate
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := s.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		closeAll(t, s.Shutdown)
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &fixture{Server: s, t: t, log: log, client: newClient(t)}
}

// closeAll gives a thing some time to end.
func closeAll(t *testing.T, end func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := end(ctx); err != nil {
		t.Errorf("end: %v", err)
	}
}

// signedIn is start, followed by a sign-in as rhea.
func signedIn(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	f := start(t, change)
	f.signIn("rhea")
	return f
}

func newClient(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Jar: jar, Timeout: 20 * time.Second, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// link makes a sign-in link and returns its token.
func (f *fixture) link() string {
	f.t.Helper()
	link, err := f.SignInLink(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	_, token, ok := strings.Cut(link, "/?t=")
	if !ok {
		f.t.Fatalf("link %q holds no token", link)
	}
	return token
}

// signIn signs the client in and remembers the token of its forms.
func (f *fixture) signIn(name string) {
	f.t.Helper()
	r := f.post("/sign-in", url.Values{"t": {f.link()}, "who": {name}})
	if r.status != http.StatusSeeOther {
		f.t.Fatalf("sign-in: status %d: %s", r.status, r.body)
	}
	page := f.get("/settings")
	m := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(page.body)
	if m == nil {
		f.t.Fatalf("no token in a form of %s", page.body)
	}
	f.csrf = m[1]
}

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   string
}

func (f *fixture) get(path string) reply {
	f.t.Helper()
	return f.do(f.request(http.MethodGet, path, nil, ""))
}

// post sends a form as a page of ours would; the token of the session's forms is added.
func (f *fixture) post(path string, form url.Values) reply {
	f.t.Helper()
	if f.csrf != "" && !form.Has("csrf") {
		form.Set("csrf", f.csrf)
	}
	r := f.request(http.MethodPost, path, strings.NewReader(form.Encode()), "application/x-www-form-urlencoded")
	r.Header.Set("Origin", f.URL())
	return f.do(r)
}

func (f *fixture) request(method, path string, body io.Reader, mediaType string) *http.Request {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, f.URL()+path, body)
	if err != nil {
		f.t.Fatal(err)
	}
	if mediaType != "" {
		r.Header.Set("Content-Type", mediaType)
	}
	return r
}

func (f *fixture) do(r *http.Request) reply {
	f.t.Helper()
	res, err := f.client.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(body)}
}
