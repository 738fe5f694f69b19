package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// credentialRows is how many credentials stand on one page.
	credentialRows = 100
	// credentialPlaces is how many endpoints of one the list names.
	credentialPlaces = 3
)

// credentialRoutes lists the routes of the page of tokens and passwords.
func (s *Server) credentialRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/credentials", handler: s.credentialsPage},
		{method: http.MethodPost, path: "/credentials", handler: s.makeCredential},
		{method: http.MethodGet, path: "/credentials/new", handler: s.newCredentialPage},
		{method: http.MethodPost, path: "/credentials/:id/block", handler: s.blockCredential(true)},
		{method: http.MethodPost, path: "/credentials/:id/unblock", handler: s.blockCredential(false)},
		{method: http.MethodPost, path: "/credentials/:id/renew", handler: s.renewCredential},
		{method: http.MethodGet, path: "/credentials/:id/delete", handler: s.deleteCredentialPage},
		{method: http.MethodPost, path: "/credentials/:id/delete", handler: s.deleteCredential},
	}
}

// credentialUses is what the store knows of credentials, with what the gateway has seen since it was asked last.
func (s *Server) credentialUses(ctx context.Context) (map[string]store.CredentialUse, error) {
	s.keepCredentialUses(ctx)
	return s.store.CredentialUses(ctx)
}

// keepCredentialUses writes down when credentials were used.
func (s *Server) keepCredentialUses(ctx context.Context) {
	if s.gateway == nil {
		return
	}
	if err := s.store.CredentialsUsed(ctx, s.gateway.CredentialUses()); err != nil {
		s.log.Warn("when credentials were used is not kept", "error", err)
	}
}

// credentialState is how a credential is, as chips and tags name it.
type credentialState struct {
	value, label string
	tone         parts.Tone
	mark         string
}

func credentialStates() []credentialState {
	return []credentialState{
		{"", "All", "", ""},
		{"in_use", "In use", parts.OK, "●"},
		{"never_used", "Never used", parts.Plain, "○"},
		{"expired", "Expired", parts.Warn, "!"},
		{"blocked", "Blocked", parts.Bad, "✕"},
	}
}

func credentialStateOf(c *termination.Credential, use store.CredentialUse, now time.Time) credentialState {
	all := credentialStates()
	switch {
	case c.Blocked:
		return all[4]
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return all[3]
	case use.Used.IsZero():
		return all[2]
	}
	return all[1]
}

func (s *Server) credentialsPage(c echo.Context) error {
	p := s.view(c, "Credentials")
	p.Keys = append(p.Keys, views.Key{Keys: []string{"n"}, Does: "make a credential"})
	config := s.current()
	uses, err := s.credentialUses(c.Request().Context())
	if err != nil {
		return err
	}
	v := views.Credentials{Query: strings.TrimSpace(c.QueryParam("q")), Any: len(config.Credentials) > 0, Demanding: demanding(config)}
	for _, state := range credentialStates() {
		if state.value == c.QueryParam("state") {
			v.State = state.value
		}
	}
	text, counts := strings.ToLower(v.Query), map[string]int{}
	var list []*termination.Credential
	for i := range config.Credentials {
		cred := &config.Credentials[i]
		if text != "" && !strings.Contains(strings.ToLower(cred.Name+"\n"+cred.User+"\n"+cred.Identity+"\n"+strings.Join(cred.Endpoints, "\n")), text) && cred.ID != v.Query {
			continue
		}
		state := credentialStateOf(cred, uses[cred.ID], p.Now).value
		counts[""]++
		counts[state]++
		if v.State == "" || v.State == state {
			list = append(list, cred)
		}
	}
	for _, state := range credentialStates() {
		v.States = append(v.States, views.StateChip{
			Label: state.label, Count: format.Int(counts[state.value]), Href: listHref("/credentials", 0, "q", v.Query, "state", state.value), Current: v.State == state.value,
		})
	}
	if len(list) == 0 {
		v.None = "No credential fits."
	}
	from := pageStart(c.QueryParam("from"), len(list))
	for _, cred := range list[from:min(from+credentialRows, len(list))] {
		v.Items = append(v.Items, credentialItem(p, config, cred, uses[cred.ID]))
	}
	v.Rows = rowsFrom(from, credentialRows, len(list), func(from int) string { return listHref("/credentials", from, "q", v.Query, "state", v.State) })
	return s.render(c, http.StatusOK, views.CredentialsPage(p, v))
}

