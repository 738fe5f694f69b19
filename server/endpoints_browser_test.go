package server

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live/livetest"
	"countersign/termination/tlstest"
)

// withEndpoints stores endpoints of every sort, with traffic of the last minutes on the first ones.
func (f *fixture) withEndpoints() {
	f.t.Helper()
	f.withAuthority("Acme Root R1", tlstest.NewCA(tlstest.CN("Acme Root R1")))
	port := freeTCPPort(f.t)
	require := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"Acme Root R1", "Local CA"}, Inherit: true, Announce: true, OnLoss: termination.OnLossClose}
	off := termination.ClientAuth{Mode: termination.ModeOff, Inherit: true, Announce: true, OnLoss: termination.OnLossClose}
	optional := require
	optional.Mode = termination.ModeOptional
	list := []termination.Endpoint{
		{Name: "payments", Enabled: true, Scheme: "https", Host: "payments.localhost", ClientAuth: require, Upstream: termination.Upstream{Scheme: "http", Address: "127.0.0.1:3000"}},
		{Name: "shop", Enabled: true, Scheme: "https", Host: "shop.localhost", ClientAuth: optional, Upstream: termination.Upstream{Scheme: "https", Address: "10.0.0.8:9443"}, Routes: []termination.Route{{Path: "/admin", ClientAuth: &require}, {Path: "/status", ClientAuth: &off}}},
		{Name: "erp", Enabled: true, Scheme: "tls", Host: "erp.localhost", TerminateAt: termination.AtUpstream, ClientAuth: off, Upstream: termination.Upstream{Scheme: "tcp", Address: "10.0.0.7:443"}},
		{Name: "old-tickets", Scheme: "https", Host: "tickets.localhost", ClientAuth: off, Upstream: termination.Upstream{Scheme: "h2c", Address: "127.0.0.1:3001"}},
		{Name: "a-name-as-long-as-a-name-may-be-and-then-some-more-of-it-0123456", Enabled: true, Scheme: "https", Host: strings.Repeat("label-of-a-server-name.", 6) + "localhost", ClientAuth: off, MinVersion: 0x304, Upstream: termination.Upstream{Scheme: "builtin", Address: "whoami"}},
	}
	f.mutate(func(tx *store.Tx) error {
		for _, e := range list {
			e.Listen, e.Port = netip.MustParseAddr("127.0.0.1"), port
			if e.TerminateAt == "" {
				e.TerminateAt = termination.AtEdge
			}
			if _, err := tx.CreateEndpoint(e); err != nil {
				return err
			}
		}
		return nil
	})
	f.busy("payments")
	f.busy("shop")
}

// busy gives an endpoint some handshakes.
func (f *fixture) busy(name string) {
	e := f.current().Endpoint(name)
	for n := range 150 {
		h := livetest.Handshake(n, time.Now())
		h.ID, h.EndpointID, h.Endpoint = termination.NewID(termination.PrefixHandshake, time.Now()), e.ID, e.Name
		f.opts.Hub.Publish(h)
	}
}

