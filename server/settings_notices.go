package server

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/parts"
)

// shownNotices is how many of the last notices the settings page shows.
const shownNotices = 20

// noticeForm is the form for whom to tell. Address and secret never come back: empty fields keep what is kept.
func noticeForm(n store.Notifications) views.NoticeSettings {
	f := views.NoticeSettings{
		Webhook: parts.Input{Name: "webhook", Label: "Webhook", Hint: "An http or https address that notices are posted to. Sealed before it is stored, and never shown again. Empty: the one that is kept.", Placeholder: "https://hooks.example.com/countersign"},
		Secret:  parts.Input{Name: "hook_secret", Label: "Its secret", Type: "password", Hint: "Signs what is posted, so that the receiver knows who it comes from: openssl rand -hex 32. Empty: the one that is kept."},
		On:      n.Webhook != "",
	}
	words := map[store.NoticeKind]string{
		store.NoticeClientFailed: "A client that was let in before is not, once for each reason in an hour",
		store.NoticeExpiry:       "A CA, a list, a server's or a client's certificate ends",
		store.NoticeSoftware:     "A client comes with other software than it used for long",
		store.NoticeAgentOffline: "An agent is offline",
	}
	for _, k := range store.NoticeKinds() {
		f.Kinds = append(f.Kinds, parts.Option{Value: string(k), Label: words[k], Selected: len(n.Kinds) == 0 || slices.Contains(n.Kinds, k)})
	}
	return f
}

// saveNotices keeps whom to tell.
func (s *Server) saveNotices(c echo.Context) error {
	ctx := c.Request().Context()
	kept, err := s.store.Notifications(ctx)
	if err != nil {
		return err
	}
	wanted := store.Notifications{Webhook: strings.TrimSpace(c.FormValue("webhook")), Secret: strings.TrimSpace(c.FormValue("hook_secret"))}
	if wanted.Webhook == "" {
		wanted.Webhook = kept.Webhook
	}
	if wanted.Secret == "" && wanted.Webhook == kept.Webhook { // a secret is for one receiver
		wanted.Secret = kept.Secret
	}
	if c.FormValue("off") != "" {
		wanted.Webhook, wanted.Secret = "", ""
	}
	for _, k := range c.Request().PostForm["kinds"] {
		wanted.Kinds = append(wanted.Kinds, store.NoticeKind(k))
	}
	if len(wanted.Kinds) == 0 && wanted.Webhook != "" {
		form := noticeForm(kept)
		form.Webhook.Value, form.Error = c.FormValue("webhook"), "Choose at least one kind of notice, or forget the webhook."
		return s.showSettingsWith(c, http.StatusUnprocessableEntity, settingsForms{notices: &form})
	}
	_, err = s.change(c, func(tx *store.Tx) error { return tx.SetNotifications(wanted) })
	if invalid, ok := errors.AsType[termination.ValidationError](err); ok {
		form := noticeForm(wanted)
		form.Webhook.Value, form.On = c.FormValue("webhook"), kept.Webhook != ""
		for _, f := range invalid {
			text := fullStop(capital(f.Problem)) + " " + fullStop(capital(f.Advice))
			switch f.Field {
			case "secret":
				form.Secret.Error = text
			case "webhook":
				form.Webhook.Error = text
			default:
				form.Error = text
			}
		}
		return s.showSettingsWith(c, http.StatusUnprocessableEntity, settingsForms{notices: &form})
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", "Notices saved.")
	return s.redirect(c, "/settings#notices")
}

// testNotices posts a notice now.
func (s *Server) testNotices(c echo.Context) error {
	if s.opts.Notices == nil {
		return echo.ErrNotFound
	}
	if err := s.opts.Notices.Test(c.Request().Context()); err != nil {
		return err
	}
	s.say(c, "ok", "The webhook took the test.")
	return s.redirect(c, "/settings#notices")
}

// noticeSettings fills in what the settings page shows of notices.
func (s *Server) noticeSettings(c echo.Context, p views.Page, filled *views.NoticeSettings) (views.NoticeSettings, error) {
	ctx := c.Request().Context()
	if filled == nil {
		kept, err := s.store.Notifications(ctx)
		if err != nil {
			return views.NoticeSettings{}, err
		}
		form := noticeForm(kept)
		filled = &form
	}
	last, err := s.store.Notices(ctx, "", shownNotices)
	if err != nil {
		return views.NoticeSettings{}, err
	}
	out := *filled
	for _, n := range last {
		out.Last = append(out.Last, views.NoticeItem{When: p.Relative(n.Time), Title: n.Title, Text: n.Text, Href: n.Href})
	}
	return out, nil
}
