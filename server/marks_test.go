package server

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination/live/livetest"
)

// A handshake is marked by the form and by the API, shows it in its row and in the drawer, and is found by it.
func TestMarks(t *testing.T) {
	f := signedIn(t, nil)
	h := hostileHandshake("eve", time.Now())
	f.keep(h, livetest.Handshake(0, time.Now()))
	if got := f.post("/handshakes/"+h.ID+"/mark", url.Values{"mark": {"triangle"}}); got.status != http.StatusSeeOther || got.header.Get("Location") != "/handshakes/"+h.ID {
		t.Fatalf("status %d", got.status)
	}
	if page := f.get("/live?f=is:marked"); !strings.Contains(page.body, h.ID) || strings.Contains(page.body, `"hs_0"`) || !strings.Contains(page.body, "▲") {
		t.Error("the list of what is marked does not show it")
	}
	if page := f.get("/handshakes/" + h.ID); !strings.Contains(page.body, `value="triangle" aria-pressed="true"`) || !strings.Contains(page.body, `value="diamond" data-mark aria-pressed="false"`) {
		t.Error("the drawer does not show the mark")
	}
	inDrawer := f.request(http.MethodPost, "/handshakes/"+h.ID+"/mark", strings.NewReader(url.Values{"csrf": {f.csrf}, "mark": {"square"}}.Encode()), "application/x-www-form-urlencoded")
	inDrawer.Header.Set("Origin", f.URL())
	inDrawer.Header.Set("Referer", f.URL()+"/live?f=outcome%3Afailed")
	if got := f.do(inDrawer); got.header.Get("Location") != "/live?f=outcome%3Afailed#"+h.ID {
		t.Errorf("marked in the drawer, it goes on at %q", got.header.Get("Location"))
	}
	operate := f.as(store.ScopeOperate)
	if s := operate.call(http.MethodPut, "/handshakes/"+h.ID+"/mark", map[string]string{"mark": "circle"}, nil); s != http.StatusUnprocessableEntity {
		t.Errorf("a fifth shape: %d", s)
	}
	if s := operate.call(http.MethodPut, "/handshakes/"+h.ID+"/mark", map[string]string{"mark": "star"}, nil); s != http.StatusNoContent {
		t.Errorf("marking: %d", s)
	}
	var list struct {
		Items []struct{ Handshake, Mark, By string }
	}
	if s := operate.call(http.MethodGet, "/marks", nil, &list); s != http.StatusOK || len(list.Items) != 1 || list.Items[0].Mark != "star" {
		t.Errorf("the list: %d %+v", s, list)
	}
	if s := f.as(store.ScopeRead).call(http.MethodDelete, "/handshakes/"+h.ID+"/mark", nil, nil); s != http.StatusForbidden {
		t.Errorf("a token that may only read takes a mark away: %d", s)
	}
	if s := operate.call(http.MethodDelete, "/handshakes/"+h.ID+"/mark", nil, nil); s != http.StatusNoContent {
		t.Errorf("taking it away: %d", s)
	}
}
