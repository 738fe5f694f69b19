package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// uploadBody is far above what an upload may hold, so that a large file gets an answer of its own.
	uploadBody = 16 << 20
	// dependPeriod is how far back is looked for clients that depend on an authority.
	dependPeriod = 24 * time.Hour
)

// authorityRoutes lists the routes of the Trust page.
func (s *Server) authorityRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/authorities", handler: s.authoritiesPage},
		{method: http.MethodPost, path: "/authorities/preview", body: uploadBody, handler: s.previewAuthority},
		{method: http.MethodPost, path: "/authorities", body: 2 * termination.MaxUpload, handler: s.saveAuthority},
		{method: http.MethodGet, path: "/authorities/:name", handler: s.authorityPage},
		{method: http.MethodGet, path: "/authorities/:name/ca.pem", handler: s.authorityPEM},
		{method: http.MethodPost, path: "/authorities/:name/rename", handler: s.renameAuthority},
		{method: http.MethodPost, path: "/authorities/:name/role", handler: s.changeRole},
		{method: http.MethodPost, path: "/authorities/:name/delete", handler: s.deleteAuthority},
	}
}

func (s *Server) authoritiesPage(c echo.Context) error {
	return s.showAuthorities(c, http.StatusOK, views.Authorities{})
}

// showAuthorities renders the list with whatever stands beside it.
func (s *Server) showAuthorities(c echo.Context, status int, v views.Authorities) error {
	p := s.view(c, "Trust", "drop.js")
	clients, err := s.store.AuthorityClients(c.Request().Context(), s.now().Add(-dependPeriod))
	if err != nil {
		return err
	}
	config := s.current()
	local := localAuthorities(config)
	for i := range config.Authorities {
		a := &config.Authorities[i]
		v.Items = append(v.Items, s.authorityItem(p, config, a, local[a.Name], clients[a.Name]))
	}
	v.CanMake = s.has("/certificates")
	return s.render(c, status, views.AuthoritiesPage(p, v))
}

// localAuthorities names the authorities whose key lives here.
func localAuthorities(config *termination.Config) map[string]bool {
	out := map[string]bool{}
	for _, ca := range config.LocalCAs {
		out[ca.Name] = true
	}
	return out
}

func (s *Server) authorityItem(p views.Page, config *termination.Config, a *termination.Authority, local bool, clients int64) views.AuthorityItem {
	item := views.AuthorityItem{
		Name: a.Name, Href: "/authorities/" + a.ID, ReadOnly: a.Origin == termination.OriginFile,
		UsedBy: s.usersOf(config, a.Name), Tags: authorityTags(a, local),
	}
	first := firstEnding(a)
	if first == nil {
		return item
	}
	item.Facts = format.ShortFingerprint(termination.FingerprintOf(first)) + " · " + termination.KeyName(first.PublicKey)
	item.Life = parts.Life{From: first.NotBefore, Until: first.NotAfter, Now: p.Now}
	item.LifeText = p.Left(first.NotBefore, first.NotAfter) + " · " + format.Count(int(clients), "client", "clients") + " today"
	if tone := parts.LifeTone(first.NotBefore, first.NotAfter, p.Now); tone != parts.OK {
		item.Tags = append(item.Tags, views.TagItem{Tone: tone, Text: p.Left(first.NotBefore, first.NotAfter)})
	}
	return item
}

func authorityTags(a *termination.Authority, local bool) []views.TagItem {
	var tags []views.TagItem
	if local {
		tags = append(tags, views.TagItem{Tone: parts.Warn, Text: "key on this disk"})
	}
	if n := len(a.Certificates); n > 1 {
		tags = append(tags, views.TagItem{Text: format.Count(n, "certificate", "certificates")})
	}
	switch a.Origin {
	case termination.OriginFile:
		tags = append(tags, views.TagItem{Text: "from the file"})
	case termination.OriginDemo:
		tags = append(tags, views.TagItem{Text: "demo"})
	}
	return tags
}

