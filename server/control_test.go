package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/store"
)

// controlled is a dashboard with its control socket open, over a store in dir.
func controlled(t *testing.T, dir string) (*fixture, *Control, *ControlClient) {
	t.Helper()
	f := start(t, func(o *Options) {
		st, err := store.Open(t.Context(), dir, store.Options{Log: o.Log})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		o.Store = st
	})
	control, err := f.OpenControl(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closeAll(t, func(ctx context.Context) error {
			if err := control.Close(ctx); !errors.Is(err, context.Canceled) { // a test may have cut it short
				return err
			}
			return nil
		})
	})
	client, err := NewControlClient(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f, control, client
}

func TestControlMakesLinksAndTokens(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	f, _, client := controlled(t, dir)
	info, err := os.Lstat(filepath.Join(dir, ControlFile))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Type() != os.ModeSocket || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v", info.Mode())
	}
	link, err := client.SignInLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secret, found := strings.CutPrefix(link, f.URL()+"/?t=")
	if !found {
		t.Fatalf("link %q", link)
	}
	for i, want := range []int{http.StatusSeeOther, http.StatusForbidden} {
		f.client = newClient(t)
		if r := f.post("/sign-in", url.Values{"t": {secret}, "who": {"rhea"}}); r.status != want {
			t.Errorf("use %d of the link: status %d, want %d", i+1, r.status, want)
		}
	}
	token, err := client.CreateToken(t.Context(), "reports", store.ScopeRead, "rhea")
	if err != nil {
		t.Fatal(err)
	}
	known, err := f.store.Token(t.Context(), token.Secret)
	if err != nil || known.ID != token.ID || known.Name != "reports" || known.Scope != store.ScopeRead || known.By != "rhea" {
		t.Errorf("token %+v is known as %+v, %v", token, known, err)
	}
	entries, err := f.store.Audit(t.Context(), store.AuditQuery{Kind: store.KindToken})
	if err != nil || len(entries) != 1 || entries[0].Actor != (store.Actor{Name: "rhea", Via: "command"}) {
		t.Errorf("audit %+v, %v", entries, err)
	}
	if log := f.log.String(); strings.Contains(log, secret) || strings.Contains(log, token.Secret) {
		t.Error("a secret is in the log")
	}
}

func TestControlRefuses(t *testing.T) {
	_, _, client := controlled(t, filepath.Join(t.TempDir(), "data"))
	if _, err := client.CreateToken(t.Context(), "taken", store.ScopeRead, "rhea"); err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]controlTokenRequest{
		"no name":       {Scope: store.ScopeRead, By: "rhea"},
		"bad name":      {Name: "a/b", Scope: store.ScopeRead, By: "rhea"},
		"no scope":      {Name: "a", By: "rhea"},
		"unknown scope": {Name: "a", Scope: "root", By: "rhea"},
		"nobody":        {Name: "a", Scope: store.ScopeRead},
		"hostile asker": {Name: "a", Scope: store.ScopeRead, By: "\x1b[2J"},
		"taken name":    {Name: "taken", Scope: store.ScopeRead, By: "rhea"},
	} {
		if got, err := client.CreateToken(t.Context(), ask.Name, ask.Scope, ask.By); err == nil || errors.Is(err, ErrNoGateway) || got.Secret != "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, r := range map[string]struct{ method, path, body string }{
		"a page":           {http.MethodGet, "/settings", ""},
		"the API":          {http.MethodGet, "/api/v1/endpoints", ""},
		"health":           {http.MethodGet, "/healthz", ""},
		"GET of a link":    {http.MethodGet, "/sign-in-link", ""},
		"a path below":     {http.MethodPost, "/tokens/x", "{}"},
		"an unclean path":  {http.MethodPost, "//tokens", "{}"},
		"a path with dots": {http.MethodPost, "/x/../tokens", "{}"},
		"no JSON":          {http.MethodPost, "/tokens", "name=a&scope=read"},
		"an unknown field": {http.MethodPost, "/tokens", `{"name": "a", "scope": "read", "by": "rhea", "admin": true}`},
		"two objects":      {http.MethodPost, "/tokens", `{"name": "a", "scope": "read", "by": "rhea"}{}`},
		"too much":         {http.MethodPost, "/tokens", `{"name": "` + strings.Repeat("a", controlBody) + `"}`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), r.method, "http://countersign"+r.path, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.http.Transport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = res.Body.Close()
		if res.StatusCode < 300 {
			t.Errorf("%s: status %d", name, res.StatusCode)
		}
	}
}

// The dashboard must not have the socket's routes: there, a browser could reach them.
func TestControlIsNotOnTheDashboard(t *testing.T) {
	f, _, _ := controlled(t, filepath.Join(t.TempDir(), "data"))
	f.signIn("rhea")
	for _, path := range []string{"/sign-in-link", "/tokens"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := f.request(method, path, strings.NewReader("{}"), "application/json")
			r.Header.Set("Origin", f.URL())
			if got := f.do(r); got.status != http.StatusNotFound && got.status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: status %d", method, path, got.status)
			}
		}
	}
}

func TestControlSocketLeftBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ControlFile)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	client, err := NewControlClient(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.SignInLink(t.Context()); !errors.Is(err, ErrNoGateway) {
		t.Errorf("a socket without a process: %v", err)
	}
	_, control, client := controlled(t, dir)
	if _, err := client.SignInLink(t.Context()); err != nil {
		t.Error(err)
	}
	closeAll(t, control.Close)
	closeAll(t, control.Close)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket outlives its server: %v", err)
	}
	if _, err := client.SignInLink(t.Context()); !errors.Is(err, ErrNoGateway) {
		t.Errorf("after the end: %v", err)
	}
}

func TestControlLeavesOtherFilesAlone(t *testing.T) {
	f := start(t, nil)
	path := filepath.Join(f.store.Dir(), ControlFile)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.OpenControl(t.Context()); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}

// The address of a Unix socket holds about a hundred bytes; data directories may be deeper.
func TestControlInADeepDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120), "data")
	_, control, client := controlled(t, dir)
	if _, err := client.SignInLink(t.Context()); err != nil {
		t.Error(err)
	}
	closeAll(t, control.Close)
	if _, err := os.Lstat(filepath.Join(dir, ControlFile)); !os.IsNotExist(err) {
		t.Errorf("the socket outlives its server: %v", err)
	}
}

func TestControlEndsWithItsContext(t *testing.T) {
	_, control, client := controlled(t, filepath.Join(t.TempDir(), "data"))
	// Somebody connects and says nothing.
	conn, err := client.http.Transport.(*http.Transport).DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("POST /tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = control.Close(ctx) // must return; whether the slow request counted is a matter of timing
	if _, err := client.SignInLink(t.Context()); !errors.Is(err, ErrNoGateway) {
		t.Errorf("after the end: %v", err)
	}
}

func TestProblemsOfOthersAreShown(t *testing.T) {
	f := signedIn(t, nil)
	f.ShowProblem(store.Problem{Kind: "configuration file", Name: "a.yaml", Text: "line 3 <b>is</b> wrong"})
	f.ShowProblem(store.Problem{Kind: "configuration file", Name: "a.yaml", Text: "line 4 is wrong"})
	page := f.get("/settings").body
	if !strings.Contains(page, "line 4 is wrong") || strings.Contains(page, "line 3") {
		t.Errorf("the settings page:\n%s", page)
	}
	if _, err := f.Change(t.Context(), store.Actor{Name: "rhea", Via: "test"}, func(*store.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(f.get("/settings").body, "line 4") {
		t.Error("the problem outlives the change that may have mended it")
	}
}
