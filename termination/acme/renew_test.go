package acme_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign/termination/acme"
	"countersign/termination/tlstest"
)

// A certificate that is due is renewed ahead of its end; until then it answers, and connections of before live on.
func TestRenewal(t *testing.T) {
	port := freePort(t)
	a := newAuthority(t, freePort(t), port)
	first := newRig(t, port, options{settings: a.settings()}, "a.test")
	first.status("a.test", acme.StateOK)

	now := time.Now()
	old := tlstest.NewCA().Server("a.test", tlstest.Valid(now.AddDate(0, 0, -80), now.AddDate(0, 0, 10)))
	storage := first.storage.(*memory)
	storage.mu.Lock()
	for key := range storage.kept {
		switch {
		case strings.HasSuffix(key, ".crt"):
			storage.kept[key] = old.PEM()
		case strings.HasSuffix(key, ".key"):
			storage.kept[key] = old.KeyPEM()
		}
	}
	storage.mu.Unlock()
	_ = first.gateway.Close(t.Context())
	first.manager.Close()

	a.fail(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "down for maintenance", http.StatusBadGateway)
	})
	r := newRig(t, port, options{settings: a.settings(), storage: storage}, "a.test")
	s := r.status("a.test", acme.StateFailed)
	if !strings.Contains(s.Error, "502") || strings.Contains(s.Error, "[a.test]") || s.Leaf == nil {
		t.Errorf("%+v", s)
	}
	tlstest.Eventually(t, "the old certificate", func() bool { return r.from("a.test", old.Root().Pool()) })
	conn, err := tls.Dial("tcp", r.address(), &tls.Config{ServerName: "a.test", RootCAs: old.Root().Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	ask := func() {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://a.test/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(answers, req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	ask()
	a.heal()
	r.manager.Retry("a.test")
	r.status("a.test", acme.StateOK)
	tlstest.Eventually(t, "the new certificate", func() bool { return r.from("a.test", a.roots(t)) })
	ask()
}

// What is kept and cannot be read is obtained anew.
func TestDamagedStorage(t *testing.T) {
	port := freePort(t)
	a := newAuthority(t, freePort(t), port)
	first := newRig(t, port, options{settings: a.settings()}, "a.test")
	first.status("a.test", acme.StateOK)
	storage := first.storage.(*memory)
	_ = first.gateway.Close(t.Context())
	first.manager.Close()
	storage.mu.Lock()
	for key := range storage.kept {
		storage.kept[key] = []byte("damaged")
	}
	storage.mu.Unlock()
	r := newRig(t, port, options{settings: a.settings(), storage: storage}, "a.test")
	r.status("a.test", acme.StateOK)
}