// usersOf lists the endpoints that ask an authority.
func (s *Server) usersOf(config *termination.Config, authority string) []views.Link {
	var out []views.Link
	for i := range config.Endpoints {
		e := &config.Endpoints[i]
		asks := slices.Contains(config.Effective(e.ClientAuth).Authorities, authority)
		for _, r := range e.Routes {
			asks = asks || r.ClientAuth != nil && slices.Contains(config.Effective(*r.ClientAuth).Authorities, authority)
		}
		if asks {
			out = append(out, views.Link{Label: e.Name, Href: "/endpoints/" + url.PathEscape(e.Name)})
		}
	}
	return out
}

// previewAuthority says what is in an upload. Nothing is saved.
func (s *Server) previewAuthority(c echo.Context) error {
	data, source, err := readUploadForm(c)
	if err != nil {
		return err
	}
	text := c.FormValue("text")
	upload, err := termination.ReadUpload(data)
	if err != nil {
		return s.showAuthorities(c, http.StatusUnprocessableEntity, views.Authorities{Upload: err.Error()})
	}
	if upload.Has(termination.UploadEmpty) {
		return s.showAuthorities(c, http.StatusUnprocessableEntity, views.Authorities{Upload: "Choose a file, or paste text.", Pasted: text})
	}
	preview := s.preview(c, upload, c.FormValue("into"), nil)
	preview.Source = source
	status := http.StatusOK
	if preview.Button == "" {
		status = http.StatusUnprocessableEntity
	}
	return s.showAuthorities(c, status, views.Authorities{Preview: preview})
}

// readUploadForm returns the bytes of the file, or else of the text, and what they are called. No more is read than an
// upload may hold, and one byte, so that what is larger is known to be.
func readUploadForm(c echo.Context) (data []byte, source string, err error) {
	if header, err := c.FormFile("file"); err == nil && header.Size > 0 {
		f, err := header.Open()
		if err != nil {
			return nil, "", fmt.Errorf("open the upload: %w", err)
		}
		defer func() { _ = f.Close() }()
		data, err = io.ReadAll(io.LimitReader(f, termination.MaxUpload+1))
		if err != nil {
			return nil, "", fmt.Errorf("read the upload: %w", err)
		}
		return data, filepath.Base(header.Filename) + " · " + format.Bytes(header.Size), nil
	}
	text := c.FormValue("text")
	return []byte(text), "pasted text · " + format.Bytes(int64(len(text))), nil
}

// preview plans an upload with the choices that a person has made so far.
func (s *Server) preview(c echo.Context, upload termination.Upload, into string, choices map[termination.Fingerprint]termination.UploadUse) *views.TrustPreview {
	config := s.current()
	plan := termination.PlanAuthority(upload, termination.PlanOptions{
		Known: config.KnownCertificates(), Into: into, Choices: choices, Now: s.now(),
	})
	v := &views.TrustPreview{
		Headline: plan.Headline(), PEM: string(upload.PEM()), Into: into,
		Name: parts.Input{Name: "name", Label: "Name", Hint: "As endpoints will call it.", Value: suggestName(config, plan), Words: true},
	}
	for _, i := range plan.Items {
		v.Items = append(v.Items, previewItem(i))
	}
	savable := slices.ContainsFunc(plan.Items, func(i termination.PlannedItem) bool {
		return len(i.Choices) > 0 || i.Use == termination.UseAnchor || i.Use == termination.UseHelper || i.Use == termination.UsePin
	})
	if !savable {
		return v
	}
	chosen := c.Request().Form["endpoint"]
	for i := range config.Endpoints {
		e := &config.Endpoints[i]
		if e.TerminateAt != termination.AtEdge || e.Origin == termination.OriginFile {
			continue
		}
		v.Endpoints = append(v.Endpoints, views.PreviewEndpoint{Name: e.Name, Ticked: slices.Contains(chosen, e.Name), Hint: trustHint(e)})
	}
	v.Button = "Trust it"
	if into != "" {
		v.Button = "Add to " + into
	}
	return v
}

