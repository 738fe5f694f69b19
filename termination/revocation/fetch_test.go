package revocation_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/tlstest"
)

// server serves what is set, and counts.
type server struct {
	url     string
	asked   atomic.Int64
	handler atomic.Pointer[http.HandlerFunc]
}

func newServer(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.handler.Store(&h)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		(*s.handler.Load())(w, r)
	}))
	t.Cleanup(web.Close)
	s.url = web.URL
	return s
}

func (s *server) now(h http.HandlerFunc) { s.handler.Store(&h) }

func serving(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
}

// kept is a Keeper in memory.
type kept struct {
	mu    sync.Mutex
	lists map[string]revocation.Fetched
	calls int
}

func (k *kept) KeptLists(context.Context) (out []revocation.Fetched, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range k.lists {
		out = append(out, l)
	}
	return out, nil
}

func (k *kept) KeepList(_ context.Context, f revocation.Fetched) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	if f.Body == nil {
		f.Body = k.lists[f.URL].Body
	}
	k.lists[f.URL] = f
	return nil
}

func source(r *revocation.Registry) revocation.SourceStatus { return r.Status()[0].Sources[0] }

// A list is fetched, replaced by a newer one, and not by an older one, also not after a restart without network.
func TestFetchedList(t *testing.T) {
	ca := tlstest.NewCA(tlstest.CN("Devices CA"))
	alice, bob := ca.Client("alice"), ca.Client("bob")
	one, two := ca.CRL(tlstest.Revoking(bob)), tlstest.CRLPEM(ca.CRL(tlstest.Number(2), tlstest.Revoking(alice, bob)))
	web := newServer(t, serving(one))
	keep := &kept{lists: map[string]revocation.Fetched{}}
	config := devices(termination.Revocation{Mode: termination.RevocationHard, CRLURLs: []string{web.url}}, ca)
	var told atomic.Int64
	r := registry(t, revocation.Options{Keep: keep, Changed: func() { told.Add(1) }})
	r.Apply(config)
	tlstest.Eventually(t, "the first list is there", func() bool { return check(r, alice).Unknown == nil })
	if f := check(r, bob); f.Revoked == nil {
		t.Errorf("bob: %+v", f)
	}
	web.now(serving(two))
	r.Fetch("devices")
	tlstest.Eventually(t, "the second list is there", func() bool { return check(r, alice).Revoked != nil })
	if told.Load() < 3 { // the configuration and two lists
		t.Errorf("told %d times", told.Load())
	}
	web.now(serving(one))
	r.Fetch("devices")
	tlstest.Eventually(t, "the first list is refused", func() bool { return strings.Contains(source(r).Problem, "older than the CRL number 2") })
	if f := check(r, alice); f.Revoked == nil {
		t.Errorf("after a replayed list: %+v", f)
	}
	r.Close()

	again := registry(t, revocation.Options{Keep: keep})
	if err := again.Restore(context.Background()); err != nil {
		t.Fatal(err)
	}
	again.Apply(config)
	if f := check(again, alice); f.Revoked == nil {
		t.Errorf("after a restart: %+v", f)
	}
	tlstest.Eventually(t, "the first list is refused after a restart", func() bool { return strings.Contains(source(again).Problem, "older") })
	web.now(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "away", http.StatusServiceUnavailable) })
	again.Fetch("devices")
	tlstest.Eventually(t, "the server is away", func() bool { return strings.Contains(source(again).Problem, "503") })
	if f := check(again, alice); f.Revoked == nil || source(again).Lists[0].Number != "2" {
		t.Errorf("while the server is away: %+v", f)
	}
}

func TestConditionalRequests(t *testing.T) {
	ca := tlstest.NewCA()
	body := ca.CRL()
	var same atomic.Int64
	web := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"a"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		if r.Header.Get("If-None-Match") == `"a"` && r.Header.Get("If-Modified-Since") != "" {
			same.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(body)
	})
	keep := &kept{lists: map[string]revocation.Fetched{}}
	config := devices(termination.Revocation{CRLURLs: []string{web.url}}, ca)
	r := registry(t, revocation.Options{Keep: keep})
	r.Apply(config)
	tlstest.Eventually(t, "the list is there", func() bool { return source(r).Size > 0 })
	r.Fetch("devices")
	tlstest.Eventually(t, "it was asked for with a condition", func() bool { return same.Load() == 1 && source(r).Problem == "" })
	r.Close()
	again := registry(t, revocation.Options{Keep: keep})
	if err := again.Restore(context.Background()); err != nil {
		t.Fatal(err)
	}
	again.Apply(config)
	tlstest.Eventually(t, "it was asked for with a condition after a restart", func() bool { return same.Load() == 2 })
	if s := source(again); s.Size != len(body) || len(s.Lists) != 1 || !s.Lists[0].InForce {
		t.Errorf("%+v", s)
	}
}

