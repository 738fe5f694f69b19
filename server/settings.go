package server

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// settingsRoutes lists the routes of the settings pages.
func (s *Server) settingsRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/settings", handler: s.settingsPage},
		{method: http.MethodPost, path: "/settings/appearance", handler: s.saveAppearance},
		{method: http.MethodPost, path: "/settings/history", handler: s.saveHistory},
		{method: http.MethodPost, path: "/settings/acme", handler: s.saveACME},
		{method: http.MethodPost, path: "/settings/notices", handler: s.saveNotices},
		{method: http.MethodPost, path: "/settings/notices/test", handler: s.testNotices},
		{method: http.MethodGet, path: "/settings/tokens", handler: s.tokensPage},
		{method: http.MethodPost, path: "/settings/tokens", handler: s.makeToken},
		{method: http.MethodPost, path: "/settings/tokens/:id/revoke", handler: s.revokeToken},
		{method: http.MethodGet, path: "/settings/sessions", handler: s.sessionsPage},
		{method: http.MethodPost, path: "/settings/sessions/end", handler: s.endAllSessions},
		{method: http.MethodPost, path: "/settings/sessions/:id/end", handler: s.endOneSession},
		{method: http.MethodGet, path: "/audit", handler: s.auditPage},
	}
}

func (s *Server) settingsPage(c echo.Context) error {
	return s.showSettings(c, http.StatusOK, nil, nil)
}

// settingsForms are forms as they were filled in; nil: as things are.
type settingsForms struct {
	history *views.History
	acme    *views.ACMESettings
	notices *views.NoticeSettings
}

// showSettings renders the page, with forms as they were filled in or, where they are nil, as things are.
func (s *Server) showSettings(c echo.Context, status int, filled *views.History, acme *views.ACMESettings) error {
	return s.showSettingsWith(c, status, settingsForms{history: filled, acme: acme})
}

func (s *Server) showSettingsWith(c echo.Context, status int, forms settingsForms) error {
	filled, acme := forms.history, forms.acme
	ctx := c.Request().Context()
	if filled == nil {
		kept, err := s.store.History(ctx)
		if err != nil {
			return err
		}
		form := historyForm(kept)
		filled = &form
	}
	if acme == nil {
		form := acmeForm(s.current().ACME)
		acme = &form
	}
	h := *filled
	declared, err := s.store.DeclaredSettings(ctx)
	if err != nil {
		return err
	}
	p := s.view(c, "Settings", "notices.js")
	h.File = declared["history"]
	h.Keep.ReadOnly, h.KeepFailures.ReadOnly, h.MaxSize.ReadOnly = h.File, h.File, h.File
	h.Size = p.Status.Store
	acme.File = declared[store.SettingACME]
	notices, err := s.noticeSettings(c, p, forms.notices)
	if err != nil {
		return err
	}
	notices.File = declared[store.SettingNotifications]
	v := views.Settings{Notices: notices, Appearance: p.Appearance, History: h, ACME: *acme, Limits: limitRows(s.current().Limits), LimitsFile: declared["limits"]}
	for _, problem := range *s.problems.Load() {
		v.Problems = append(v.Problems, problem.Error())
	}
	for _, w := range s.store.Warnings() {
		v.Warnings = append(v.Warnings, views.Warning{When: p.Moment(w.Time), Text: w.Text})
	}
	v.About = []parts.Fact{
		{Name: "Version", Value: s.opts.Version, Note: runtime.Version()},
		{Name: "Revision", Value: format.Int(s.current().Revision), Note: "of the configuration in force"},
		{Name: "Running since", Value: p.Moment(s.started), Note: p.Relative(s.started)},
		{Name: "Dashboard", Value: s.URL()},
		{Name: "Data", Value: s.store.Dir()},
		{Name: "Node", Value: s.store.Node()},
	}
	return s.render(c, status, views.SettingsPage(p, v))
}

const day = 24 * time.Hour

