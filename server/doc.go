// Package server is the dashboard: pages, the JSON API and the live socket, over echo. Every echo type stays in here.
//
// A request's way: secure (headers of every response, Host against a fixed list, Origin) → the route of the one list in
// routes.go → enter (size and type of the body, session or token, the form's token) → the handler → an answer, or an
// error that errors.go alone turns into a status, a page or a problem document.
//
// To add a page:
//
//  1. Write server/<page>.go with a method that lists its routes, such as authorityRoutes, and handlers of the form
//     func (s *Server) name(c echo.Context) error. routes.go calls the list already. Once GET /authorities stands in
//     the list, the rail shows Trust; the same for /live, /endpoints and /certificates.
//  2. A handler reads the form, makes one call into the domain and one into the store, and answers:
//     s.render(c, http.StatusOK, views.X(s.view(c, "Title", "script.js"), …)).
//  3. A form that cannot be carried out is rendered again with status 422, the error at its field in words and what was
//     typed kept. One that was carried out ends with s.say(c, "ok", "Sentence.") and s.redirect(c, "/where").
//  4. Changes of the configuration go through s.change, which stores, applies and audits them as one.
//  5. Return errors, wrapped with what was being done: &Problem{Status, Title, Detail, Advice} or notFound(kind, name)
//     for what a person can mend; anything else becomes "something failed here" with an id that is in the log. Errors
//     of the store and termination.ValidationError are translated already.
//  6. A larger body (uploads) says so in its route: body: 1 << 20. Other media types: types.
//
// The tests walk the list of routes: Host, Origin, sessions, tokens, content types and "no change by GET" hold for a
// route from the moment that it stands there. For a page's own tests, harness_test.go has start and signedIn (a dashboard
// over a store, a gateway and a hub of its own), browser_test.go drives Chromium (open checks the policy, axe the
// accessibility, sideways the width, picture keeps a picture), and welcome_test.go has realDemo (an endpoint that
// listens, with the files of its client).
//
// No handler of GET changes anything. Names from certificates, files and the wire are hostile text.
package server
