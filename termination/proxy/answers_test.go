package proxy

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestAnswers: a refusal in the form that the client likes, never kept, never with anything of the request in it.
func TestAnswers(t *testing.T) {
	const planted = "planted-0123456789"
	for accept, form := range map[string]string{
		"":                  "application/problem+json",
		"*/*":               "application/problem+json",
		"application/json":  "application/problem+json",
		"text/html,*/*;q=1": "text/html; charset=utf-8",
		"text/plain":        "text/plain; charset=utf-8",
	} {
		for _, verbose := range []bool{false, true} {
			both(t, func(t *testing.T, h2 bool) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				f.credentials = proofsFor(t, f.clients.Client("alice"))
				f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), route("/t", termination.ModeOff), func(e *termination.Endpoint) {
					e.VerboseRefusals = verbose
					e.Routes[0].Also = &termination.Also{AllOf: []termination.ProofKind{token}}
				}))
				mallory := f.others.Client(planted)
				for target, want := range map[string]struct {
					status int
					reason termination.Reason
				}{"/" + planted: {403, termination.ReasonCAUnknown}, "/t/" + planted: {401, termination.ReasonProofMissing}, "/t/" + planted + "%2f": {400, ""}} {
					client := f.client(clientOptions{serverName: "public.test", h2: h2, cert: mallory})
					a := f.get(client, "public.test", target, func(r *http.Request) {
						r.Header["X-Anything"] = []string{planted}
						r.Header["Authorization"] = []string{"Bearer " + planted}
						if accept != "" {
							r.Header["Accept"] = []string{accept}
						}
					})
					wantStatus(t, a, want.status)
					if got := a.Header.Get("Content-Type"); got != form {
						t.Errorf("%q got %q, want %q", accept, got, form)
					}
					if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
						t.Errorf("headers %v", a.Header)
					}
					if strings.Contains(a.body, planted) || strings.Contains(a.body, "Devices") || strings.Contains(a.body, "devices") {
						t.Errorf("%s tells too much: %s", target, a.body)
					}
					if !strings.Contains(a.body, "hs_") {
						t.Errorf("no handshake in %s", a.body)
					}
					if told := want.reason != "" && strings.Contains(a.body, string(want.reason)); told != (verbose && want.reason != "") {
						t.Errorf("verbose %t: %s", verbose, a.body)
					}
				}
				// Nothing but the body is missing from the answer to a HEAD.
				r, err := http.NewRequest(http.MethodHead, "https://"+f.address.String()+"/t", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Host = "public.test"
				res, err := f.client(clientOptions{serverName: "public.test", h2: h2}).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || len(body) > 0 || res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") == "" || res.ContentLength <= 0 {
					t.Errorf("HEAD: %v with %q, %v", res, body, err)
				}
			})
		}
	}
}

// TestVerboseRefusals: what is said more is for the client, and about the client.
func TestVerboseRefusals(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	verbose := func(e *termination.Endpoint) { e.VerboseRefusals, e.ClientAuth.Soft = true, true }
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), verbose))
	expired := f.clients.Client("old", tlstest.Expired())
	for name, c := range map[string]struct {
		cert   *tlstest.Cert
		reason termination.Reason
		says   string
	}{
		"none":     {nil, termination.ReasonCertMissing, "curl --cert"},
		"stranger": {f.others.Client("x"), termination.ReasonCAUnknown, "No chain leads"},
		"itself":   {tlstest.SelfSigned(), termination.ReasonCertSelf, "signed itself"},
		"expired":  {expired, termination.ReasonCertExpired, expired.X509.NotAfter.UTC().Format("2 January 2006, 15:04 UTC")},
	} {
		a := f.ask(false, clientOptions{serverName: "public.test", cert: c.cert}, "public.test", "/")
		wantStatus(t, a, 403)
		var doc struct {
			Reason      termination.Reason `json:"reason"`
			ReasonTitle string             `json:"reason_title"`
			Explanation string             `json:"explanation"`
			Fix         string             `json:"fix"`
		}
		if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Reason != c.reason || doc.ReasonTitle == "" || doc.Fix == "" || !strings.Contains(doc.Explanation+doc.Fix, c.says) {
			t.Errorf("%s: %s", name, a.body)
		}
	}
}

// Every reason has its words for clients, and none of the table's for operators is among them.
func TestClientWords(t *testing.T) {
	for _, info := range termination.Reasons() {
		a := adviceFor(info.Code, nil, time.Now())
		if a == nil || a.Fix == "" || a.Fix == info.Fix && info.Turn == termination.TurnOperator {
			t.Errorf("%s: %+v", info.Code, a)
		}
		if slices.Contains([]termination.Reason{termination.ReasonCAOtherEndpoint, termination.ReasonCASameName, termination.ReasonChainGap}, a.Reason) {
			t.Errorf("%s tells what else is trusted", info.Code)
		}
	}
}