func historyForm(h store.HistorySettings) views.History {
	return views.History{
		Keep:         parts.Input{Name: "keep", Label: "Keep, in days", Hint: "Handshakes of clients that were let in.", Value: decimal(float64(h.Keep) / float64(day))},
		KeepFailures: parts.Input{Name: "keep_failures", Label: "Keep failures, in days", Hint: "All others.", Value: decimal(float64(h.KeepFailures) / float64(day))},
		MaxSize:      parts.Input{Name: "max_size", Label: "Largest size, in MB", Hint: "Of the history's file.", Value: decimal(float64(h.MaxSize) / 1e6)},
	}
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func (s *Server) saveHistory(c echo.Context) error {
	form := historyForm(store.HistorySettings{})
	form.Keep.Value, form.KeepFailures.Value, form.MaxSize.Value = c.FormValue("keep"), c.FormValue("keep_failures"), c.FormValue("max_size")
	keep, ok1 := readNumber(&form.Keep, 1.0/24, 3650)
	failures, ok2 := readNumber(&form.KeepFailures, 1.0/24, 3650)
	size, ok3 := readNumber(&form.MaxSize, 2, 4e6)
	if !ok1 || !ok2 || !ok3 {
		return s.showSettings(c, http.StatusUnprocessableEntity, &form, nil)
	}
	h := store.HistorySettings{Keep: time.Duration(keep * float64(day)), KeepFailures: time.Duration(failures * float64(day)), MaxSize: int64(size * 1e6)}
	if _, err := s.change(c, func(tx *store.Tx) error { return tx.SetHistory(h) }); err != nil {
		return err
	}
	s.say(c, "ok", "History saved.")
	return s.redirect(c, "/settings")
}

// readNumber reads a field within bounds, or says in it what is wrong.
func readNumber(f *parts.Input, least, most float64) (float64, bool) {
	v, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(f.Value), ",", "."), 64)
	// The comparison is written so that NaN fails it.
	if err != nil || !(v >= least && v <= most) {
		f.Error = fmt.Sprintf("must be a number from %s to %s", strconv.FormatFloat(least, 'g', 2, 64), strconv.FormatFloat(most, 'f', -1, 64))
		return 0, false
	}
	return v, true
}

func limitRows(l termination.Limits) []views.Limit {
	d := termination.DefaultLimits()
	return []views.Limit{
		{Name: "handshake_timeout", What: "A handshake, from accept to Finished.", Value: format.ShortSpan(l.HandshakeTimeout), Default: l.HandshakeTimeout == d.HandshakeTimeout},
		{Name: "client_hello", What: "The ClientHello.", Value: format.Limit(l.ClientHello), Default: l.ClientHello == d.ClientHello},
		{Name: "certificate_chain", What: "What a client presents, in all.", Value: format.Limit(l.CertificateChain), Default: l.CertificateChain == d.CertificateChain},
		{Name: "certificates", What: "How many certificates it may present.", Value: format.Int(l.Certificates), Default: l.Certificates == d.Certificates},
		{Name: "header", What: "The headers of one request.", Value: format.Limit(l.Header), Default: l.Header == d.Header},
		{Name: "body", What: "The body of one request; 0: as long as it likes.", Value: format.Limit(int(l.Body)), Default: l.Body == d.Body},
		{Name: "idle_timeout", What: "A connection on which nothing moves.", Value: format.ShortSpan(l.IdleTimeout), Default: l.IdleTimeout == d.IdleTimeout},
		{Name: "connections", What: "Connections at once.", Value: format.Int(l.Connections), Default: l.Connections == d.Connections},
		{Name: "connections_per_address", What: "The same, from one address.", Value: format.Int(l.ConnectionsPerAddress), Default: l.ConnectionsPerAddress == d.ConnectionsPerAddress},
		{Name: "half_open", What: "Handshakes under way at once.", Value: format.Int(l.HalfOpen), Default: l.HalfOpen == d.HalfOpen},
		{Name: "half_open_per_address", What: "The same, from one address.", Value: format.Int(l.HalfOpenPerAddress), Default: l.HalfOpenPerAddress == d.HalfOpenPerAddress},
		{Name: "expression_cost", What: "One evaluation of an expression, in the units of CEL.", Value: format.Int(l.ExpressionCost), Default: l.ExpressionCost == d.ExpressionCost},
	}
}

