package server

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/parts"
)

// savedViewRoutes lists the routes of filters under a name.
func (s *Server) savedViewRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/live/views", handler: s.savedViewsPage},
		{method: http.MethodPost, path: "/live/views", handler: s.addSavedView},
		{method: http.MethodPost, path: "/live/views/:id", handler: s.updateSavedView},
		{method: http.MethodPost, path: "/live/views/:id/remove", handler: s.removeSavedView},
	}
}

// savedLinks are the saved views as they stand on the Live page. A page without them is better than none.
func (s *Server) savedLinks(c echo.Context, filter string) []views.SavedLink {
	list, err := s.store.SavedViews(c.Request().Context())
	if err != nil {
		s.log.Warn("saved views are not shown", "error", err)
		return nil
	}
	var out []views.SavedLink
	for _, v := range list {
		out = append(out, views.SavedLink{Name: v.Name, Filter: v.Filter, Href: liveLink(v.Filter, "", ""), Current: v.Filter == strings.TrimSpace(filter)})
	}
	return out
}

// savedViewsPage lists them, with a form that takes a filter over from the Live page.
func (s *Server) savedViewsPage(c echo.Context) error {
	return s.showSavedViews(c, http.StatusOK, savedViewForm("", c.QueryParam("f")))
}

func savedViewForm(name, filter string) views.SavedViews {
	return views.SavedViews{
		Name:   parts.Input{Name: "name", Label: "Name", Hint: "A word or two, for everybody who uses this gateway.", Value: name, Words: true, Required: true},
		Filter: parts.Input{Name: "f", Label: "Filter", Hint: "As on the Live page.", Value: filter, Placeholder: "outcome:failed endpoint:payments since:1h", Required: true},
	}
}

func (s *Server) showSavedViews(c echo.Context, status int, v views.SavedViews) error {
	list, err := s.store.SavedViews(c.Request().Context())
	if err != nil {
		return err
	}
	p := s.view(c, "Saved views")
	for _, saved := range list {
		v.Items = append(v.Items, views.SavedItem{
			ID: saved.ID, Name: saved.Name, Filter: saved.Filter, Href: liveLink(saved.Filter, "", ""), By: saved.By, When: p.Relative(saved.Created), Exact: p.Exact(saved.Created),
		})
	}
	return s.render(c, status, views.SavedViewsPage(p, v))
}

func (s *Server) addSavedView(c echo.Context) error {
	name, filter := c.FormValue("name"), c.FormValue("f")
	v, err := s.store.AddSavedView(c.Request().Context(), actorOf(c), name, filter)
	if err != nil {
		return s.refuseSavedView(c, savedViewForm(name, filter), err)
	}
	s.say(c, "ok", "The view "+v.Name+" is saved.")
	return s.redirect(c, liveLink(v.Filter, "", ""))
}

// refuseSavedView shows what was typed, and what is wrong at its field.
func (s *Server) refuseSavedView(c echo.Context, form views.SavedViews, err error) error {
	var invalid termination.ValidationError
	var taken store.NameTakenError
	switch {
	case errors.As(err, &taken):
		form.Name.Error = taken.Error()
	case errors.As(err, &invalid):
		for _, wrong := range invalid {
			text := strings.TrimSuffix(wrong.Problem+"; "+wrong.Advice, "; ")
			if wrong.Field == "filter" {
				form.Filter.Error = text
			} else {
				form.Name.Error = text
			}
		}
	default:
		return err
	}
	return s.showSavedViews(c, http.StatusUnprocessableEntity, form)
}

// updateSavedView renames a view. What is wrong with the new name is said on the page of errors: the list holds a form
// for each view, and none of them is the one to add.
func (s *Server) updateSavedView(c echo.Context) error {
	v, err := s.store.UpdateSavedView(c.Request().Context(), actorOf(c), c.Param("id"), c.FormValue("name"), nil)
	if err != nil {
		return err
	}
	s.say(c, "ok", "The view is now called "+v.Name+".")
	return s.redirect(c, "/live/views")
}

func (s *Server) removeSavedView(c echo.Context) error {
	v, err := s.store.RemoveSavedView(c.Request().Context(), actorOf(c), c.Param("id"))
	if err != nil {
		return err
	}
	s.say(c, "ok", "The view "+v.Name+" is removed. Its handshakes are where they were.")
	return s.redirect(c, "/live/views")
}

// saveLink leads from a filter to the form that saves it; empty: there is nothing to save.
func saveLink(filter string, saved []views.SavedLink) string {
	if strings.TrimSpace(filter) == "" {
		return ""
	}
	for _, v := range saved {
		if v.Current {
			return ""
		}
	}
	return "/live/views?" + url.Values{"f": {filter}}.Encode()
}
