package server

import (
	"html"
	"net/url"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/acme"
	"countersign/termination/servercert"
	"countersign/termination/tlstest"
)

// A CA that cannot be reached is shown with what went wrong and when it is tried again, and can be tried at once.
func TestACMEIsShown(t *testing.T) {
	st, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	manager := acme.New(acme.Options{
		Storage: st.ACMEState(), Obtained: servercert.NewObtained(), Attempt: 10 * time.Second,
		Backoff: func(int) time.Duration { return time.Hour },
	})
	t.Cleanup(manager.Close)
	f := signedIn(t, func(o *Options) { o.Store, o.ACME = st, manager })
	if body := f.get("/certificates").body; strings.Contains(body, "Obtained through ACME") {
		t.Error("it is shown where nobody asks for it")
	}
	manager.Apply(&termination.Config{
		ACME: termination.ACME{Directory: "https://127.0.0.1:1/directory"},
		Endpoints: []termination.Endpoint{{
			Name: "web", Enabled: true, Host: "web.example.test", TerminateAt: termination.AtEdge, Certificates: []string{termination.CertificateACME},
		}},
	})
	tlstest.Eventually(t, "the try to fail", func() bool { return manager.Status().Names[0].State == acme.StateFailed })
	text := html.UnescapeString(f.get("/certificates").body)
	for _, want := range []string{"From 127.0.0.1:1, for endpoints", "web.example.test", "not obtained", "connection refused", "tried again at", "Until it is there the local CA answers."} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if body := f.get("/api/v1/status").body; !strings.Contains(body, `"name":"web.example.test","state":"failed","error":"`) || !strings.Contains(body, `"next_try":"`) {
		t.Errorf("the API says %s", body)
	}
	if got := f.post("/certificates/acme/retry", url.Values{"name": {"web.example.test"}}); got.status != 303 {
		t.Errorf("try now: %d", got.status)
	}
	if got := f.post("/certificates/acme/retry", url.Values{"name": {"other.example.test"}}); got.status != 404 {
		t.Errorf("try a name that nobody asks for: %d", got.status)
	}
}