// demanding reports whether an endpoint demands a token or a password anywhere.
func demanding(config *termination.Config) bool {
	wants := func(a termination.Also) bool {
		return a.Names(termination.ProofBearer) || a.Names(termination.ProofBasic)
	}
	return slices.ContainsFunc(config.Endpoints, func(e termination.Endpoint) bool {
		return wants(e.Also) || slices.ContainsFunc(e.Routes, func(r termination.Route) bool { return r.Also != nil && wants(*r.Also) })
	})
}

func credentialItem(p views.Page, config *termination.Config, c *termination.Credential, use store.CredentialUse) views.CredentialItem {
	state := credentialStateOf(c, use, p.Now)
	item := views.CredentialItem{
		ID: c.ID, Name: c.Name, Kind: "bearer token", Everywhere: len(c.Endpoints) == 0, Tone: state.tone, Mark: state.mark, State: strings.ToLower(state.label),
		Blocked: c.Blocked, Path: "/credentials/" + url.PathEscape(c.ID), Used: "never used", File: c.Origin == termination.OriginFile,
	}
	if c.Kind == termination.ProofBasic {
		item.Kind = "password of " + c.User
	}
	item.Endpoints, item.More = endpointLinks(config, c.Endpoints, credentialPlaces)
	switch {
	case c.Identity != "":
		item.Bound = "only with a certificate of " + c.Identity
	case c.Pin != nil && c.Pin.Key:
		item.Bound = "only with the key " + c.Pin.Fingerprint.Short()
	case c.Pin != nil:
		item.Bound = "only with the certificate " + c.Pin.Fingerprint.Short()
	}
	if !use.Used.IsZero() {
		item.Used, item.UsedExact = "used "+p.Relative(use.Used), p.Exact(use.Used)
	}
	if !c.Expires.IsZero() {
		item.Expires, item.ExpiresExact = "ends "+p.Relative(c.Expires), p.Exact(c.Expires)
		if !p.Now.Before(c.Expires) {
			item.Expires = "ended " + p.Relative(c.Expires)
		}
	}
	return item
}

// credentialInput is what was typed into the form.
type credentialInput struct {
	name, kind, user, password, identity, pin, expires string
	endpoints                                          []string
}

func (s *Server) newCredentialPage(c echo.Context) error {
	in := credentialInput{kind: string(termination.ProofBearer)}
	if e := findEndpointIn(s.current(), c.QueryParam("endpoint")); e != nil {
		in.endpoints = []string{e.Name}
	}
	return s.showCredentialForm(c, http.StatusOK, in, fieldProblems{})
}

func (s *Server) showCredentialForm(c echo.Context, status int, in credentialInput, wrong fieldProblems) error {
	config := s.current()
	f := views.CredentialForm{
		Name: parts.Input{Name: "name", Label: "Name", Hint: "Pages, records and the audit log call it so.", Value: in.name, Error: wrong.of("name"), Words: true, Required: true},
		Kind: parts.Input{Name: "kind", Label: "Kind", Error: wrong.of("kind")},
		Kinds: []parts.Option{
			{Value: "bearer", Label: "Bearer token", Selected: in.kind != "basic"},
			{Value: "basic", Label: "User and password", Selected: in.kind == "basic"},
		},
		User:     parts.Input{Name: "user", Label: "User", Hint: "Of a password.", Value: in.user, Error: wrong.of("user")},
		Password: parts.Input{Name: "password", Label: "Password", Hint: "Empty: one is made, and shown once.", Type: "password", Autocomplete: "new-password", Error: wrong.of("password")},
		Identity: parts.Input{Name: "identity", Label: "Only with a certificate of", Error: wrong.of("identity")},
		Pin:      parts.Input{Name: "pin", Label: "Or only with this certificate", Hint: "Its SHA-256, or spki: and that of its key.", Value: in.pin, Error: wrong.of("pin")},
		Expires:  parts.Input{Name: "expires", Label: "Ends on", Hint: "A date, such as 2027-12-31; empty: never.", Value: in.expires, Error: wrong.of("expires")},
		Open:     in.pin != "" || in.identity != "" || in.expires != "" || wrong.anyOf("identity", "pin", "expires"), Wrong: wrong.of("endpoints"),
	}
	if text := wrong.of(""); text != "" {
		f.Problems = append(f.Problems, text)
	}
	f.Identities = []parts.Option{{Value: "", Label: "nobody in particular", Selected: in.identity == ""}}
	for i := range config.Identities {
		name := config.Identities[i].Name
		if i < credentialIdentities || name == in.identity {
			f.Identities = append(f.Identities, parts.Option{Value: name, Label: name, Selected: name == in.identity})
		}
	}
	for i := range config.Endpoints {
		e := &config.Endpoints[i]
		if e.Scheme == termination.SchemeHTTPS && e.Origin != termination.OriginCommand {
			f.Endpoints = append(f.Endpoints, parts.Option{Value: e.Name, Label: e.Name, Hint: alsoWords(e.Also), Selected: slices.Contains(in.endpoints, e.Name)})
		}
	}
	return s.render(c, status, views.CredentialFormPage(s.view(c, "New credential"), f))
}

