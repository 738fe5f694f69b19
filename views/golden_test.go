package views

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
	"golang.org/x/net/html"

	"countersign/termination"
	"countersign/views/format"
	"countersign/views/parts"
)

var update = flag.Bool("update", false, "write the golden files anew") //nolint:gochecknoglobals // a flag of the test

// hostile is what a stranger may put into a name.
const hostile = "<img src=x onerror=alert(1)>\" 'a\x00\u202ebcd\xff"

// frozen is the moment of all golden pages.
func frozen() time.Time { return time.Date(2026, 11, 22, 14, 58, 7, 912e6, time.UTC) }

// examplePage is a frame as somebody who is signed in sees it.
func examplePage(title string) Page {
	return Page{
		Clock: format.Clock{Now: frozen(), Zone: time.UTC}, Title: title, User: "rhea", CSRF: "csrf-token",
		Nav: []NavItem{
			{Label: "Live", Href: "/live", Key: "l", Current: true},
			{Label: "Endpoints", Href: "/endpoints", Key: "e", Count: "5"},
		},
		Settings: NavItem{Label: "Settings", Href: "/settings", Key: "s"},
		Status:   Status{Address: "127.0.0.1:7443", Store: "18.2 MB", Keep: "7 d", Version: "v0.1.0"},
		Assets:   Assets{URL: func(n string) string { return "/static/0/" + n }, Sprite: "<svg><!-- symbols --></svg>"},
	}
}

func strangerPage(title string) Page {
	p := examplePage(title)
	p.User, p.CSRF, p.Nav, p.Status = "", "", nil, Status{}
	return p
}

// goldenPages is every page of the shell in every state.
func goldenPages() map[string]templ.Component {
	dense := examplePage("Settings")
	dense.Appearance = Appearance{Theme: "dark", Dense: true, KeysOff: true, UTC: true}
	dense.Said = []Said{{Tone: "ok", Text: "Saved " + hostile}}
	welcome := Welcome{
		Started: "4 seconds ago", Made: true, User: hostile, Host: "demo.localhost:8443", Listens: "127.0.0.1:8443", Endpoint: "demo", Dir: "~/.countersign/dev",
		Curl: "cd ~/.countersign/dev\ncurl https://demo.localhost:8443/", CurlWindows: "curl.exe", P12: "/rhea.p12", P12Apple: "/rhea-apple.p12", Password: "gentle-otter-47",
		Breaks: []Break{{ID: "break-a", Beat: 4, What: "Leave out", Option: "--cert", Command: "curl", Expect: "curl: (56) …"}},
	}
	in, refused, failed := welcome, welcome, welcome
	in.First = &FirstHandshake{Sentence: "rhea is in. 3.9 ms, TLS 1.3.", In: true, Glyph: parts.GlyphOf(termination.OutcomeVerified, 5, false), Href: "/handshakes/hs_1"}
	in.Result = "HTTP/2.0 200 OK\n\nyou are rhea"
	refused.First = &FirstHandshake{Sentence: hostile, Glyph: parts.GlyphOf(termination.OutcomeRefused, 4, false), Href: "/handshakes/hs_2"}
	failed.Failed = "dial tcp: " + hostile
	number := func(name string) parts.Input {
		return parts.Input{Name: name, Label: "In days", Value: "<b>\"7", Error: "must be a number: " + hostile, Hint: "Of clients that were let in."}
	}
	settings := Settings{
		Appearance: dense.Appearance, Problems: []string{hostile}, Warnings: []Warning{{When: "22 Nov 14:00 UTC", Text: hostile}},
		History: History{Keep: number("keep"), KeepFailures: number("keep_failures"), MaxSize: number("max_size"), File: true, Size: "18 MB"},
		Notices: NoticeSettings{
			Webhook: parts.Input{Name: "webhook", Label: "Webhook"}, Secret: parts.Input{Name: "hook_secret", Label: "Its secret", Type: "password"}, On: true,
			Kinds: []parts.Option{{Value: "expiry", Label: "Something ends", Selected: true}}, Last: []NoticeItem{{When: "an hour ago", Title: "A CA <b>ends</b>", Text: "soon", Href: "/authorities/a"}},
		},
		ACME: ACMESettings{
			Directory: number("directory"), Email: number("email"), HTTP: number("http"), Roots: number("roots"), Provider: number("provider"), Settings: number("dns"), Secret: number("secret"),
			Providers: []parts.Option{{Value: "rfc2136", Label: "rfc2136", Selected: true}}, Error: hostile,
		},
		Limits: []Limit{{Name: "connections", What: "At once.", Value: "50 000", Default: true}, {Name: "header", What: "Of a request.", Value: "1 kB"}},
		About:  []parts.Fact{{Name: "Version", Value: "v0.1.0"}},
	}
	pages := map[string]templ.Component{
		"parts":           PartsPage(examplePage("Parts")),
		"signin":          SignIn(strangerPage("Sign in"), SignInForm{Token: "abc", Who: "rhea"}),
		"signin-error":    SignIn(strangerPage("Sign in"), SignInForm{Token: "abc", Error: "Give a name."}),
		"signin-none":     SignIn(strangerPage("Sign in"), SignInForm{Problem: "That link was used already."}),
		"error":           Error(examplePage("No"), Failure{Status: 500, Title: "Something failed here", Detail: hostile, ID: "err_1"}),
		"error-stranger":  Error(strangerPage("No"), Failure{Status: 401, Title: hostile, Href: "/sign-in", Link: "How to sign in"}),
		"error-fragment":  ErrorFragment(Failure{Title: hostile, Advice: "Try again."}),
		"welcome-empty":   WelcomePage(examplePage("First handshake"), Welcome{Started: "just now"}),
		"welcome-waiting": WelcomePage(examplePage("First handshake"), welcome),
		"welcome-in":      WelcomePage(examplePage("First handshake"), in),
		"welcome-refused": WelcomePage(examplePage("First handshake"), refused),
		"welcome-failed":  WelcomePage(examplePage("First handshake"), failed),
		"settings":        SettingsPage(dense, settings),
		"tokens-empty":    TokensPage(examplePage("API tokens"), Tokens{Name: parts.Input{Name: "name", Label: "Name"}}),
		"tokens":          TokensPage(examplePage("API tokens"), Tokens{Name: number("name"), New: "countersign_abc", For: "ci", List: []Token{{ID: "tok_1", Name: "ci", Scope: "read", Made: "just now", By: hostile, Used: "never"}, {ID: "tok_2", Name: "old", Scope: "admin", Revoked: "3 days ago"}}}),
		"sessions":        SessionsPage(examplePage("Sessions"), []SessionItem{{ID: "ses_1", Name: hostile, Begun: "22 Nov 14:00 UTC", Seen: "just now", Ends: "23 Nov 14:00 UTC", Current: true}, {ID: "ses_2", Name: "ben"}}),
		"audit":           AuditPage(examplePage("Audit log"), []AuditItem{{When: "22 Nov 14:00 UTC", Exact: "2026-11-22 14:00:00.000 UTC", Revision: 7, Actor: hostile, Via: "dashboard", Action: "update", Kind: "endpoint", Name: hostile, Before: "{\n  \"a\": 1\n}", After: hostile}}, "/audit?before=7"),
		"audit-empty":     AuditPage(examplePage("Audit log"), nil, ""),
	}
	maps.Copy(pages, agentPages())
	maps.Copy(pages, sealedPages())
	maps.Copy(pages, clientPages())
	return pages
}

