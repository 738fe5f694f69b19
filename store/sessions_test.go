package store

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func TestSessionEndsIdleOrOld(t *testing.T) {
	ctx := context.Background()
	s, c := newStore(t)
	session, token, err := s.CreateSession(ctx, "rhea", "dashboard", time.Hour, 3*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if len(token) < 43 || session.CSRF == "" || session.CSRF == token || !strings.HasPrefix(session.ID, "ses_") {
		t.Errorf("session %+v, token %q", session, token)
	}
	for _, wrong := range []string{"", "x", token + "x", strings.ToUpper(token), session.ID} {
		if _, err := s.Session(ctx, wrong); !errors.Is(err, ErrNoSession) {
			t.Errorf("token %q: %v", wrong, err)
		}
	}
	for range 3 { // each request moves the idle end
		c.Add(55 * time.Minute)
		got, err := s.Session(ctx, token)
		if err != nil || got.Name != "rhea" || got.CSRF != session.CSRF {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	c.Add(15 * time.Minute)
	if _, err := s.Session(ctx, token); !errors.Is(err, ErrNoSession) {
		t.Errorf("after three hours: %v", err)
	}
	_, token, err = s.CreateSession(ctx, "rhea", "dashboard", time.Hour, 3*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := s.Sessions(ctx); err != nil || len(list) != 1 {
		t.Errorf("sessions: %v, %v", list, err)
	}
	c.Add(time.Hour)
	if _, err := s.Session(ctx, token); !errors.Is(err, ErrNoSession) {
		t.Errorf("an idle session: %v", err)
	}
}

func TestSessionIsEnded(t *testing.T) {
	ctx := context.Background()
	s, _ := newStore(t)
	session, token, err := s.CreateSession(ctx, "rhea", "dashboard", time.Hour, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.EndSession(ctx, session.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Session(ctx, token); !errors.Is(err, ErrNoSession) {
		t.Errorf("got %v", err)
	}
	if entries := audit(t, s, AuditQuery{Kind: KindSession}); len(entries) != 1 || entries[0].Action != ActionSignIn || entries[0].Actor.Name != "rhea" {
		t.Errorf("audit: %+v", entries)
	}
	if config := load(t, s); config.Revision != 0 {
		t.Errorf("signing in raised the revision to %d", config.Revision)
	}
	for _, name := range []string{"", "a\x00b", "\xff", "rhea\n", strings.Repeat("x", 257)} {
		if _, _, err := s.CreateSession(ctx, name, "dashboard", time.Hour, time.Hour); !is[TextError](err) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestLinkWorksOnce(t *testing.T) {
	ctx := context.Background()
	s, c := newStore(t)
	link, err := s.CreateLink(ctx, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.CheckLink(ctx, link); err != nil {
			t.Fatalf("looking at a link uses it up: %v", err)
		}
	}
	var used atomic.Int32
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			switch err := s.UseLink(ctx, link); {
			case err == nil:
				used.Add(1)
			case !errors.Is(err, ErrNoLink):
				t.Errorf("got %v", err)
			}
		})
	}
	wait.Wait()
	if used.Load() != 1 {
		t.Errorf("a link was used %d times", used.Load())
	}
	if err := s.CheckLink(ctx, link); !errors.Is(err, ErrNoLink) {
		t.Errorf("a used link: %v", err)
	}
	link, err = s.CreateLink(ctx, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	c.Add(time.Minute)
	if err := s.CheckLink(ctx, link); !errors.Is(err, ErrNoLink) {
		t.Errorf("an expired link, looked at: %v", err)
	}
	if err := s.UseLink(ctx, link); !errors.Is(err, ErrNoLink) {
		t.Errorf("an expired link, used: %v", err)
	}
}

func TestTokens(t *testing.T) {
	ctx := context.Background()
	s, c := newStore(t)
	token, secret, err := s.CreateToken(ctx, rhea, "ci", ScopeOperate)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(secret, tokenPrefix) || len(secret) < 43 {
		t.Errorf("secret %q", secret)
	}
	got, err := s.Token(ctx, secret)
	if err != nil || got.Name != "ci" || got.Scope != ScopeOperate || got.By != "rhea" || got.ID != token.ID {
		t.Errorf("got %+v, %v", got, err)
	}
	if list, err := s.Tokens(ctx); err != nil || len(list) != 1 || !list[0].LastUsed.Equal(c.Now()) {
		t.Errorf("list %+v, %v", list, err)
	}
	for _, wrong := range []string{"", token.ID, "ci", secret[:len(secret)-1], secret + " "} {
		if _, err := s.Token(ctx, wrong); !errors.Is(err, ErrNoToken) {
			t.Errorf("secret %q: %v", wrong, err)
		}
	}
	if _, _, err := s.CreateToken(ctx, rhea, "ci", ScopeRead); err != (NameTakenError{Kind: KindToken, Name: "ci"}) { //nolint:errorlint // exactly this
		t.Errorf("the same name: %v", err)
	}
	for name, scope := range map[string]Scope{"x": "everything", "y": "", "-z": ScopeRead} {
		if _, _, err := s.CreateToken(ctx, rhea, name, scope); !is[termination.ValidationError](err) {
			t.Errorf("%q with %q: %v", name, scope, err)
		}
	}
	if err := s.RevokeToken(ctx, rhea, "ci"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Token(ctx, secret); !errors.Is(err, ErrNoToken) {
		t.Errorf("a revoked token: %v", err)
	}
	if err := s.RevokeToken(ctx, rhea, "ci"); !is[NotFoundError](err) {
		t.Errorf("revoke again: %v", err)
	}
	if _, _, err := s.CreateToken(ctx, rhea, "ci", ScopeRead); err != nil {
		t.Errorf("the name of a revoked token is not free: %v", err)
	}
	if entries := audit(t, s, AuditQuery{ObjectID: token.ID}); len(entries) != 2 || entries[0].Action != ActionRevoke || entries[1].Action != ActionCreate {
		t.Errorf("audit: %+v", entries)
	}
}

func TestScopesIncludeEachOther(t *testing.T) {
	order := []Scope{ScopeRead, ScopeOperate, ScopeAdmin}
	for i, a := range order {
		for j, b := range order {
			if a.Includes(b) != (i >= j) {
				t.Errorf("%s includes %s: %v", a, b, a.Includes(b))
			}
		}
		if a.Includes("x") || Scope("x").Includes(a) || Scope("").Includes("") {
			t.Error("an unknown scope includes something")
		}
	}
}

func TestIssuedCertificates(t *testing.T) {
	ctx := context.Background()
	s, _ := newStore(t)
	populate(t, s)
	ca := tlstest.NewCA()
	long, short := ca.Client("long", tlstest.Valid(time.Now().Add(-time.Hour), time.Now().Add(48*time.Hour))), ca.Server("short.example")
	for range 2 { // twice is no error
		if err := s.AddIssued(ctx, rhea, "devices", "client", "long", long.X509); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddIssued(ctx, rhea, "devices", "server", "short.example", short.X509); err != nil {
		t.Fatal(err)
	}
	list, err := s.Issued(ctx, "")
	if err != nil || len(list) != 2 || list[0].Name != "short.example" || !list[1].Certificate.Equal(long.X509) || list[1].By != "rhea" {
		t.Errorf("list %+v, %v", list, err)
	}
	if list, err = s.Issued(ctx, "client"); err != nil || len(list) != 1 || list[0].Kind != "client" {
		t.Errorf("clients %+v, %v", list, err)
	}
	if err := s.AddIssued(ctx, rhea, "nobody", "client", "x", long.X509); !is[NotFoundError](err) {
		t.Errorf("by nobody: %v", err)
	}
	if entries := audit(t, s, AuditQuery{Kind: KindIssued}); len(entries) != 2 {
		t.Errorf("audit: %+v", entries)
	}
	change(t, s, func(tx *Tx) error { return errors.Join(tx.DeleteEndpoint("api"), tx.DeleteAuthority("devices")) })
	if list, err = s.Issued(ctx, "client"); err != nil || len(list) != 1 || list[0].AuthorityID != "" {
		t.Errorf("after the authority went: %+v, %v", list, err)
	}
}

func TestAuditLogSaysWhoDidWhat(t *testing.T) {
	s, c := newStore(t)
	populate(t, s)
	c.Add(time.Minute)
	change(t, s, func(tx *Tx) error {
		e, err := tx.Endpoint("api")
		if err != nil {
			return err
		}
		e.Enabled = false
		return tx.UpdateEndpoint(e)
	})
	entries := audit(t, s, AuditQuery{})
	var lines []string
	for _, e := range entries {
		lines = append(lines, e.Action+" "+e.Kind+" "+e.Name)
	}
	if want := []string{"update endpoint api", "create endpoint api", "create certificate site", "create authority devices"}; !slices.Equal(lines, want) {
		t.Errorf("log: %v", lines)
	}
	e := entries[0]
	if e.Actor != rhea || e.Revision != 2 || !e.Time.Equal(c.Now()) || !strings.Contains(string(e.Before), `"enabled":true`) || !strings.Contains(string(e.After), `"enabled":false`) || !strings.Contains(string(e.After), `"devices"`) {
		t.Errorf("entry: %+v\nbefore %s\nafter %s", e, e.Before, e.After)
	}
	if got := audit(t, s, AuditQuery{ObjectID: e.ObjectID, Before: e.Seq}); len(got) != 1 || got[0].Action != ActionCreate || got[0].Before != nil {
		t.Errorf("older entries of the endpoint: %+v", got)
	}
	if got := audit(t, s, AuditQuery{Kind: KindCertificate, Limit: 5000}); len(got) != 1 {
		t.Errorf("entries about certificates: %+v", got)
	}
	meta, err := s.Meta(context.Background(), KindEndpoint)
	if err != nil || len(meta) != 1 || !meta[e.ObjectID].Changed.Equal(c.Now()) || !meta[e.ObjectID].Created.Equal(c.Now().Add(-time.Minute)) {
		t.Errorf("meta %+v, %v", meta, err)
	}
	if _, err := s.Meta(context.Background(), "endpoints; DROP TABLE endpoints"); err == nil {
		t.Error("there is meta of anything")
	}
}

func TestDeclaredObjectsFollowTheFile(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	ca, next := tlstest.NewCA(), tlstest.NewCA()
	site := ca.Server("file.example")
	limits := termination.DefaultLimits()
	limits.Connections = 9
	file := Declared{
		Authorities:  []termination.Authority{authority("filed", ca)},
		Certificates: []termination.Certificate{certificate("filed", site)},
		Endpoints:    []termination.Endpoint{endpoint("filed", "filed", "filed", "devices")},
		Defaults:     &termination.Defaults{Authorities: []string{"filed"}},
		Limits:       &limits,
		History:      &HistorySettings{Keep: time.Hour, KeepFailures: 2 * time.Hour, MaxSize: 5 << 20},
	}
	put := func(d Declared) func(*Tx) error { return func(tx *Tx) error { return tx.ReplaceDeclared(d) } }
	first := change(t, s, put(file))
	if e := first.Endpoint("filed"); e.Origin != termination.OriginFile || first.Limits.Connections != 9 || !slices.Equal(first.Defaults.Authorities, []string{"filed"}) {
		t.Fatalf("after the first load: %+v", first)
	}
	if h, err := s.History(context.Background()); err != nil || h != *file.History {
		t.Errorf("history settings: %+v, %v", h, err)
	}
	if again := change(t, s, put(file)); again.Revision != first.Revision {
		t.Error("the same file again raised the revision")
	}

	// What the file declares is read-only elsewhere, each way.
	for name, mutate := range map[string]func(*Tx) error{
		"authority":   func(tx *Tx) error { return tx.DeleteAuthority("filed") },
		"certificate": func(tx *Tx) error { return tx.DeleteCertificate("filed") },
		"endpoint":    func(tx *Tx) error { return tx.DeleteEndpoint("filed") },
		"update": func(tx *Tx) error {
			e, err := tx.Endpoint("filed")
			if err != nil {
				return err
			}
			e.Enabled, e.Origin = false, termination.OriginDashboard
			return tx.UpdateEndpoint(e)
		},
		"limits":   func(tx *Tx) error { return tx.SetLimits(termination.DefaultLimits()) },
		"history":  func(tx *Tx) error { return tx.SetHistory(DefaultHistorySettings()) },
		"defaults": func(tx *Tx) error { return tx.SetDefaults(termination.Defaults{}) },
	} {
		if err := refuse(t, s, mutate); !is[ReadOnlyError](err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if declared, err := s.DeclaredSettings(context.Background()); err != nil || !reflect.DeepEqual(declared, map[string]bool{SettingLimits: true, SettingHistory: true, SettingDefaults: true}) {
		t.Errorf("declared settings: %v, %v", declared, err)
	}

	// A changed file keeps IDs; a name that the dashboard has is refused; so is removing what is needed elsewhere.
	file.Authorities[0] = authority("filed", next)
	second := change(t, s, put(file))
	if second.Authority("filed").ID != first.Authority("filed").ID || second.Endpoint("filed").ID != first.Endpoint("filed").ID {
		t.Error("IDs changed with the file")
	}
	twice := file
	twice.Endpoints = append(slices.Clone(file.Endpoints), endpoint("api", "filed", "filed"))
	if err := refuse(t, s, put(twice)); err != (DeclaredTwiceError{Kind: KindEndpoint, Name: "api"}) { //nolint:errorlint // exactly this
		t.Errorf("a name in both places: %v", err)
	}
	same := file
	same.Authorities = append(slices.Clone(file.Authorities), authority("filed", ca))
	if err := refuse(t, s, put(same)); !is[NameTakenError](err) {
		t.Errorf("a name twice in the file: %v", err)
	}
	change(t, s, func(tx *Tx) error {
		e, err := tx.Endpoint("api")
		if err != nil {
			return err
		}
		e.ClientAuth.Authorities = []string{"filed"}
		return tx.UpdateEndpoint(e)
	})
	if err := refuse(t, s, put(Declared{})); !is[InUseError](err) || !strings.Contains(err.Error(), `endpoint "api"`) {
		t.Errorf("what the dashboard needs left the file: %v", err)
	}
	change(t, s, func(tx *Tx) error {
		e, err := tx.Endpoint("api")
		if err != nil {
			return err
		}
		e.ClientAuth.Authorities = []string{"devices"}
		return tx.UpdateEndpoint(e)
	})

	// An emptied file takes everything with it, and what the dashboard says holds again.
	last := change(t, s, put(Declared{}))
	if last.Endpoint("filed") != nil || last.Authority("filed") != nil || last.Certificate("filed") != nil || len(last.Defaults.Authorities) != 0 || last.Limits != termination.DefaultLimits() {
		t.Errorf("something of the file is left: %+v", last)
	}
	if last.Endpoint("api") == nil {
		t.Error("the dashboard's endpoint went with the file")
	}
	change(t, s, func(tx *Tx) error { return tx.SetLimits(limits) })
}