func trustHint(e *termination.Endpoint) string {
	if e.ClientAuth.Mode == termination.ModeOff {
		return "lets anyone in now; will require a certificate"
	}
	return "mode " + string(e.ClientAuth.Mode)
}

func previewItem(i termination.PlannedItem) views.PreviewItem {
	v := views.PreviewItem{Title: i.Title, Label: i.Label, Message: i.Message, Fingerprint: i.Fingerprint.String(), Symbol: parts.ChainGood, Tone: parts.OK}
	switch i.Use {
	case termination.UseAnchor:
		v.Symbol = parts.ChainAnchor
	case termination.UseHelper, termination.UsePin:
		v.Tone = parts.Plain
	case termination.UseAsk, termination.UseSkip:
		v.Symbol, v.Tone = parts.ChainWarn, parts.Warn
	case termination.UseRefuse:
		v.Symbol, v.Tone = parts.ChainBroken, parts.Bad
	}
	if cert := i.Certificate; cert != nil {
		usages := termination.UsageNames(cert)
		v.Facts = append(v.Facts,
			"subject "+cert.Subject.String(), "issuer "+cert.Issuer.String(),
			fmt.Sprintf("%s to %s · %s · %s", cert.NotBefore.UTC().Format(time.DateOnly), cert.NotAfter.UTC().Format(time.DateOnly), termination.KeyName(cert.PublicKey), strings.Join(usages, ", ")),
			"SHA-256 "+format.Fingerprint(i.Fingerprint))
	}
	for _, w := range i.Warnings {
		tone := parts.Warn
		if w.Strong {
			tone = parts.Bad
		}
		v.Warnings = append(v.Warnings, views.PreviewWarning{Tone: tone, Text: w.Text})
	}
	for _, choice := range i.Choices {
		v.Choices = append(v.Choices, parts.Option{Value: string(choice), Label: useLabel(choice), Selected: choice == i.Use})
	}
	return v
}

func useLabel(u termination.UploadUse) string {
	switch u {
	case termination.UseAnchor:
		return "issuer: chains may end here"
	case termination.UseHelper:
		return "helper for chains"
	case termination.UsePin:
		return "pin: exactly this certificate"
	case termination.UseRefuse, termination.UseSkip:
		return "leave it out"
	}
	return string(u)
}

// suggestName takes the name of the first anchor, made fit to be a name.
func suggestName(config *termination.Config, plan *termination.AuthorityPlan) string {
	for _, i := range plan.Items {
		if i.Certificate == nil || i.Use == termination.UseSkip || i.Use == termination.UseRefuse {
			continue
		}
		name := fitName(i.Title)
		for n := 2; config.Authority(name) != nil; n++ {
			name = fmt.Sprintf("%s %d", fitName(i.Title), n)
		}
		return name
	}
	return ""
}

// fitName makes a name of hostile text: what may not stand in one becomes a space.
func fitName(s string) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= 56 {
			break
		}
		if r < 0x80 && termination.CheckName("a"+string(r)+"a") == nil {
			b.WriteRune(r)
		} else {
			b.WriteByte(' ')
		}
	}
	name := strings.Join(strings.Fields(b.String()), " ")
	name = strings.TrimLeft(name, "-_. ")
	if termination.CheckName(name) != nil {
		return "authority"
	}
	return name
}

