package server

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live/livetest"
	"countersign/termination/tlstest"
)

// A person registers a client, sees what goes wrong at its field, finds one among ten thousand, and invites another.
func TestClientsInTheBrowser(t *testing.T) {
	f, port := withClients(t)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)

	b.open(f.URL() + "/identities")
	b.axe("no clients")
	b.picture("clients-empty-light")
	b.open(f.URL() + "/identities/new")
	meter := tlstest.NewCA(tlstest.CN("Elsewhere CA")).Client("meter", tlstest.CN(`<img src=x onerror=alert(1)>`), tlstest.Valid(time.Now().Add(-80*day), time.Now().Add(9*day)))
	b.do(chromedp.SetValue(`input[name=name]`, "meter"), chromedp.SetValue(`textarea[name=text]`, string(meter.KeyPEM())), chromedp.Click(`.issue form button[type=submit]`))
	b.waitFor(`document.querySelector('.issue .error') !== null && !document.body.innerHTML.includes('PRIVATE KEY')`)
	b.check("a key instead of a certificate")
	b.axe("a key instead of a certificate")
	b.picture("client-key-light")
	b.do(chromedp.SetValue(`textarea[name=text]`, string(meter.PEM())), chromedp.SetValue(`input[name=rate]`, "50/s"), chromedp.Click(`input[name=endpoint]`), chromedp.Click(`.issue form button[type=submit]`))
	b.waitFor(`location.pathname === '/identities/meter' && document.querySelector('.said') !== null`)
	if n := eval[int](b, `document.querySelectorAll('main img').length`); n != 0 {
		t.Error("a certificate's name became markup")
	}
	b.check("registered")

	// It comes in, some days are counted, and there are many more.
	res, err := f.outside(port, meter).Get(fmt.Sprintf("https://api.localhost:%d/", port))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	id := f.identity("meter").ID
	var ends []termination.ConnectionEnd
	for n := range 20 {
		ends = append(ends, termination.ConnectionEnd{ID: "hs_none", Time: time.Now().Add(-time.Duration(n) * day), Requests: int64(n*n%37 + 3), IdentityID: id})
	}
	if err := f.store.WriteHistory(termination.HistoryBatch{Ends: ends}); err != nil {
		t.Fatal(err)
	}
	f.mutate(func(tx *store.Tx) error {
		for n := range 150 {
			i := termination.Identity{Name: fmt.Sprintf("device %04d", n), Endpoints: []string{"api"}, Pins: []termination.Pin{{Fingerprint: termination.Fingerprint{byte(n), byte(n >> 8), 1}}}, Blocked: n%7 == 0}
			if _, err := tx.CreateIdentity(i); err != nil {
				return err
			}
		}
		return nil
	})
	if _, _, err := f.store.CreateRegistration(t.Context(), store.Actor{Name: "rhea", Via: "test"}, store.Registration{Portal: "portal", Name: "invited", Endpoints: []string{"api"}}, day); err != nil {
		t.Fatal(err)
	}
	f.eventually(func() bool {
		seen, err := f.store.LastSightings(t.Context())
		return err == nil && len(seen) > 0
	})
	h := f.pastOf(meter)
	if _, err := f.store.AddSavedView(t.Context(), store.Actor{Name: "rhea", Via: "test"}, "What fails at the API", "outcome:failed endpoint:api since:1h"); err != nil {
		t.Fatal(err)
	}
	b.marks(f, h.ID)
	pages := map[string]string{
		"clients": "/identities", "clients-found": "/identities?" + url.Values{"q": {"device 00"}, "state": {"blocked"}}.Encode(), "client": "/identities/meter",
		"client-new": "/identities/new", "client-invite": "/identities/invite",
		"clients-seen": "/clients", "client-seen": "/clients/" + termination.FingerprintOf(meter.X509).String(), "expiry": "/expiry",
		"saved-views": "/live/views", "endpoint-trend": "/endpoints/api", "handshake-failed": "/handshakes/" + h.ID, "policy-then": "/handshakes/" + h.ID + "/policy", "notices": "/settings",
	}
	for name, path := range pages {
		b.everywhere(name, path)
	}
	b.open(f.URL() + "/identities")
	if rows, text := eval[int](b, `document.querySelectorAll('.list > li').length`), eval[string](b, `document.querySelector('.pages').innerText`); rows != identityRows || !strings.Contains(text, "1 to 100 of 1") {
		t.Errorf("%d rows, %q", rows, text)
	}
	b.open(f.URL() + "/identities/invite")
	b.do(chromedp.SetValue(`input[name=name]`, "new one"), chromedp.Click(`.issue form button[type=submit]`))
	b.waitFor(`document.body.innerText.includes('https://portal.localhost:') && document.body.innerText.includes('/i/csreg1_')`)
	b.axe("an invitation")
	b.picture("client-invited-light")
	b.open(f.URL() + "/identities/meter")
	b.do(chromedp.Click(`form[action$="/block"] button`))
	b.waitFor(`document.querySelector('h1 .bad') !== null`)
	b.check("blocked")
}