func TestServersThatMisbehave(t *testing.T) {
	ca := tlstest.NewCA()
	hold := make(chan struct{})
	elsewhere := newServer(t, serving(ca.CRL()))
	var loop *server
	loop = newServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, loop.url, http.StatusFound) })
	moved := newServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.url, http.StatusFound) })
	huge := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		chunk := make([]byte, 1<<20)
		for range termination.MaxCRL>>20 + 2 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	announced := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000000000")
		w.WriteHeader(http.StatusOK)
	})
	file := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "file:///etc/passwd")
		w.WriteHeader(http.StatusFound)
	})
	metadata := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusFound)
	})
	slow := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	})
	defer close(hold)
	page := newServer(t, serving([]byte("<html>sign in</html>")))
	urls := map[string]string{
		loop.url: "more than 3 times", huge.url: "more than 64 MiB", announced.url: "more than 64 MiB", file.url: "neither http nor https",
		metadata.url: "nothing is asked of link-local", page.url: "no revocation list", moved.url: "",
		"http://[fe80::1]/x.crl": "nothing is asked of link-local", "http://127.0.0.1:1/x.crl": "refused",
	}
	rev := termination.Revocation{CRLURLs: []string{slow.url}}
	for u := range urls {
		rev.CRLURLs = append(rev.CRLURLs, u)
	}
	r := registry(t, revocation.Options{})
	r.Apply(devices(rev, ca))
	tlstest.Eventually(t, "all have been looked at", func() bool {
		done := 0
		for _, s := range r.Status()[0].Sources {
			if _, counts := urls[s.Source]; counts && (s.Problem != "" || s.Size > 0) {
				done++
			}
		}
		return done == len(urls)
	})
	for _, s := range r.Status()[0].Sources {
		if want, ok := urls[s.Source]; ok && (want == "" && s.Size == 0 || !strings.Contains(s.Problem, want)) {
			t.Errorf("%s: %q, want %q", s.Source, s.Problem, want)
		}
	}
	closed := make(chan struct{})
	go func() {
		r.Close() // although one server is slow
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		t.Fatal("Close waits for a slow server")
	}
}

// Addresses that stand in certificates are never fetched, whoever presents them (SSRF).
func TestAddressesInCertificatesAreNeverFetched(t *testing.T) {
	trap := newServer(t, serving(nil))
	ca := tlstest.NewCA(tlstest.URLs(trap.url, trap.url, trap.url))
	alice := ca.Client("alice", tlstest.URLs(trap.url, trap.url, trap.url))
	r := registry(t, revocation.Options{})
	r.Apply(devices(termination.Revocation{Mode: termination.RevocationHard, CRLs: given(ca.CRL())}, ca))
	f := check(r, alice)
	r.Ask(context.Background(), f.Ask)
	r.Fetch("devices")
	r.Close()
	if len(f.Ask) > 0 || trap.asked.Load() > 0 {
		t.Errorf("the server in the certificate was asked %d times, and %d questions were left", trap.asked.Load(), len(f.Ask))
	}
}

// An agent takes what its gateway gives it, before and after its policy.
func TestGivenLists(t *testing.T) {
	ca := tlstest.NewCA()
	alice := ca.Client("alice")
	trap := newServer(t, serving(nil))
	lists := func(body []byte) []revocation.Fetched {
		return []revocation.Fetched{{Authority: "au_1", URL: trap.url, Body: body}}
	}
	r := registry(t, revocation.Options{Given: true})
	r.Give(lists(ca.CRL(tlstest.Number(2), tlstest.Revoking(alice))))
	r.Apply(devices(termination.Revocation{Mode: termination.RevocationHard, CRLURLs: []string{trap.url}}, ca))
	if f := check(r, alice); f.Revoked == nil {
		t.Errorf("the list before the policy: %+v", f)
	}
	r.Give(lists(ca.CRL()))
	if f := check(r, alice); f.Revoked == nil {
		t.Errorf("an older list: %+v", f)
	}
	r.Give(lists(ca.CRL(tlstest.Number(3))))
	if f := check(r, alice); f.Revoked != nil || f.Unknown != nil {
		t.Errorf("a newer list: %+v", f)
	}
	r.Give(nil)
	if f := check(r, alice); f.Unknown == nil {
		t.Errorf("no list: %+v", f)
	}
	r.Close()
	if trap.asked.Load() > 0 {
		t.Error("an agent has fetched a list itself")
	}
}