// saveAuthority saves what a preview showed. What travelled through the form is read and planned again.
func (s *Server) saveAuthority(c echo.Context) error {
	upload, err := termination.ReadUpload([]byte(c.FormValue("pem")))
	if err != nil {
		return s.showAuthorities(c, http.StatusUnprocessableEntity, views.Authorities{Upload: err.Error()})
	}
	into, choices := c.FormValue("into"), choicesOf(c.Request().Form)
	plan := termination.PlanAuthority(upload, termination.PlanOptions{Known: s.current().KnownCertificates(), Into: into, Choices: choices, Now: s.now()})
	again := func(field, problem string) error {
		v := s.preview(c, upload, into, choices)
		v.Source, v.Name.Value = c.FormValue("source"), c.FormValue("name")
		if field == "name" {
			v.Name.Error = problem
		} else {
			v.Error = problem
		}
		return s.showAuthorities(c, http.StatusUnprocessableEntity, views.Authorities{Preview: v})
	}
	if err := plan.Err(); err != nil {
		return again("", err.Error())
	}
	saved := &trustChange{
		name: strings.TrimSpace(c.FormValue("name")), into: into, certificates: plan.Certificates(),
		endpoints: c.Request().Form["endpoint"],
	}
	for _, pin := range plan.Pins() {
		saved.pins = append(saved.pins, termination.Pin{Fingerprint: termination.FingerprintOf(pin)})
	}
	if len(saved.pins) > 0 && len(saved.endpoints) == 0 {
		return again("", "A pin lets one client into chosen endpoints: choose at least one.")
	}
	if into == "" && len(saved.certificates) > 0 {
		if err := termination.CheckName(saved.name); err != nil {
			return again("name", err.Error())
		}
	}
	if _, err := s.change(c, saved.write); err != nil {
		var taken store.NameTakenError
		var invalid termination.ValidationError
		switch {
		case errors.As(err, &taken):
			return again("name", taken.Error())
		case errors.As(err, &invalid):
			return again("", invalid.Error())
		}
		return err
	}
	s.say(c, "ok", saved.sentence())
	return s.redirect(c, "/authorities")
}

// choicesOf reads what a person chose for each certificate.
func choicesOf(form url.Values) map[termination.Fingerprint]termination.UploadUse {
	out := map[termination.Fingerprint]termination.UploadUse{}
	for key, values := range form {
		hex, ok := strings.CutPrefix(key, "use-")
		if !ok || len(values) == 0 {
			continue
		}
		if f, err := termination.ParseFingerprint(hex); err == nil {
			out[f] = termination.UploadUse(values[0])
		}
	}
	return out
}

// trustChange is an upload on its way into the configuration.
type trustChange struct {
	name, into   string
	certificates []termination.CACertificate
	pins         []termination.Pin
	endpoints    []string
}

func (t *trustChange) write(tx *store.Tx) error {
	if len(t.certificates) > 0 {
		if err := t.writeAuthority(tx); err != nil {
			return err
		}
	}
	for _, name := range t.endpoints {
		e, err := tx.Endpoint(name)
		if err != nil {
			return err
		}
		a := &e.ClientAuth
		if len(t.certificates) > 0 && !slices.Contains(a.Authorities, t.authority()) {
			a.Authorities = append(a.Authorities, t.authority())
		}
		for _, pin := range t.pins {
			if !slices.Contains(a.Pins, pin) {
				a.Pins = append(a.Pins, pin)
			}
		}
		if a.Mode == termination.ModeOff {
			a.Mode = termination.ModeRequire // whoever chooses a CA means that it counts
		}
		if err := tx.UpdateEndpoint(e); err != nil {
			return err
		}
	}
	return nil
}

func (t *trustChange) authority() string {
	if t.into != "" {
		return t.into
	}
	return t.name
}

func (t *trustChange) writeAuthority(tx *store.Tx) error {
	if t.into == "" {
		_, err := tx.CreateAuthority(termination.Authority{Name: t.name, Certificates: t.certificates})
		return err
	}
	a, err := tx.Authority(t.into)
	if err != nil {
		return err
	}
	for _, c := range t.certificates {
		if !slices.ContainsFunc(a.Certificates, func(k termination.CACertificate) bool { return k.Certificate.Equal(c.Certificate) }) {
			a.Certificates = append(a.Certificates, c)
		}
	}
	return tx.UpdateAuthority(a)
}

func (t *trustChange) sentence() string {
	what := t.authority() + " is trusted"
	if len(t.certificates) == 0 {
		what = "The pin is set"
	} else if t.into != "" {
		what = "The certificates were added to " + t.into
	}
	if len(t.endpoints) == 0 {
		return what + ". No endpoint asks it yet."
	}
	return what + " for " + strings.Join(t.endpoints, ", ") + "."
}