// pastOf writes that a client came to the API for days, and was refused now and then; it returns the last refusal.
func (f *fixture) pastOf(c *tlstest.Cert) *termination.Handshake {
	f.t.Helper()
	config := f.current()
	api := config.Endpoint("api")
	var list []*termination.Handshake
	for n := 20; n >= 0; n-- {
		h := livetest.Handshake(0, time.Now().Add(-time.Duration(n)*day/2))
		h.ID, h.EndpointID, h.Endpoint, h.Revision = termination.NewID(termination.PrefixHandshake, h.Time), api.ID, api.Name, config.Revision
		h.Presented, h.Client = c.Chain(), termination.ClientName{Name: "meter", Full: "meter", Issuer: "Elsewhere CA", Fingerprint: termination.FingerprintOf(c.X509)}
		h.Verdict = termination.Verdict{Outcome: termination.OutcomeVerified, Beat: termination.BeatEstablished}
		if n%4 == 0 {
			h.Verdict = termination.Verdict{
				Outcome: termination.OutcomeRefused, Reason: termination.ReasonCAUnknown, Beat: termination.BeatClientCert,
				Checks: []termination.Check{{Reason: termination.ReasonCAUnknown, Detail: "Elsewhere CA is trusted by no endpoint"}},
			}
		}
		list = append(list, h)
	}
	f.keep(list...)
	return list[len(list)-1]
}

// marks gives a handshake a shape in the drawer, below what matters more, and finds it in the list after a reload.
func (b *browser) marks(f *fixture, id string) {
	b.t.Helper()
	b.open(f.URL() + "/live?f=client:meter+outcome:failed#" + id)
	b.waitFor(`document.querySelector('[data-drawer] h1') !== null`)
	if !eval[bool](b, `document.querySelector('[data-drawer] .tl').compareDocumentPosition(document.querySelector('[data-drawer] [data-marks]')) === Node.DOCUMENT_POSITION_FOLLOWING`) {
		b.t.Error("the drawer begins with marks instead of what broke")
	}
	b.press("x")
	b.waitFor(`[...document.querySelectorAll('[data-rows].pool .row:not([hidden])')].some((r) => r.dataset.id === '` + id + `' && r.querySelector('.mk')?.textContent.trim())`)
	b.open(f.URL() + "/live?f=is:marked")
	b.waitFor(`document.querySelectorAll('[data-rows].pool .row:not([hidden]) .mk').length === 1`)
	b.open(f.URL() + "/live?f=client:meter+outcome:failed#" + id)
	b.waitFor(`document.querySelector('[data-drawer] [data-marks] [aria-pressed=true]')?.value === 'star'`)
	for _, theme := range []string{"light", "dark"} {
		b.theme(theme)
		b.axe("live with a marked handshake, " + theme)
		b.screen("live-marked-" + theme)
	}
	eval[bool](b, `(document.querySelector('[data-drawer] [data-marks]').scrollIntoView({block: 'end'}), true)`)
	b.screen("live-marks-light")
}
