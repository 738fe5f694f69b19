package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination/tlstest"
)

// What is pasted is explained, judged at every endpoint, and not kept.
func TestExplainPage(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(false)
	f.withEndpoints()
	hostile := tlstest.NewCA(tlstest.CN("<img src=x>\u202e")).Client("<b>mallory</b>\u202e", tlstest.Expired())
	ask := func(text string) reply { return f.post("/explain", url.Values{"text": {text}}) }
	if got := f.get("/explain"); got.status != http.StatusOK || !strings.Contains(got.body, "nothing is kept") || !strings.Contains(got.body, `href="/explain"`) {
		t.Errorf("the page: %d", got.status)
	}
	got := ask(string(hostile.PEM()))
	for _, want := range []string{"A client certificate for", "ended", "Would it pass?", "Would be refused", "Show such handshakes", "⟨U+202E⟩"} {
		if !strings.Contains(got.body, want) {
			t.Errorf("of a certificate it is not said: %q", want)
		}
	}
	if strings.Contains(got.body, "<b>mallory") || strings.Contains(got.body, "<img") || strings.Contains(got.body, "\u202e") {
		t.Error("text of a stranger came through")
	}
	key := ask(string(hostile.KeyPEM()))
	if !strings.Contains(key.body, "A private key. It was recognised, not read, and is not kept.") || strings.Contains(key.body, keyText(t, hostile)) {
		t.Errorf("a private key: %d", key.status)
	}
	if got := ask("curl: (56) OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0"); !strings.Contains(got.body, "/live?f=reason%3Acert_missing") {
		t.Errorf("an error line leads to no handshakes: %d", got.status)
	}
	if got := ask("nothing of the kind"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "nothing in it is recognised") {
		t.Errorf("what is not recognised: %d", got.status)
	}
	if strings.Contains(f.traces(), keyText(t, hostile)) || strings.Contains(f.log.String(), "mallory") {
		t.Error("something was kept")
	}
}

func TestExplainAPI(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(false)
	f.withEndpoints()
	c := f.as(store.ScopeRead)
	var answer struct {
		Findings  []struct{ Kind, Title string }
		Endpoints []api.EndpointVerdict
	}
	leaf := tlstest.NewCA().Client("stranger")
	if got := c.call(http.MethodPost, "/explain", api.ExplainRequest{Data: leaf.DER}, &answer); got != http.StatusOK || len(answer.Findings) != 1 || len(answer.Endpoints) == 0 {
		t.Fatalf("%d %+v", got, answer)
	}
	name := answer.Endpoints[0].Endpoint
	if got := c.call(http.MethodPost, "/explain", api.ExplainRequest{Text: string(leaf.PEM()), Endpoint: name}, &answer); got != http.StatusOK || len(answer.Endpoints) != 1 {
		t.Errorf("at one endpoint: %d %+v", got, answer.Endpoints)
	}
	for want, ask := range map[int]api.ExplainRequest{
		http.StatusNotFound:            {Text: string(leaf.PEM()), Endpoint: "nowhere"},
		http.StatusUnprocessableEntity: {Text: "hello"},
	} {
		if got := c.call(http.MethodPost, "/explain", ask, nil); got != want {
			t.Errorf("%+v answered %d, not %d", ask, got, want)
		}
	}
}

// Explaining costs as much of a processor as whoever asks wants, within bounds, so that only so many are explained at once:
// a token that may only read must not take the processors away from clients.
func TestExplanationsAtOnce(t *testing.T) {
	f := signedIn(t, nil)
	for range mostExplanations {
		f.explanations <- struct{}{}
	}
	ctx, leave := context.WithCancel(t.Context())
	leave() // who waits has gone
	r := httptest.NewRequest(http.MethodPost, api.Prefix+"/explain", strings.NewReader(`{"text":"alert 48"}`)).WithContext(ctx)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if f.operations.ServeHTTP(w, r); w.Code == http.StatusOK {
		t.Errorf("one more was explained by the API: %s", w.Body)
	}
	r = httptest.NewRequest(http.MethodPost, "/explain", strings.NewReader("text=alert+48")).WithContext(ctx)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := f.explainThis(echo.New().NewContext(r, httptest.NewRecorder())); !errors.Is(err, context.Canceled) {
		t.Errorf("one more was explained on the page: %v", err)
	}
	<-f.explanations
	if got := f.post("/explain", url.Values{"text": {"alert 48"}}); got.status != http.StatusOK {
		t.Errorf("with a free place: %d", got.status)
	}
	if n := len(f.explanations); n != mostExplanations-1 {
		t.Errorf("%d places are taken", n)
	}
}
