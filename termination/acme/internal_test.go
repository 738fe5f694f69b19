package acme

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3/acme"

	"countersign/termination"
	"countersign/termination/servercert"
)

// A CA that speaks of other names than the one that is being obtained gets no proof for them.
func TestProofForAnotherName(t *testing.T) {
	obtained := servercert.NewObtained()
	s := ownName{alpnSolver{obtained}}
	challenge := acme.Challenge{Type: acme.ChallengeTypeTLSALPN01, Identifier: acme.Identifier{Type: "dns", Value: "bank.test"}, KeyAuthorization: "a.b"}
	for _, name := range []string{"a.test", "*.test", "", "*.bank.test.evil"} {
		if err := s.Present(context.WithValue(t.Context(), nameKey{}, name), challenge); err == nil || obtained.Challenge("bank.test") != nil {
			t.Errorf("while %q is obtained, bank.test is proven: %v", name, err)
		}
	}
	ctx := context.WithValue(t.Context(), nameKey{}, "bank.test")
	if err := s.Present(ctx, challenge); err != nil || obtained.Challenge("bank.test") == nil {
		t.Errorf("its own: %v", err)
	}
	if err := s.CleanUp(ctx, challenge); err != nil || obtained.Challenge("bank.test") != nil {
		t.Errorf("stays: %v", err)
	}
}

// The table that is validated against and the providers that are compiled in are the same.
func TestEveryProviderIsCompiledIn(t *testing.T) {
	for _, p := range termination.DNSProviders() {
		if _, err := provider(termination.ACMEDNS{Provider: p.Name, Settings: map[string]string{}}); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if _, err := provider(termination.ACMEDNS{Provider: "route66"}); err == nil {
		t.Error("any name is a provider")
	}
	if _, err := provider(termination.ACMEDNS{Provider: "rfc2136", Settings: map[string]string{"key_algorithm": "hmac-md5"}}); err == nil {
		t.Error("MD5 is an algorithm")
	}
}

func TestBackoff(t *testing.T) {
	for failures := -1; failures < 50; failures++ {
		if d := backoff(failures); d < 54*time.Second || d > 7*time.Hour {
			t.Errorf("after %d failures %s", failures, d)
		}
	}
	now := time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"120": 2 * time.Minute, "": 0, "-5": 0, "soon": 0, "99999999": maxBackoff, "99999999999999999999999": 0,
		"Sat, 14 Mar 2026 16:00:00 GMT": time.Hour, "Sat, 14 Mar 2026 14:00:00 GMT": 0, "Sat, 14 Mar 2099 14:00:00 GMT": maxBackoff,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("Retry-After %q: %s", header, got)
		}
	}
}

// The providers with an API of their own: what they are told, and that a record goes again.
func TestProvidersOverHTTP(t *testing.T) {
	var kept []map[string]any
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	put := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" {
			http.Error(w, `{"message":"Unable to authenticate you"}`, http.StatusUnauthorized)
			return
		}
		var record map[string]any
		text, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(text, &record); err != nil {
			t.Error(err)
		}
		kept = append(kept, record)
		answer(w, map[string]any{"result": map[string]any{"id": "r1"}})
	}
	drop := func(http.ResponseWriter, *http.Request) { kept = kept[:len(kept)-1] }
	mux.HandleFunc("GET /zones", func(w http.ResponseWriter, r *http.Request) {
		result := []map[string]string{}
		if r.URL.Query().Get("name") == "zone.test" {
			result = append(result, map[string]string{"id": "z1"})
		}
		answer(w, map[string]any{"result": result})
	})
	mux.HandleFunc("POST /zones/z1/dns_records", put)
	mux.HandleFunc("GET /zones/z1/dns_records", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("name") != "_acme-challenge.a.zone.test" || r.URL.Query().Get("type") != "TXT" {
			t.Errorf("asked for %s", r.URL)
		}
		answer(w, map[string]any{"result": []map[string]string{{"id": "other", "content": "other"}, {"id": "r1", "content": `"proof"`}}})
	})
	mux.HandleFunc("DELETE /zones/z1/dns_records/r1", drop)
	mux.HandleFunc("POST /domains/zone.test/records", put)
	mux.HandleFunc("GET /domains/zone.test/records", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"domain_records": []map[string]any{{"id": 6, "data": "other"}, {"id": 7, "data": "proof"}}})
	})
	mux.HandleFunc("DELETE /domains/zone.test/records/7", drop)
	server := httptest.NewServer(mux)
	defer server.Close()
	record := []libdns.Record{libdns.RR{Type: "TXT", Name: "_acme-challenge.a", Data: "proof", TTL: time.Minute}}
	for name, make := range map[string]func(token string) certmagic.DNSProvider{
		"cloudflare":   func(token string) certmagic.DNSProvider { return &cloudflare{rest{base: server.URL, token: token}} },
		"digitalocean": func(token string) certmagic.DNSProvider { return &digitalOcean{rest{base: server.URL, token: token}} },
	} {
		p := make("token")
		if _, err := p.AppendRecords(t.Context(), "zone.test.", record); err != nil || len(kept) != 1 {
			t.Fatalf("%s: %v, %v", name, kept, err)
		}
		if kept[0]["type"] != "TXT" || !strings.HasPrefix(kept[0]["name"].(string), "_acme-challenge.a") {
			t.Errorf("%s is told %v", name, kept[0])
		}
		if _, err := p.DeleteRecords(t.Context(), "zone.test.", record); err != nil || len(kept) != 0 {
			t.Errorf("%s: left %v, %v", name, kept, err)
		}
		if _, err := make("wrong").AppendRecords(t.Context(), "zone.test.", record); err == nil || !strings.Contains(err.Error(), "Unable to authenticate you") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s with a wrong token: %v", name, err)
		}
		if _, err := p.AppendRecords(t.Context(), "unknown.test.", record); err == nil {
			t.Errorf("%s knows any zone", name)
		}
	}
}

// What a CA names further is asked over https, as its directory is: what stands there cannot be trusted otherwise, and no
// service beside this machine that speaks plain HTTP, as those with a machine's credentials do, gets requests from here.
func TestPlainAddressesOfTheCA(t *testing.T) {
	asked := false
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer plain.Close()
	client, base := newClient(termination.ACME{Directory: "https://ca.test/directory"}, time.Now)
	defer base.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, plain.URL+"/new-order", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	if err == nil || asked || !strings.Contains(err.Error(), "no https address") {
		t.Errorf("asked %v, %v", asked, err)
	}
}