func TestEndpointsInTheBrowser(t *testing.T) {
	f := start(t, nil)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)

	b.open(f.URL() + "/endpoints")
	b.picture("endpoints-empty-light")
	b.axe("no endpoints")

	f.withLocalCA(true)
	clients := tlstest.NewCA(tlstest.CN("Clients"))
	f.withAuthority("clients", clients)
	// By keyboard and form: the sentence, a mistake, its mending, and on to the live list.
	b.open(f.URL() + "/endpoints")
	b.press("n")
	b.waitFor(`location.pathname === '/endpoints/new' && document.readyState === 'complete'`)
	port := freeTCPPort(t)
	b.do(chromedp.SetValue(`#f-host`, "hello.localhost"), chromedp.SetValue(`#f-port`, strconv.Itoa(int(port))), chromedp.SetValue(`#f-upstream`, "whoami"))
	b.do(chromedp.Click(`button[value=save]`))
	b.waitFor(`document.querySelector('[aria-invalid=true]') !== null`)
	if text := eval[string](b, `document.querySelector('main').innerText`); !strings.Contains(text, "nobody could come in") {
		t.Errorf("without a CA the form says %q", text)
	}
	if focus := eval[string](b, `document.activeElement.name`); focus != "authorities" {
		t.Errorf("the focus is on %q", focus)
	}
	b.axe("form with an error")
	b.picture("endpoint-new-error-light")
	b.do(chromedp.Click(`input[name=authorities][value=clients]`), chromedp.Click(`button[value=try]`))
	b.waitFor(`document.querySelector('.grow .notice.ok') !== null`)
	b.do(chromedp.Click(`button[value=save]`))
	b.waitFor(`location.pathname === '/live' && location.search.includes('hello')`)
	b.check("creation")

	f.withEndpoints()
	b.open(f.URL() + "/endpoints/payments")
	// Choosing previews; Undo takes it back; nothing was changed.
	if eval[bool](b, `document.querySelector('.apply.at-upstream').checkVisibility()`) {
		t.Error("something waits to be applied before anything was chosen")
	}
	b.do(chromedp.Click(`input[name=at][value=upstream]`))
	b.waitFor(`document.querySelector('.apply.at-upstream').checkVisibility() && document.querySelector('.reads.at-upstream').checkVisibility() && !document.querySelector('.reads.at-edge').checkVisibility()`)
	b.picture("endpoint-preview-light")
	b.axe("preview of another mode")
	b.do(chromedp.Click(`.apply.at-upstream [type=reset]`))
	b.waitFor(`!document.querySelector('.apply.at-upstream').checkVisibility()`)
	b.do(chromedp.Click(`input[name=at][value=upstream]`), chromedp.Click(`.apply.at-upstream [type=submit]`))
	b.waitFor(`document.querySelector('.said') !== null`)
	if at := f.current().Endpoint("payments").TerminateAt; at != termination.AtUpstream {
		t.Errorf("TLS ends at %s", at)
	}
	f.mutate(func(tx *store.Tx) error { return tx.DeleteEndpoint("payments") })
	f.mutate(func(tx *store.Tx) error {
		shop, err := tx.Endpoint("shop")
		if err != nil {
			return err
		}
		shop.Name, shop.Host, shop.Routes, shop.ClientAuth.Mode = "payments", "payments.localhost", nil, termination.ModeRequire
		shop.ClientAuth.When = `client.authority == "clients" && inCidrRange(conn.client_ip, "10.0.0.0/8") && req.method == "GET"`
		if shop.ClientAuth.Rules, err = termination.ParseRules("refuse ou=\"test\" authority=\"clients\"\nallow cn=\"rhea\" authority=\"clients\"\nallow o=\"Acme\" ou=\"it\" authority=\"clients\""); err != nil {
			return err
		}
		shop.ClientAuth.Authorities = []string{"clients", "Local CA"}
		_, err = tx.CreateEndpoint(shop)
		return err
	})

	f.busy("payments")
	b.judgesInTheBrowser(f, clients)
	for name, path := range map[string]string{
		"endpoints": "/endpoints", "endpoint": "/endpoints/payments", "endpoint-routes": "/endpoints/shop", "endpoint-sealed": "/endpoints/erp", "endpoint-settings": "/endpoints/shop/settings",
		"endpoint-config": "/endpoints/shop/config", "endpoint-history": "/endpoints/payments/history", "endpoint-new": "/endpoints/new",
		"endpoint-delete": "/endpoints/shop/delete", "endpoint-long": "/endpoints/a-name-as-long-as-a-name-may-be-and-then-some-more-of-it-0123456",
	} {
		b.everywhere(name, path)
	}
}

// judgesInTheBrowser tries a client by the policy as it is typed, row by row, and saves nothing.
func (b *browser) judgesInTheBrowser(f *fixture, clients *tlstest.Cert) {
	b.t.Helper()
	b.open(f.URL() + "/endpoints/payments?rule=" + url.QueryEscape(`allow dns="a.example.com" authority="clients"`))
	b.do(chromedp.SetValue(`#f-pem`, string(clients.Client("rhea", tlstest.DNS("a.example.com")).PEM())), chromedp.Click(`#judge details summary`), chromedp.SetValue(`#f-try_address`, "10.1.2.3"), chromedp.Click(`#judge button[type=submit]`))
	b.waitFor(`document.querySelector('#judge table') !== null`)
	b.picture("endpoint-judged-light")
	b.axe("a client that was tried")
	b.do(chromedp.Click(`button[value=rule_up_1]`))
	b.waitFor(`document.querySelector('#f-rule0_value').value === 'rhea'`)
	b.axe("rules in rows")
	b.size(390, 844)
	b.picture("endpoint-rules-390")
	b.size(1440, 900)
	b.do(chromedp.Click(`button[formaction*=judge]`))
	b.waitFor(`document.querySelector('#judge .notice') !== null`)
	if text := eval[string](b, `document.querySelector('#judge .notice').innerText`); !strings.Contains(text, "Nothing is saved") {
		b.t.Errorf("the unsaved policy: %q", text)
	}
	b.check("trying")
}
