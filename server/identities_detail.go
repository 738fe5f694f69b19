package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"slices"
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

func (s *Server) identityPage(c echo.Context) error {
	return s.showIdentity(c, http.StatusOK, func(*views.Identity) {})
}

// showIdentity renders one identity; add may put an error on it first.
func (s *Server) showIdentity(c echo.Context, status int, add func(*views.Identity)) error {
	i, err := s.findIdentity(c)
	if err != nil {
		return err
	}
	p, ctx, config := s.view(c, i.Name), c.Request().Context(), s.current()
	seen, err := s.store.IdentitySightings(ctx, i.ID)
	if err != nil {
		return err
	}
	var last store.IdentitySighting
	if len(seen) > 0 {
		last = seen[0]
	}
	v := views.Identity{
		Title: i.Name, Path: identityPath(i), ReadOnly: i.Origin.Fixed(), Blocked: i.Blocked, Tags: identityTags(i),
		Lead: identityLead(p, i, last), Live: "/live?" + url.Values{"f": {`identity:"` + i.Name + `"`}}.Encode(),
		Warnings: identityWarnings(config, i), Form: identityFormOf(config, i), YAML: identityYAML(i),
		Upload:  parts.Input{Name: "text", Label: "Or paste it", Rows: 4, Placeholder: "-----BEGIN CERTIFICATE-----"},
		Periods: periodOptions(c.FormValue("period")),
		Confirm: parts.Input{Name: "confirm", Label: "Type " + i.Name + " to confirm", Words: true},
		Invite:  "/identities/invite?" + url.Values{"identity": {i.ID}}.Encode(),
	}
	v.Tone, v.Mark, v.State = identityTag(identityStateOf(i, last, p.Now))
	if v.Certificates, err = s.identityCertificates(ctx, p, i, seen, !v.ReadOnly); err != nil {
		return err
	}
	for _, m := range i.Matches {
		v.Matches = append(v.Matches, matchText(m))
	}
	for _, issuer := range i.Issuers {
		v.Issuers = append(v.Issuers, parts.ChainItem{
			State: parts.ChainGood, Name: termination.NameText(issuer.Subject), Details: []string{"issued by " + termination.NameText(issuer.Issuer)},
			Life: &parts.Life{From: issuer.NotBefore, Until: issuer.NotAfter, Now: p.Now},
		})
	}
	days, err := s.store.IdentityDays(ctx, i.ID)
	if err != nil {
		return err
	}
	v.Chart = identityChart(days, p.Now)
	add(&v)
	return s.render(c, status, views.IdentityPage(p, v))
}

func identityLead(p views.Page, i *termination.Identity, last store.IdentitySighting) string {
	where := "It has no endpoint of its own: it is a name for a client that comes in by other means."
	if len(i.Endpoints) > 0 {
		where = "It may come in at " + strings.Join(i.Endpoints, ", ") + " and nowhere else."
	}
	if last.Last.IsZero() {
		return where + " It was never seen."
	}
	return where + fmt.Sprintf(" It was seen %s at %s, from %s.", p.Relative(last.Last), last.Endpoint, last.Address)
}

// identityWarnings says what keeps an identity out although it is registered.
func identityWarnings(config *termination.Config, i *termination.Identity) []string {
	var out []string
	for _, name := range i.Endpoints {
		e := config.Endpoint(name)
		if e == nil {
			continue
		}
		if !e.Enabled {
			out = append(out, fmt.Sprintf("The endpoint %s is stopped.", name))
		}
		asks, trusted := e.ClientAuth.Mode.Asks(), config.Effective(e.ClientAuth).Authorities
		for _, r := range e.Routes {
			if r.ClientAuth != nil {
				asks = asks || r.ClientAuth.Mode.Asks()
				trusted = append(slices.Clone(trusted), config.Effective(*r.ClientAuth).Authorities...)
			}
		}
		if !asks {
			out = append(out, fmt.Sprintf("The endpoint %s asks nobody for a certificate, so it never learns who comes.", name))
			continue
		}
		for _, m := range i.Matches {
			if !slices.Contains(trusted, m.Authority) {
				out = append(out, fmt.Sprintf("The endpoint %s does not trust the authority %s, under which it would be known by name.", name, m.Authority))
			}
		}
	}
	return out
}

