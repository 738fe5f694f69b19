package views

import (
	"regexp"
	"strings"
	"testing"

	"github.com/a-h/templ"

	"countersign/termination"
	"countersign/views/parts"
)

// The pages of endpoints show text from strangers as text, name each id once, and hold the form's token.
func TestEndpointPagesShowHostileText(t *testing.T) {
	input := func(name string) parts.Input {
		return parts.Input{Name: name, Label: name, Value: "<b>\"7", Error: hostile}
	}
	policy := PolicyForm{
		Modes: []parts.Option{{Value: "off", Label: "Anyone"}}, MoreModes: []parts.Option{{Value: "request", Label: "Ask"}}, ModeError: hostile, AuthoritiesError: hostile,
		Authorities: []Tick{{Value: "Acme", Note: "6 years left", Clients: "no clients", Ticked: true}},
		Pins:        input("pins"), MaxDepth: input("max_depth"), OnLoss: parts.Input{Name: "on_loss", Label: "loss"}, Defaults: "one", DefaultNames: []string{"Acme"},
		Checks: ChecksForm{
			Rules: RulesForm{Offered: true, Error: hostile, Rows: []RuleRow{{Number: "1", Index: "0", Filled: true, Weak: true, Effect: input("rule0_effect"), Kind: input("rule0_kind"), Value: input("rule0_value"), Authority: input("rule0_authority")}}}, When: input("when"), SoftError: hostile, ReportOnlyError: hostile, HygieneError: hostile,
			Hygiene: []HygieneField{{Input: input("hygiene_usage"), Levels: []parts.Option{{Value: "off", Label: "let in"}}}},
		},
	}
	also := AlsoForm{
		AllOf: []Tick{{Value: "bearer"}}, AnyOf: []Tick{{Value: "basic"}}, Formats: []Tick{{Value: "nginx"}}, Headers: input("forward_headers"),
		Error: hostile, ForwardError: hostile,
	}
	tlsForm := TLSForm{Preset: input("preset"), Suites: input("suites"), ALPN: input("alpn"), StartTLS: input("starttls"), ProxyFrom: input("proxy_from"), VersionError: hostile}
	behind := BehindForm{
		Health: input("health"), HealthInterval: input("health_interval"), ConnectTimeout: input("connect_timeout"), ResponseTimeout: input("response_timeout"),
		Proxy: input("upstream_proxy"), Certificate: input("upstream_cert"), Error: hostile,
	}
	form := EndpointForm{
		TLS: tlsForm, Behind: behind,
		Action: "/endpoints", Problems: []string{hostile}, Name: input("name"), Host: input("host"), Port: input("port"), Upstream: input("upstream"), Aliases: input("aliases"), Listen: input("listen"),
		UpstreamCA: input("upstream_ca"), UpstreamName: input("upstream_name"), OfferCA: hostile, Also: also, Policy: policy, RoutesError: hostile, Tried: &Tried{Tone: parts.Bad, Text: hostile},
		Routes: []RouteForm{{Number: 1, Path: input("route0_path"), Mode: input("route0_mode"), Authorities: input("route0_authorities"), Upstream: input("route0_upstream"), UpstreamName: input("route0_upstream_name"), UpstreamCA: input("route0_upstream_ca"), Inherit: "route0_inherit", Strip: "route0_strip"}},
	}
	head := EndpointHead{Name: "shop", Href: "/endpoints/shop", URL: "https://shop.localhost", State: "not listening", StateTone: parts.Bad, Problem: hostile, Stopped: true, StoppedBy: hostile, LiveHref: "/live", Spark: SparkOf([]uint64{1, 3, 2}, 30)}
	typed := `<img src=x onerror=alert(1)>"`
	path := parts.PathOf(&termination.Endpoint{TerminateAt: termination.AtEdge, Upstream: termination.Upstream{Scheme: "http"}})
	detail := EndpointDetail{
		Head: head, Warnings: []EndpointWarning{{Tone: parts.Warn, Text: hostile}}, MoveError: hostile, PolicyProblems: []string{hostile}, Policy: policy,
		TryForm: TryForm{
			PEM: parts.Input{Name: "pem", Value: typed}, Address: parts.Input{Name: "try_address", Value: typed}, Method: parts.Input{Name: "try_method", Value: typed}, Path: parts.Input{Name: "try_path", Value: typed},
			Recent: []parts.Option{{Value: "hs_1", Label: typed}}, Identity: &parts.Input{Name: "try_identity", Value: typed}, Identities: []string{typed},
			Draft: []Hidden{{Name: "rules", Value: typed}}, Again: []Hidden{{Name: "pem", Value: typed}},
		},
		Ends:   []ModeRow{{Value: "edge", Label: "Edge", Path: path, Current: true, Parties: []string{"Edge"}, Readers: []Reader{{What: "Bodies", Who: []string{"yes"}}}}, {Value: "upstream", Label: "Upstream", Path: path, Changes: []string{hostile}}},
		Judged: &Judged{Who: hostile, Reason: "not trusted", Steps: []JudgedStep{{What: "Rule 1", Code: hostile, Text: hostile, State: "bad", More: []string{hostile}}}, Notes: []string{hostile}}, Presents: []Presented{{Names: hostile, From: hostile, CA: "/endpoints/shop/ca.pem"}},
		Try: TryIt{Panels: []TryPanel{{ID: "try-curl", Name: "curl", Command: "curl"}}},
	}
	p := examplePage("Endpoints")
	token := regexp.MustCompile(`(?s)<form[^>]*method="post"[^>]*>(.*?)</form>`)
	for name, page := range map[string]templ.Component{
		"list": EndpointsPage(p, Endpoints{List: []EndpointRow{{Head: head, Path: path, Upstream: "http://a", Warnings: detail.Warnings}}}), "empty": EndpointsPage(p, Endpoints{}),
		"new": EndpointNewPage(p, form), "settings": EndpointSettingsPage(p, head, form), "detail": EndpointPage(p, detail), "delete": EndpointDeletePage(p, head),
		"config": EndpointConfigPage(p, head, "a: b", "pem"), "history": EndpointHistoryPage(p, head, []EndpointChange{{Who: hostile, Fields: []FieldChange{{Name: hostile, Before: hostile, After: hostile}}}}),
	} {
		text := renderPage(t, page)
		if strings.Contains(text, "<img") || strings.Contains(text, " style=") || strings.Contains(text, "\x00") {
			t.Errorf("%s: text of a stranger came through as it is, or there is a style", name)
		}
		if found := brokenParagraph(text); found != "" {
			t.Errorf("%s: a %s stands in a p", name, found)
		}
		for _, f := range token.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(f[1], `name="csrf"`) {
				t.Errorf("%s: a form without token: %.200s", name, f[0])
			}
		}
		seen := map[string]bool{}
		for _, m := range regexp.MustCompile(`\sid="([^"]*)"`).FindAllStringSubmatch(text, -1) {
			if seen[m[1]] {
				t.Errorf("%s: the id %q is there twice", name, m[1])
			}
			seen[m[1]] = true
		}
	}
}
