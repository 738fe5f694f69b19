package server

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
)

// What happened after TLS is explained wherever its handshake is shown, and the service's host stays in the house.
func TestEndIsExplained(t *testing.T) {
	f := signedIn(t, nil)
	h := hostileHandshake("rhea", time.Now())
	h.Verdict = termination.Verdict{Outcome: termination.OutcomeVerified, Beat: termination.BeatEstablished}
	h.Upstream = nil
	f.opts.Hub.Publish(h)
	f.opts.Hub.Complete(termination.ConnectionEnd{
		ID: h.ID, Time: time.Now(), Requests: 1, ClosedBy: termination.ClosedByGateway, Reason: termination.ReasonUpstreamDown,
		Upstream: &termination.UpstreamResult{Address: "http://orders.internal:8080", Error: "lookup orders.internal: no such host"},
	})
	page := f.get("/handshakes/" + h.ID)
	for end := time.Now().Add(10 * time.Second); !strings.Contains(page.body, "Start the service") && time.Now().Before(end); {
		page = f.get("/handshakes/" + h.ID)
	}
	wantAll(t, page, http.StatusOK, "does not answer: lookup orders.internal: no such host", "Start the service")
	var told struct {
		Verdict termination.Verdict `json:"verdict"`
	}
	if status := f.as(store.ScopeRead).call(http.MethodGet, "/handshakes/"+h.ID, nil, &told); status != http.StatusOK || !strings.Contains(told.Verdict.Explanation.Sentence, "does not answer") {
		t.Errorf("the API answers %d, %+v", status, told.Verdict.Explanation)
	}
	got := f.get("/handshakes/" + h.ID + "/bundle.zip")
	z, err := zip.NewReader(strings.NewReader(got.body), int64(len(got.body)))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range z.File {
		r, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil || bytes.Contains(text, []byte("orders.internal")) {
			t.Errorf("%s tells the service's host (%v):\n%s", file.Name, err, text)
		}
	}
}
