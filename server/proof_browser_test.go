package server

import (
	"net/netip"
	"testing"

	"github.com/chromedp/chromedp"

	"countersign/store"
	"countersign/termination"
)

// The proof's panel: before the first, after the button, when it contradicts, and of an endpoint made by a command.
func TestProofInTheBrowser(t *testing.T) {
	f := start(t, nil)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)
	f.withLocalCA(true)
	f.withProvable("payments")
	f.withProvable("wrong")
	f.contradict("wrong")
	f.mutate(func(tx *store.Tx) error {
		_, err := tx.CreateCommand(store.Command{Endpoint: termination.Endpoint{
			Name: "sealed-8443", Enabled: true, Scheme: "tls", Host: "sealed.localhost", Listen: netip.MustParseAddr("127.0.0.1"), Port: freeTCPPort(t), TerminateAt: termination.AtUpstream,
			Upstream:   termination.Upstream{Scheme: termination.UpstreamTCP, Address: "127.0.0.1:1"},
			ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose},
		}})
		return err
	})
	b.open(f.URL() + "/endpoints/payments")
	b.do(chromedp.Click(`#proof button[type=submit]`))
	b.waitFor(`location.hash === '#proof' && document.querySelectorAll('.proof li').length === 7`)
	if eval[int](b, `document.querySelectorAll('.proof .bad').length`) != 0 {
		t.Error("a line is red although the policy holds")
	}
	for name, path := range map[string]string{"proof-holds": "/endpoints/payments", "proof-sealed-command": "/endpoints/sealed-8443", "proof-contradicts": "/endpoints/wrong"} {
		b.everywhere(name, path)
	}
	b.open(f.URL() + "/endpoints/wrong")
	if top := eval[string](b, `document.querySelector('.proof li')?.className ?? ''`); top != "" && top != "bad" {
		t.Errorf("the first line is %q", top)
	}
}