// credentialIdentities is how many identities the form offers; others are bound through the API or the file.
const credentialIdentities = 200

// makeCredential answers with the secret itself, not with a redirect: it is shown once and kept nowhere.
func (s *Server) makeCredential(c echo.Context) error {
	form, err := c.FormParams()
	if err != nil {
		return err
	}
	in := credentialInput{
		name: strings.TrimSpace(form.Get("name")), kind: form.Get("kind"), user: strings.TrimSpace(form.Get("user")), password: form.Get("password"),
		identity: form.Get("identity"), pin: strings.TrimSpace(form.Get("pin")), expires: strings.TrimSpace(form.Get("expires")), endpoints: form["endpoint"],
	}
	cred, wrong := in.credential()
	var secret string
	if len(wrong) == 0 {
		secret, err = api.MakeSecret(&cred, in.password)
		if err == nil {
			_, err = s.change(c, func(tx *store.Tx) (err error) {
				cred, err = tx.CreateCredential(cred)
				return err
			})
		}
		if err != nil && !blameCredential(err, wrong) {
			return err
		}
	}
	if len(wrong) > 0 {
		return s.showCredentialForm(c, http.StatusUnprocessableEntity, in, wrong)
	}
	return s.showSecret(c, &cred, secret)
}

func (in credentialInput) credential() (termination.Credential, fieldProblems) {
	wrong := fieldProblems{}
	c := termination.Credential{Name: in.name, Kind: termination.ProofKind(in.kind), Endpoints: in.endpoints, Identity: in.identity}
	if c.Kind == termination.ProofBasic {
		c.User = in.user
	}
	if err := termination.CheckName(in.name); err != nil {
		wrong.add("name", err.Error())
	}
	if c.Kind != termination.ProofBearer && c.Kind != termination.ProofBasic {
		wrong.add("kind", "choose one")
	}
	if in.pin != "" {
		pin, err := termination.ParsePin(in.pin)
		if err != nil {
			wrong.add("pin", err.Error())
		}
		c.Pin = &pin
	}
	if in.expires != "" {
		at, err := time.Parse(time.DateOnly, in.expires)
		if err != nil {
			at, err = time.Parse(time.RFC3339, in.expires)
		}
		if err != nil {
			wrong.add("expires", fmt.Sprintf("%q is no date; write it as in 2027-12-31", in.expires))
		}
		c.Expires = at.UTC()
	}
	return c, wrong
}

// blameCredential puts an error beside what it is about, and reports whether it could.
func blameCredential(err error, wrong fieldProblems) bool {
	var taken store.NameTakenError
	var invalid termination.ValidationError
	switch {
	case errors.As(err, &taken):
		wrong.add("name", taken.Error())
	case errors.As(err, &invalid):
		for _, f := range invalid {
			text, field := f.Problem, f.Field
			if f.Advice != "" {
				text += "; " + f.Advice
			}
			if f.Kind != store.KindCredential || !slices.Contains([]string{"name", "kind", "user", "password", "identity", "pin", "expires", "endpoints"}, field) {
				text, field = f.Error(), ""
			}
			wrong.add(field, text)
		}
	default:
		return false
	}
	return true
}