func renderPage(t *testing.T, c templ.Component) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Render(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGolden compares every page in every state with the file that a person has looked at. After a wanted change:
// go test ./views -update
func TestGolden(t *testing.T) {
	for name, component := range goldenPages() {
		t.Run(name, func(t *testing.T) {
			// A line for each element, so that differences can be read.
			got := strings.ReplaceAll(renderPage(t, component), "><", ">\n<") + "\n"
			file := filepath.Join("testdata", name+".html")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs from %s", name, file)
			}
		})
	}
}

// TestPagesObeyThePolicy checks what the policy header forbids and what every form needs, in every page and state.
func TestPagesObeyThePolicy(t *testing.T) {
	inline := regexp.MustCompile(`(?i)\sstyle\s*=|<style|<script(?:\s[^>]*)?>[^<]|\son[a-z]+\s*=|javascript:`)
	post := regexp.MustCompile(`(?s)<form[^>]*method="post"[^>]*>(.*?)</form>`)
	for name, component := range goldenPages() {
		page := renderPage(t, component)
		// Text is free to talk about anything; only markup counts. In it no quote of a stranger's survives.
		markup := regexp.MustCompile(`>[^<]*<`).ReplaceAllString(page, "><")
		if found := inline.FindString(markup); found != "" {
			t.Errorf("%s: %q would be blocked by the policy", name, found)
		}
		if strings.Contains(page, "<img") || strings.ContainsAny(page, "\x00\u202e") || strings.Contains(page, "\xff") {
			t.Errorf("%s: text of a stranger came through as it is", name)
		}
		for _, form := range post.FindAllStringSubmatch(page, -1) {
			if !strings.Contains(form[1], `name="csrf" value="csrf-token"`) && !strings.Contains(form[1], `name="t"`) {
				t.Errorf("%s: a form has no token: %.200s", name, form[0])
			}
		}
		if found := brokenParagraph(page); found != "" {
			t.Errorf("%s: a %s stands in a p, which ends there for browsers", name, found)
		}
		seen := map[string]bool{}
		for _, m := range regexp.MustCompile(`\sid="([^"]*)"`).FindAllStringSubmatch(page, -1) {
			if seen[m[1]] {
				t.Errorf("%s: the id %q is there twice", name, m[1])
			}
			seen[m[1]] = true
		}
		for _, m := range regexp.MustCompile(`\s(?:for|aria-describedby|aria-labelledby|aria-controls|data-copy)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
			for id := range strings.FieldsSeq(m[1]) {
				if !seen[id] {
					t.Errorf("%s: nothing has the id %q, which something points at", name, id)
				}
			}
		}
	}
}

// brokenParagraph finds an element that ends an open p early (HTML standard, 13.1.2.4, optional tags), so that the
// page is another one than the template says.
func brokenParagraph(page string) string {
	ends := map[string]bool{
		"address": true, "article": true, "aside": true, "blockquote": true, "details": true, "div": true, "dl": true, "fieldset": true,
		"footer": true, "form": true, "h1": true, "h2": true, "h3": true, "header": true, "hr": true, "main": true, "nav": true, "ol": true,
		"p": true, "pre": true, "section": true, "table": true, "ul": true,
	}
	open := false
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return ""
		case html.StartTagToken:
			name, _ := z.TagName()
			if open && ends[string(name)] {
				return string(name)
			}
			open = open || string(name) == "p"
		case html.EndTagToken:
			if name, _ := z.TagName(); string(name) == "p" {
				open = false
			}
		default: // text opens and closes nothing
		}
	}
}
