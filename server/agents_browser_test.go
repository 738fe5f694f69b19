package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/agent"
	"countersign/termination/tunnel"
)

// runAgent joins by a token, as the command that a page shows does, and serves until stop is called or the test ends. What
// Run returned is sent to ended.
func runAgent(t *testing.T, text, name, upstream string) (stop func(), ended <-chan error) {
	t.Helper()
	token, err := termination.ParseJoinToken(text)
	if err != nil {
		t.Fatal(err)
	}
	dial := (&net.Dialer{}).DialContext
	state, err := agent.OpenState(filepath.Join(t.TempDir(), "agent"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := tunnel.Join(t.Context(), tunnel.JoinOptions{Token: token, Name: name, Version: "v1.2.3", Now: time.Now, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	service, err := termination.ParseUpstream(upstream)
	if err != nil {
		t.Fatal(err)
	}
	a := agent.New(agent.Options{
		Identity: id, State: state, Upstream: service, Name: name, Version: "v1.2.3", Log: slog.New(slog.DiscardHandler), Now: time.Now, Dial: dial,
	})
	done, stopped := make(chan error, 1), false
	go func() { done <- a.Run() }()
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		closeAll(t, a.Close)
		_ = state.Close()
	}
	t.Cleanup(stop)
	return stop, done
}

var tokenInText = regexp.MustCompile(`csjoin1_[\w-]+`)

// A person invites an agent on the page, starts it, sees it come, serve, go and be removed, without loading a page again.
func TestAgentsInTheBrowser(t *testing.T) {
	f := realDemo(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // closed at once: it only finds a free port
	if err != nil {
		t.Fatal(err)
	}
	listen := netip.MustParseAddrPort(l.Addr().String())
	_ = l.Close()
	_, err = f.Change(t.Context(), rhea, func(tx *store.Tx) error {
		return tx.SetAgents(termination.Agents{Listen: listen, StalePolicy: time.Minute})
	})
	if err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the service") }))
	t.Cleanup(service.Close)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)

	b.open(f.URL() + "/settings")
	b.do(chromedp.KeyEvent("g"), chromedp.KeyEvent("a"))
	b.waitFor(`location.pathname === '/agents' && document.documentElement.dataset.js === ''`)
	b.everywhere("agents-first", "/agents")
	b.everywhere("agent-invite-first", "/agents/invite")
	b.open(f.URL() + "/agents")
	b.do(chromedp.Click(`.empty form button[type=submit]`))
	b.waitFor(`document.querySelector('#agent-command') !== null && document.querySelector('[data-key=waiting]').innerText.includes('waiting for the agent')`)
	b.here("agent-invited")
	token := tokenInText.FindString(eval[string](b, `document.querySelector('#agent-command').textContent`))
	stop, _ := runAgent(t, token, "host-1", service.URL)
	b.waitFor(`document.querySelector('[data-key=waiting]').innerText.includes('host-1 is online')`)
	b.here("agent-came")
	b.everywhere("agent-invite", "/agents/invite?endpoint=beside")
	b.do(chromedp.Click(`details summary`), chromedp.SendKeys(`input[name=gateways]`, "https://gw"), chromedp.Click(`.form button[type=submit]`))
	b.waitFor(`document.activeElement?.name === 'gateways' && document.activeElement.value === 'https://gw' && document.activeElement.ariaInvalid === 'true'`)
	b.here("agent-invite-failed")
	if got := f.through("beside"); got != "the service" {
		t.Errorf("through the agent came %q", got)
	}

	b.size(1440, 900)
	b.open(f.URL() + "/agents")
	const text = `document.querySelector('main').innerText`
	b.waitFor(text + `.includes('online') && ` + text + `.includes('host-1') && ` + text + `.includes('in force')`)
	made, _ := f.invited("beside")
	_, removed := runAgent(t, made.Token, `host-2 <img src=x onerror=alert(1)>`, service.URL)
	b.waitFor(`document.querySelector('[data-changed] a')?.textContent === 'Show'`)
	if n := eval[int](b, `document.querySelectorAll('.agent').length`); n != 1 {
		t.Errorf("%d rows: what was under the pointer has moved", n)
	}
	b.check("while agents come")
	b.do(chromedp.Click(`[data-changed] a`))
	b.waitFor(`document.querySelectorAll('.agent').length === 2`)
	b.everywhere("agents", "/agents")
	b.everywhere("endpoint-agents", "/endpoints/beside")
	b.size(1440, 900)
	b.open(f.URL() + "/agents")
	b.waitFor(`[...document.querySelectorAll('.agent .tag')].every((e) => e.innerText.includes('online'))`)
	eval[bool](b, `window.row = document.querySelector('.agent'), true`)
	stop()
	b.waitFor(`window.row.innerText.includes('offline') && window.row.isConnected`)
	eval[bool](b, `window.real = window.fetch, window.fetch = () => Promise.reject(new Error('no way there')), true`)
	b.waitFor(`document.querySelector('[data-changed]').innerText.includes('no way there. Trying again')`)
	b.here("agents-lost")
	eval[bool](b, `window.fetch = window.real, true`)
	b.waitFor(`document.querySelector('[data-changed]').innerText === ''`)
	b.everywhere("agents-one-offline", "/agents")

	b.size(1440, 900)
	b.open(f.URL() + "/agents?state=online")
	b.do(chromedp.Click(`.agent .act a`))
	b.waitFor(`location.pathname.endsWith('/remove') && document.documentElement.dataset.js === '' && ` + text + `.includes('every client is refused')`)
	b.here("agent-remove")
	if n := eval[int](b, `document.querySelectorAll('main img').length`); n != 0 {
		t.Error("the name of an agent became markup")
	}
	b.do(chromedp.Click(`button.danger`))
	b.waitFor(`location.pathname === '/agents' && ` + text + `.includes('is removed and cut off')`)
	// It may have been cut off after the page was made; then the notice, which would move the list, waits behind a link.
	b.waitFor(text + `.includes('has no agent online, so every client is refused') || document.querySelector('[data-changed] a') !== null`)
	b.open(f.URL() + "/agents")
	b.waitFor(text + `.includes('has no agent online, so every client is refused')`)
	select {
	case err := <-removed:
		if err == nil {
			t.Error("the removed agent ended as if nothing was wrong")
		}
	case <-time.After(30 * time.Second):
		t.Error("the removed agent runs on")
	}
	b.everywhere("agents-alone", "/agents")
	b.check("in the end")
}

// through asks an endpoint for its page, trusting the local CA, and returns the body.
func (f *fixture) through(name string) string {
	f.t.Helper()
	e := f.current().Endpoint(name)
	pool := x509.NewCertPool()
	pool.AddCert(f.current().LocalCAs[0].Certificate)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, e.Address().String())
		},
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.URL(), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	res, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}