// findAuthority returns the authority of a page's address, by ID or name.
func (s *Server) findAuthority(c echo.Context) (*termination.Authority, error) {
	ref, err := url.PathUnescape(c.Param("name"))
	if err != nil {
		ref = c.Param("name")
	}
	config := s.current()
	for i := range config.Authorities {
		if a := &config.Authorities[i]; a.ID == ref || a.Name == ref {
			return a, nil
		}
	}
	return nil, notFound(store.KindAuthority, ref)
}

func (s *Server) authorityPage(c echo.Context) error {
	return s.showAuthority(c, http.StatusOK, func(*views.Authority) {})
}

// showAuthority renders one authority; add may put an error on it first.
func (s *Server) showAuthority(c echo.Context, status int, add func(*views.Authority)) error {
	a, err := s.findAuthority(c)
	if err != nil {
		return err
	}
	p := s.view(c, a.Name, "drop.js")
	clients, err := s.store.AuthorityClients(c.Request().Context(), s.now().Add(-dependPeriod))
	if err != nil {
		return err
	}
	config := s.current()
	n := clients[a.Name]
	v := views.Authority{
		ID: a.ID, Title: a.Name, ReadOnly: a.Origin == termination.OriginFile,
		Tags: authorityTags(a, localAuthorities(config)[a.Name]), UsedBy: s.usersOf(config, a.Name),
		Name:    parts.Input{Name: "name", Label: "Name", Value: a.Name, Words: true},
		Clients: format.Count(int(n), "client", "clients") + " came in on it in the last 24 hours.",
		AskName: n > 0,
		Delete:  parts.Input{Name: "confirm", Label: "Type " + a.Name + " to confirm", Hint: format.Count(int(n), "client", "clients") + " of the last 24 hours would be turned away.", Words: true},
	}
	anchors := len(a.Anchors())
	for _, cert := range a.Certificates {
		v.Certificates = append(v.Certificates, authorityCertificate(p, cert, !v.ReadOnly && (cert.Role == termination.RoleHelper || anchors > 1)))
	}
	add(&v)
	return s.render(c, status, views.AuthorityPage(p, v))
}

func authorityCertificate(p views.Page, ca termination.CACertificate, canChange bool) views.AuthorityCertificate {
	cert := ca.Certificate
	f := termination.FingerprintOf(cert)
	v := views.AuthorityCertificate{
		Fingerprint: f.String(), Colons: opensslFingerprint(f), Role: ca.Role, CanChange: canChange,
		Item: parts.ChainItem{
			State: parts.ChainGood, Name: cert.Subject.String(), Tag: "helper", Details: []string{"issued by " + cert.Issuer.String()},
			Life: &parts.Life{From: cert.NotBefore, Until: cert.NotAfter, Now: p.Now},
		},
		Facts: []parts.Fact{
			{Name: "Valid", Value: p.Date(cert.NotBefore) + " to " + p.Date(cert.NotAfter), Note: p.Left(cert.NotBefore, cert.NotAfter)},
			{Name: "Key", Value: termination.KeyName(cert.PublicKey)},
			{Name: "Usages", Value: strings.Join(termination.UsageNames(cert), ", ")},
			{Name: "Serial", Value: cert.SerialNumber.Text(16)},
			{Name: "SHA-256", Value: opensslFingerprint(f)},
		},
	}
	if ca.Role == termination.RoleAnchor {
		v.Item.State, v.Item.Tag, v.Item.TagTone = parts.ChainAnchor, "anchor", parts.OK
	}
	return v
}