// showSecret shows what was made, once.
func (s *Server) showSecret(c echo.Context, cred *termination.Credential, secret string) error {
	v := views.CredentialMade{Name: cred.Name, Secret: secret, User: cred.User, Href: "/credentials"}
	target := "https://…/"
	for _, name := range append(slices.Clone(cred.Endpoints), "") {
		if e := s.current().Endpoint(name); e != nil && e.Host != "" {
			target = e.URL() + "/"
			break
		}
	}
	switch {
	case cred.Kind == termination.ProofBearer:
		v.What, v.Command = "The token", "curl --oauth2-bearer "+secret+" "+target
	case secret != "":
		v.What, v.Command = "The password", "curl --user "+shellWord(cred.User+":"+secret)+" "+target
	default:
		v.What, v.Command = "The password is the one that you typed", "curl --user "+shellWord(cred.User)+" "+target
	}
	v.Useless = !demanding(s.current())
	return s.render(c, http.StatusOK, views.CredentialMadePage(s.view(c, "Shown once"), v))
}

// shellWord quotes a word for a POSIX shell.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (s *Server) credentialOf(c echo.Context) (*termination.Credential, error) {
	config := s.current()
	for i := range config.Credentials {
		if config.Credentials[i].ID == c.Param("id") {
			return &config.Credentials[i], nil
		}
	}
	// One that cannot be read is not in force, and can still be deleted.
	meta, err := s.store.Meta(c.Request().Context(), store.KindCredential)
	if err != nil {
		return nil, err
	}
	if m, ok := meta[c.Param("id")]; ok {
		return &termination.Credential{ID: m.ID, Name: m.Name, Origin: m.Origin}, nil
	}
	return nil, store.NotFoundError{Kind: store.KindCredential, Name: c.Param("id")}
}

func (s *Server) blockCredential(blocked bool) echo.HandlerFunc {
	return func(c echo.Context) error {
		cred, err := s.credentialOf(c)
		if err != nil {
			return err
		}
		if _, err := s.change(c, func(tx *store.Tx) error { return tx.BlockCredential(cred.ID, blocked) }); err != nil {
			return err
		}
		if blocked {
			s.say(c, "ok", cred.Name+" is blocked. What it let in ends within a second.")
		} else {
			s.say(c, "ok", cred.Name+" counts again.")
		}
		return s.redirect(c, "/credentials")
	}
}

// renewCredential makes another secret; the one before is of no use from then on.
func (s *Server) renewCredential(c echo.Context) error {
	cred, err := s.credentialOf(c)
	if err != nil {
		return err
	}
	next := *cred
	secret, err := api.MakeSecret(&next, "")
	if err != nil {
		return err
	}
	if _, err := s.change(c, func(tx *store.Tx) error { return tx.UpdateCredential(next) }); err != nil {
		return err
	}
	return s.showSecret(c, &next, secret)
}

func (s *Server) deleteCredentialPage(c echo.Context) error {
	cred, err := s.credentialOf(c)
	if err != nil {
		return err
	}
	uses, err := s.credentialUses(c.Request().Context())
	if err != nil {
		return err
	}
	p := s.view(c, "Delete a credential")
	return s.render(c, http.StatusOK, views.CredentialDeletePage(p, credentialItem(p, s.current(), cred, uses[cred.ID])))
}

func (s *Server) deleteCredential(c echo.Context) error {
	cred, err := s.credentialOf(c)
	if err != nil {
		return err
	}
	if _, err := s.change(c, func(tx *store.Tx) error { return tx.DeleteCredential(cred.ID) }); err != nil {
		return err
	}
	s.say(c, "ok", cred.Name+" is deleted. What it let in ends within a second.")
	return s.redirect(c, "/credentials")
}

// alsoWords says in one sentence what a request must prove besides the client policy.
func alsoWords(a termination.Also) string {
	words := func(kinds []termination.ProofKind, join string) string {
		var out []string
		for _, k := range kinds {
			out = append(out, map[termination.ProofKind]string{
				termination.ProofCertificate: "a verified certificate", termination.ProofBearer: "a bearer token", termination.ProofBasic: "a user name and password",
			}[k])
		}
		return strings.Join(out, join)
	}
	var all []string
	if len(a.AllOf) > 0 {
		all = append(all, words(a.AllOf, " and "))
	}
	if len(a.AnyOf) > 0 {
		all = append(all, words(a.AnyOf, " or "))
	}
	if len(all) == 0 {
		return ""
	}
	text := "demands " + strings.Join(all, ", and besides ")
	if a.Strip {
		text += "; the service does not see it"
	}
	return text
}
