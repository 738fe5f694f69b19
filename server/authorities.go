package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/simulation"
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
		Name: a.Name, Href: "/authorities/" + a.ID, ReadOnly: a.Origin.Fixed(),
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
		tags = append(tags, views.TagItem{Text: "from the first start"})
	case termination.OriginCommand:
		tags = append(tags, views.TagItem{Text: "made by a command, ends with it"})
	case termination.OriginDashboard:
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
			out = append(out, views.Link{Label: e.Name, Href: endpointPath(e)})
		}
	}
	return out
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
	if c.QueryParam("do") != "simulate" {
		return s.showAuthority(c, http.StatusOK, func(*views.Authority) {})
	}
	a, err := s.findAuthority(c)
	if err != nil {
		return err
	}
	would, err := s.rehearsal(c.Request().Context(), s.view(c, ""), simulation.Without(s.current(), a.Name), c.QueryParam("period"))
	if err != nil {
		return err
	}
	return s.showAuthority(c, http.StatusOK, func(v *views.Authority) { v.Would = would })
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
		ID: a.ID, Title: a.Name, ReadOnly: a.Origin.Fixed(), Command: a.Origin == termination.OriginCommand,
		Tags: authorityTags(a, localAuthorities(config)[a.Name]), UsedBy: s.usersOf(config, a.Name),
		Name:    parts.Input{Name: "name", Label: "Name", Value: a.Name, Words: true},
		Clients: format.Count(int(n), "client", "clients") + " came in on it in the last 24 hours.",
		AskName: n > 0,
		Delete:  parts.Input{Name: "confirm", Label: "Type " + a.Name + " to confirm", Hint: format.Count(int(n), "client", "clients") + " of the last 24 hours would be turned away.", Words: true},
	}
	v.Periods = periodOptions(c.QueryParam("period"))
	v.Revocation = s.revocationSection(p, a, nil)
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
			State: parts.ChainGood, Name: termination.NameText(cert.Subject), Tag: "helper", Details: []string{"issued by " + termination.NameText(cert.Issuer)},
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