// opensslFingerprint is the form that openssl prints: upper-case pairs with colons.
func opensslFingerprint(f termination.Fingerprint) string {
	var b strings.Builder
	for i, c := range f {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	return b.String()
}

func (s *Server) authorityPEM(c echo.Context) error {
	a, err := s.findAuthority(c)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, cert := range a.Certificates {
		b.Write(views.ChainPEM(oneCertificate(cert)))
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+a.ID+`.pem"`)
	return c.Blob(http.StatusOK, "application/x-pem-file", b.Bytes())
}

func (s *Server) renameAuthority(c echo.Context) error {
	name := strings.TrimSpace(c.FormValue("name"))
	fail := func(problem string) error {
		return s.showAuthority(c, http.StatusUnprocessableEntity, func(v *views.Authority) { v.Name.Value, v.Name.Error = name, problem })
	}
	if err := termination.CheckName(name); err != nil {
		return fail(err.Error())
	}
	err := s.updateAuthority(c, func(a *termination.Authority) error { a.Name = name; return nil })
	var taken store.NameTakenError
	if errors.As(err, &taken) {
		return fail(taken.Error())
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", "The authority is called "+name+" now, also in every policy that names it.")
	return s.redirect(c, "/authorities")
}

func (s *Server) changeRole(c echo.Context) error {
	f, err := termination.ParseFingerprint(c.FormValue("fingerprint"))
	role := termination.Role(c.FormValue("role"))
	if err != nil || role != termination.RoleAnchor && role != termination.RoleHelper {
		return &Problem{Status: http.StatusBadRequest, Code: "form", Title: "That form is damaged"}
	}
	err = s.updateAuthority(c, func(a *termination.Authority) error {
		for i := range a.Certificates {
			if termination.FingerprintOf(a.Certificates[i].Certificate) == f {
				a.Certificates[i].Role = role
				return nil
			}
		}
		return notFound("certificate", f.Short())
	})
	if err != nil {
		return err
	}
	s.say(c, "ok", "The certificate is "+map[termination.Role]string{termination.RoleAnchor: "an anchor: chains may end there", termination.RoleHelper: "a helper: it completes chains and decides nothing"}[role]+".")
	return s.redirect(c, "/authorities/"+url.PathEscape(c.Param("name")))
}

func (s *Server) updateAuthority(c echo.Context, edit func(*termination.Authority) error) error {
	found, err := s.findAuthority(c)
	if err != nil {
		return err
	}
	_, err = s.change(c, func(tx *store.Tx) error {
		a, err := tx.Authority(found.ID)
		if err != nil {
			return err
		}
		if err := edit(&a); err != nil {
			return err
		}
		return tx.UpdateAuthority(a)
	})
	return err
}

func (s *Server) deleteAuthority(c echo.Context) error {
	a, err := s.findAuthority(c)
	if err != nil {
		return err
	}
	depends, err := s.dependsOn(c.Request().Context(), a.Name)
	if err != nil {
		return err
	}
	if depends && strings.TrimSpace(c.FormValue("confirm")) != a.Name {
		return s.showAuthority(c, http.StatusUnprocessableEntity, func(v *views.Authority) {
			v.Delete.Error = "Type the name exactly, since clients depend on it."
		})
	}
	_, err = s.change(c, func(tx *store.Tx) error { return tx.DeleteAuthority(a.ID) })
	var used store.InUseError
	var invalid termination.ValidationError
	if errors.As(err, &used) || errors.As(err, &invalid) {
		return s.showAuthority(c, http.StatusConflict, func(v *views.Authority) { v.Error = err.Error() })
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", a.Name+" is not trusted any more.")
	return s.redirect(c, "/authorities")
}

func (s *Server) dependsOn(ctx context.Context, authority string) (bool, error) {
	clients, err := s.store.AuthorityClients(ctx, s.now().Add(-dependPeriod))
	return clients[authority] > 0, err
}

// firstEnding returns the anchor that ends first, since that is when clients stop; the first certificate without one.
func firstEnding(a *termination.Authority) *x509.Certificate {
	var first *x509.Certificate
	for _, anchor := range a.Anchors() {
		if first == nil || anchor.NotAfter.Before(first.NotAfter) {
			first = anchor
		}
	}
	if first == nil && len(a.Certificates) > 0 {
		return a.Certificates[0].Certificate
	}
	return first
}

func oneCertificate(c termination.CACertificate) []*x509.Certificate {
	return []*x509.Certificate{c.Certificate}
}
