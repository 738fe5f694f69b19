package server

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/tlstest"
)

// A person blocks a client from its handshake, sees the proof, and finds it among many.
func TestBlockingInTheBrowser(t *testing.T) {
	f, port := withClients(t)
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	f.withAuthority("devices", devices)
	conn, id := f.stays(f.clientOf(devices.Client("laptop-7", tlstest.CN(`laptop <img src=x onerror=alert(1)>`))), port)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)
	b.open(f.URL() + "/blocked")
	b.axe("nobody is blocked")
	b.picture("blocked-empty-light")
	b.open(f.URL() + "/blocked/new?handshake=" + id)
	b.axe("the form")
	b.picture("block-form-light")
	b.do(chromedp.SetValue(`input[name=why]`, "laptop lost"), chromedp.Click(`main form button[type=submit]`))
	b.waitFor(`location.pathname.startsWith('/blocked/blk_')`)
	b.waitFor(`document.body.innerText.includes('1 live connection was closed.')`)
	if n := eval[int](b, `document.querySelectorAll('main img').length`); n != 0 {
		t.Error("a certificate's name became markup")
	}
	b.check("blocked")
	_, _ = conn.Read(make([]byte, 4096))
	page := eval[string](b, `location.pathname`)
	f.mutate(func(tx *store.Tx) error {
		for n := range 1000 {
			block := termination.Block{Pin: &termination.Pin{Fingerprint: termination.Fingerprint{byte(n), byte(n >> 8), 1}, Key: n%2 == 0}, Why: fmt.Sprintf("batch %d of the stolen ones", n)}
			if _, err := tx.Block(block); err != nil {
				return err
			}
		}
		return nil
	})
	for name, path := range map[string]string{"block": page, "block-new": "/blocked/new", "blocked": "/blocked"} {
		b.everywhere(name, path)
	}
	b.open(f.URL() + "/blocked")
	if rows := eval[int](b, `document.querySelectorAll('.list > li').length`); rows > blockRows {
		t.Errorf("%d rows on a page", rows)
	}
}