// identityCertificates lists the pins, with what is known of each.
func (s *Server) identityCertificates(ctx context.Context, p views.Page, i *termination.Identity, seen []store.IdentitySighting, canChange bool) ([]views.IdentityCertificate, error) {
	added, err := s.store.IdentityPins(ctx, i.ID)
	if err != nil {
		return nil, err
	}
	var out []views.IdentityCertificate
	for _, pin := range i.Pins {
		cert := i.Certificate(pin)
		v := views.IdentityCertificate{Pin: pin.String(), CanDrop: canChange, DropText: "Remove " + pin.Fingerprint.Short()}
		v.Item = parts.ChainItem{State: parts.ChainGood, Name: "A certificate known by its fingerprint alone"}
		if pin.Key {
			v.Item.Name = "A key: any certificate for it"
		}
		if cert != nil {
			v.Item.Name, v.Item.Details = termination.NameText(cert.Subject), []string{issuedBy(cert)}
			v.Item.Life = &parts.Life{From: cert.NotBefore, Until: cert.NotAfter, Now: p.Now}
			v.Facts = append(v.Facts, parts.Fact{Name: "Valid", Value: p.Date(cert.NotBefore) + " to " + p.Date(cert.NotAfter), Note: p.Left(cert.NotBefore, cert.NotAfter)},
				parts.Fact{Name: "Key", Value: termination.KeyName(cert.PublicKey)})
			if p.Now.After(cert.NotAfter) {
				v.Item.State = parts.ChainBroken
			}
		}
		v.Facts = append(v.Facts, parts.Fact{Name: "SHA-256", Value: opensslFingerprint(pin.Fingerprint)})
		for _, a := range added {
			if a.Pin == pin {
				v.Facts = append(v.Facts, parts.Fact{Name: "Registered", Value: p.Moment(a.Added)})
			}
		}
		when := "never"
		for n, sight := range seen {
			if !pin.Key && sight.Fingerprint == pin.Fingerprint {
				when = fmt.Sprintf("first %s, last %s at %s from %s", p.Moment(sight.First), p.Relative(sight.Last), sight.Endpoint, sight.Address)
				v.Item.Tag, v.Item.TagTone = "seen "+p.Relative(sight.Last), parts.Plain
				if n == 0 {
					v.Item.Tag, v.Item.TagTone = "used last", parts.OK
				}
			}
		}
		if !pin.Key {
			v.Facts = append(v.Facts, parts.Fact{Name: "Seen", Value: when})
		}
		out = append(out, v)
	}
	return out, nil
}

func issuedBy(cert *x509.Certificate) string {
	if bytes.Equal(cert.RawSubject, cert.RawIssuer) {
		return "signed by itself"
	}
	return "issued by " + termination.NameText(cert.Issuer)
}

// matchText writes a match as people type it.
func matchText(m termination.Subject) string {
	return strings.TrimPrefix(termination.RulesText([]termination.Rule{{Effect: termination.EffectAllow, Subject: m}}), "allow ")
}

// identityChart draws thirty days.
func identityChart(days []store.IdentityDay, now time.Time) views.IdentityChart {
	const shown, width, height = 30, 300.0, 38.0
	today := now.UTC().Truncate(24 * time.Hour)
	var v views.IdentityChart
	var handshakes, requests, most int64
	for _, d := range days {
		handshakes, requests = handshakes+d.Handshakes, requests+d.Requests
		most = max(most, d.Handshakes+d.Requests)
	}
	if most == 0 {
		v.Summary = "It did not come in during the last 30 days."
		return v
	}
	v.Summary = fmt.Sprintf("%s and %s on %s of the last 30. Requests are counted on the day on which their connection ends.",
		format.Count(int(handshakes), "handshake", "handshakes"), format.Count(int(requests), "request", "requests"), format.Count(len(days), "day", "days"))
	step := width / shown
	for _, d := range days {
		ago := int(today.Sub(d.Day) / (24 * time.Hour))
		if ago < 0 || ago >= shown {
			continue
		}
		h := max(height*float64(d.Handshakes+d.Requests)/float64(most), 1)
		number := func(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
		v.Bars = append(v.Bars, views.ChartBar{X: number(float64(shown-1-ago)*step + 1), Y: number(39 - h), Width: number(step - 2), Height: number(h)})
	}
	for n := len(days) - 1; n >= 0; n-- {
		v.Rows = append(v.Rows, views.ChartRow{Day: days[n].Day.Format("2006-01-02"), Handshakes: format.Int(int(days[n].Handshakes)), Requests: format.Int(int(days[n].Requests))})
	}
	return v
}

// identityYAML is the identity as it stands in a file.
func identityYAML(i *termination.Identity) string {
	var b strings.Builder
	b.WriteString("identities:\n  - name: " + yamlText(i.Name) + "\n")
	list := func(key string, values []string) {
		if len(values) > 0 {
			b.WriteString("    " + key + ": [" + strings.Join(values, ", ") + "]\n")
		}
	}
	var pins, matches, endpoints []string
	for _, pin := range i.Pins {
		pins = append(pins, strconv.Quote(pin.String()))
	}
	for _, m := range i.Matches {
		matches = append(matches, m.String())
	}
	for _, e := range i.Endpoints {
		if e != termination.EndpointElsewhere {
			endpoints = append(endpoints, yamlText(e))
		}
	}
	list("pins", pins)
	list("match", matches)
	list("endpoints", endpoints)
	if i.Rate.Limited() {
		b.WriteString("    rate: " + i.Rate.String() + "\n")
		if i.Rate.Burst > 0 {
			b.WriteString("    burst: " + strconv.Itoa(i.Rate.Burst) + "\n")
		}
	}
	if i.Blocked {
		b.WriteString("    blocked: true\n")
	}
	return b.String()
}

// yamlText quotes a name: it may look like a number or a truth value. Names hold nothing that JSON escapes.
func yamlText(s string) string { return strconv.Quote(s) }
