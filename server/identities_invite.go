package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/parts"
)

// registrationRows is how many invitations the page of clients shows.
const registrationRows = 50

func (s *Server) registrationItems(ctx context.Context, p views.Page) ([]views.RegistrationItem, error) {
	list, err := s.store.Registrations(ctx)
	if err != nil {
		return nil, err
	}
	var out []views.RegistrationItem
	for _, r := range list[:min(len(list), registrationRows)] {
		item := views.RegistrationItem{
			ID: r.ID, Name: r.Name, By: r.By, Tone: parts.Plain, State: "expired", When: "expired " + p.Relative(r.Expires), Exact: p.Exact(r.Expires),
			Endpoints: strings.Join(r.Endpoints, ", "),
		}
		switch {
		case !r.Used.IsZero():
			item.Tone, item.State, item.When, item.Exact = parts.OK, "used", "used "+p.Relative(r.Used)+" for "+r.Fingerprint.Short(), p.Exact(r.Used)
		case r.Open(p.Now):
			item.Tone, item.State, item.When = parts.Sealed, "open", "good until "+p.Moment(r.Expires)
			item.Withdraw = "/identities/invitations/" + r.ID + "/withdraw"
		}
		out = append(out, item)
	}
	return out, nil
}

// invitationLives are how long an invitation can be good.
func invitationLives() []struct {
	label string
	life  time.Duration
} {
	return []struct {
		label string
		life  time.Duration
	}{{"an hour", time.Hour}, {"a day", day}, {"a week", 7 * day}, {"30 days", 30 * day}}
}

// inviteForm is the form with what was chosen.
func (s *Server) inviteForm(config *termination.Config, identity, name, portal, ca, life string, endpoints []string) views.InviteClient {
	v := views.InviteClient{
		Name:      parts.Input{Name: "name", Label: "Name of a new client", Hint: "Left alone for a client that is there.", Value: name, Words: true},
		Endpoints: identityPlacesFor(config, endpoints),
		Existing:  []parts.Option{{Value: "", Label: "A new one", Selected: identity == ""}},
		CAs:       []parts.Option{{Value: "", Label: "Not accepted", Selected: ca == ""}},
		None:      true,
	}
	for _, i := range findIdentities(config, "") {
		if i.ID == identity || i.Name == identity {
			v.Existing = append(v.Existing, parts.Option{Value: i.ID, Label: i.Name, Selected: true})
		} else if !i.Origin.Fixed() && len(v.Existing) < 500 {
			v.Existing = append(v.Existing, parts.Option{Value: i.ID, Label: i.Name})
		}
	}
	for n := range config.Endpoints {
		e := &config.Endpoints[n]
		if !e.Upstream.Portal() {
			continue
		}
		v.None = false
		v.Portals = append(v.Portals, parts.Option{Value: e.ID, Label: e.Name + ", " + e.URL(), Selected: e.ID == portal || e.Name == portal})
		if m := e.ClientAuth.Mode; m != termination.ModeOff && m != termination.ModeOptional {
			v.Warning = "The endpoint " + e.Name + " has mode " + string(m) + ". Invited clients have no certificate that it knows yet: off or optional lets them reach the portal."
		}
		if !e.Enabled {
			v.Warning = "The endpoint " + e.Name + " is stopped, so its invitations cannot be used."
		}
	}
	for n := range config.LocalCAs {
		label := config.LocalCAs[n].Name
		if constrained(config.LocalCAs[n].Certificate) {
			label += ", which cannot sign DNS names but localhost"
		}
		v.CAs = append(v.CAs, parts.Option{Value: config.LocalCAs[n].Name, Label: label, Selected: config.LocalCAs[n].Name == ca})
	}
	for n, l := range invitationLives() {
		v.Lives = append(v.Lives, parts.Option{Value: l.label, Label: l.label, Selected: l.label == life || life == "" && n == 1})
	}
	return v
}

func (s *Server) inviteClientPage(c echo.Context) error {
	v := s.inviteForm(s.current(), c.QueryParam("identity"), "", "", "", "", nil)
	return s.render(c, http.StatusOK, views.InviteClientPage(s.view(c, "Invite a client"), v))
}

func (s *Server) inviteClient(c echo.Context) error {
	form, err := c.FormParams()
	if err != nil {
		return &Problem{Status: http.StatusBadRequest, Code: "form", Title: "That form is damaged", Err: err}
	}
	config := s.current()
	v := s.inviteForm(config, form.Get("identity"), strings.TrimSpace(form.Get("name")), form.Get("portal"), form.Get("ca"), form.Get("life"), form["endpoint"])
	again := func() error {
		return s.render(c, http.StatusUnprocessableEntity, views.InviteClientPage(s.view(c, "Invite a client"), v))
	}
	life := day
	for _, l := range invitationLives() {
		if l.label == form.Get("life") {
			life = l.life
		}
	}
	ask := store.Registration{Portal: form.Get("portal"), IdentityID: form.Get("identity"), Name: v.Name.Value, Endpoints: form["endpoint"], CA: form.Get("ca")}
	made, secret, err := s.store.CreateRegistration(c.Request().Context(), actorOf(c), ask, life)
	if err != nil {
		var taken store.NameTakenError
		var invalid termination.ValidationError
		switch {
		case errors.As(err, &taken):
			v.Name.Error = taken.Error()
		case errors.As(err, &invalid) && invalid[0].Field == "name":
			v.Name.Error = sentence(errors.New(invalid[0].Problem))
		case errors.As(err, &invalid):
			v.Error = invalid.Error()
		default:
			if p := storeProblem(err); p == nil {
				return err
			}
			v.Error = sentence(err)
		}
		return again()
	}
	p := s.view(c, "Invitation")
	v.For, v.Until, v.Link = made.Name, p.Moment(made.Expires), registrationLink(config, made.Portal, secret)
	v.Curl = "curl --data-binary @certificate.pem " + v.Link
	return s.render(c, http.StatusOK, views.InviteClientPage(p, v))
}

// registrationLink is where an invitation is used.
func registrationLink(config *termination.Config, portal, secret string) string {
	e := config.Endpoint(portal)
	if e == nil {
		return PortalPath + secret
	}
	return e.URL() + PortalPath + secret
}

func (s *Server) withdrawRegistration(c echo.Context) error {
	err := s.store.WithdrawRegistration(c.Request().Context(), actorOf(c), c.Param("id"))
	if err != nil {
		return err
	}
	s.say(c, "ok", "The invitation is withdrawn: its link leads nowhere.")
	return s.redirect(c, "/identities")
}