// saveAppearance keeps what one browser wants in cookies, so that a page arrives in its colours.
func (s *Server) saveAppearance(c echo.Context) error {
	theme := c.FormValue("theme")
	if theme != "light" && theme != "dark" {
		theme = ""
	}
	c.SetCookie(appearanceCookie(cookieTheme, theme))
	c.SetCookie(appearanceCookie(cookieDense, when(c.FormValue("dense") == "on", "on")))
	c.SetCookie(appearanceCookie(cookieKeys, when(c.FormValue("keys") != "on", "off")))
	c.SetCookie(appearanceCookie(cookieZone, when(c.FormValue("zone") == "utc", "utc")))
	s.say(c, "ok", "Appearance saved for this browser.")
	return s.redirect(c, "/settings")
}

// appearanceCookie keeps value for a year; an empty one removes the cookie.
func appearanceCookie(name, value string) *http.Cookie {
	c := &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(365 * day / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

func when(b bool, s string) string {
	if b {
		return s
	}
	return ""
}

func (s *Server) tokensPage(c echo.Context) error {
	return s.showTokens(c, http.StatusOK, tokenForm("", ""), "", "")
}

func tokenForm(name, problem string) parts.Input {
	return parts.Input{Name: "name", Label: "Name", Hint: "Of the program that will use it.", Value: name, Error: problem, Required: true}
}

// showTokens renders the page of tokens; secret is that of a token that was just made.
func (s *Server) showTokens(c echo.Context, status int, name parts.Input, secret, secretOf string) error {
	list, err := s.store.Tokens(c.Request().Context())
	if err != nil {
		return err
	}
	p := s.view(c, "API tokens")
	scope := store.Scope(c.FormValue("scope"))
	if !scope.Includes(store.ScopeRead) {
		scope = store.ScopeRead
	}
	v := views.Tokens{Name: name, New: secret, For: secretOf, Scopes: []parts.Option{
		{Value: string(store.ScopeRead), Label: "Read", Selected: scope == store.ScopeRead},
		{Value: string(store.ScopeOperate), Label: "Operate", Selected: scope == store.ScopeOperate},
		{Value: string(store.ScopeAdmin), Label: "Everything", Selected: scope == store.ScopeAdmin},
	}}
	for _, t := range list {
		item := views.Token{ID: t.ID, Name: t.Name, Scope: string(t.Scope), Made: p.Relative(t.Created), By: t.By, Used: p.Relative(t.LastUsed)}
		if !t.Revoked.IsZero() {
			item.Revoked = p.Relative(t.Revoked)
		}
		v.List = append(v.List, item)
	}
	return s.render(c, status, views.TokensPage(p, v))
}

// makeToken answers with the secret itself, not with a redirect: it is shown once and kept nowhere.
func (s *Server) makeToken(c echo.Context) error {
	name := strings.TrimSpace(c.FormValue("name"))
	if err := termination.CheckName(name); err != nil {
		return s.showTokens(c, http.StatusUnprocessableEntity, tokenForm(name, err.Error()), "", "")
	}
	token, secret, err := s.store.CreateToken(c.Request().Context(), actorOf(c), name, store.Scope(c.FormValue("scope")))
	var taken store.NameTakenError
	if errors.As(err, &taken) {
		return s.showTokens(c, http.StatusUnprocessableEntity, tokenForm(name, taken.Error()), "", "")
	}
	if err != nil {
		return err
	}
	return s.showTokens(c, http.StatusOK, tokenForm("", ""), secret, token.Name)
}

func (s *Server) revokeToken(c echo.Context) error {
	if err := s.store.RevokeToken(c.Request().Context(), actorOf(c), c.Param("id")); err != nil {
		return err
	}
	s.say(c, "ok", "The token is revoked. Programs that use it are refused from now on.")
	return s.redirect(c, "/settings/tokens")
}

func (s *Server) sessionsPage(c echo.Context) error {
	list, err := s.store.Sessions(c.Request().Context())
	if err != nil {
		return err
	}
	p := s.view(c, "Sessions")
	items := make([]views.SessionItem, len(list))
	for i, v := range list {
		items[i] = views.SessionItem{
			ID: v.ID, Name: v.Name, Begun: p.Moment(v.Created), Seen: p.Relative(v.LastSeen), Ends: p.Moment(v.Expires),
			Current: v.ID == userOf(c).id,
		}
	}
	return s.render(c, http.StatusOK, views.SessionsPage(p, items))
}

func (s *Server) endOneSession(c echo.Context) error {
	id := c.Param("id")
	if err := s.store.EndSession(c.Request().Context(), id); err != nil {
		return err
	}
	if id == userOf(c).id {
		c.SetCookie(sessionCookie("", -1))
		return s.redirect(c, "/sign-in")
	}
	s.say(c, "ok", "Signed out.")
	return s.redirect(c, "/settings/sessions")
}

func (s *Server) endAllSessions(c echo.Context) error {
	ctx := c.Request().Context()
	list, err := s.store.Sessions(ctx)
	if err != nil {
		return err
	}
	for _, v := range list {
		if err := s.store.EndSession(ctx, v.ID); err != nil {
			return err
		}
	}
	c.SetCookie(sessionCookie("", -1))
	return s.redirect(c, "/sign-in")
}

// auditPageSize is how many entries a page of the audit log shows.
const auditPageSize = 100

func (s *Server) auditPage(c echo.Context) error {
	var before uint64
	if text := c.QueryParam("before"); text != "" {
		var err error
		if before, err = strconv.ParseUint(text, 10, 63); err != nil {
			return &Problem{Status: http.StatusBadRequest, Code: "before", Title: "That is no place in the audit log", Href: "/audit", Link: "To the newest"}
		}
	}
	entries, err := s.store.Audit(c.Request().Context(), store.AuditQuery{Before: before, Limit: auditPageSize})
	if err != nil {
		return err
	}
	p := s.view(c, "Audit log")
	items := make([]views.AuditItem, len(entries))
	for i, e := range entries {
		items[i] = views.AuditItem{
			When: p.Moment(e.Time), Exact: p.Exact(e.Time), Revision: e.Revision, Actor: e.Actor.Name, Via: e.Actor.Via,
			Action: e.Action, Kind: e.Kind, Name: e.Name, Before: indentJSON(e.Before), After: indentJSON(e.After),
		}
	}
	for i := range items {
		if items[i].Action == store.ActionSignIn { // "rhea: sign in session rhea" says it three times
			items[i].Action, items[i].Kind, items[i].Name = "signed in", "", ""
			continue
		}
		items[i].Action, items[i].Kind = auditWords(items[i].Action, items[i].Kind)
	}
	older := ""
	if len(entries) == auditPageSize {
		older = "/audit?before=" + strconv.FormatUint(entries[len(entries)-1].Seq, 10)
	}
	return s.render(c, http.StatusOK, views.AuditPage(p, items, older))
}

// auditWords says in the words of the dashboard what was done to what.
func auditWords(action, kind string) (done, what string) {
	done, what = action, kind
	switch action {
	case store.ActionCreate:
		done = "created"
	case store.ActionUpdate:
		done = "changed"
	case store.ActionDelete:
		done = "deleted"
	case store.ActionRevoke:
		done = "revoked"
	case store.ActionIssue:
		done = "issued"
	case store.ActionJoin:
		done = "joined as"
	}
	switch kind {
	case store.KindAuthority:
		what = "CA"
	case store.KindIssued:
		what = "certificate"
	case store.KindIdentity:
		what = "client"
	}
	return done, what
}

// partsRoutes lists the page that shows every part, for development.
func (s *Server) partsRoutes() []route {
	if !s.opts.Parts {
		return nil
	}
	return []route{{method: http.MethodGet, path: "/settings/parts", handler: func(c echo.Context) error {
		return s.render(c, http.StatusOK, views.PartsPage(s.view(c, "Parts")))
	}}}
}
