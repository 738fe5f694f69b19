package server

import (
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"countersign/store"
)

// apiPrefix is the path of everything that is answered with JSON.
const apiPrefix = "/api/"

// kind says how a route answers, and so how its errors look.
type kind int

const (
	kindPage   kind = iota // HTML, or a part of it
	kindAPI                // JSON; errors are problem documents
	kindSocket             // a WebSocket
	kindFile               // a file of ours, plain text errors
	kindHealth             // for machines that watch, plain text
)

// access says who may use a route.
type access int

const (
	needSession access = iota // whoever signed in
	needToken                 // whoever signed in, or a bearer token of the route's scope
	open                      // everybody on this machine
)

// route is one line of the list of routes. The tests walk the list, so every rule about Host, Origin, sessions and
// changes holds for a route from the moment that it stands there.
type route struct {
	method  string
	path    string
	kind    kind
	access  access
	scope   store.Scope // for needToken
	body    int64       // largest body in bytes; 0: defaultBody for a method that has one
	types   []string    // media types of the body; nil: JSON for the API, a form for pages
	handler echo.HandlerFunc
}

// defaultBody is the largest body of a form or of a JSON document, in bytes.
const defaultBody = 64 << 10

// routes is the one list of everything that the dashboard answers.
func (s *Server) routes() []route {
	return slices.Concat(
		[]route{
			{method: http.MethodGet, path: "/healthz", kind: kindHealth, access: open, handler: s.healthz},
			{method: http.MethodGet, path: "/readyz", kind: kindHealth, access: open, handler: s.readyz},
			{method: http.MethodGet, path: "/static/*", kind: kindFile, access: open, handler: s.staticFile},
			{method: http.MethodGet, path: "/favicon.ico", kind: kindFile, access: open, handler: s.favicon},

			{method: http.MethodGet, path: "/sign-in", access: open, handler: s.signInPage},
			{method: http.MethodPost, path: "/sign-in", access: open, handler: s.signIn},
			{method: http.MethodPost, path: "/sign-out", handler: s.signOut},

			{method: http.MethodGet, path: "/", access: open, handler: s.firstPage},
			{method: http.MethodGet, path: "/welcome", handler: s.welcomePage},
			{method: http.MethodPost, path: "/welcome/try", handler: s.welcomeTry},

			{method: http.MethodGet, path: "/api/v1/handshakes/live", kind: kindSocket, access: needToken, scope: store.ScopeRead, handler: s.liveStream},
		},
		s.metricsRoutes(),
		s.settingsRoutes(),
		s.partsRoutes(),
		s.liveRoutes(),
		s.savedViewRoutes(),
		s.exportRoutes(),
		s.markRoutes(),
		s.endpointRoutes(),
		s.authorityRoutes(),
		s.revocationRoutes(),
		s.certificateRoutes(),
		s.agentRoutes(),
		s.identityRoutes(),
		s.clientRoutes(),
		s.credentialRoutes(),
		s.blockRoutes(),
		s.explainRoutes(),
		s.apiRoutes(),
	)
}

// has reports whether a page is built; the rail shows only those.
func (s *Server) has(path string) bool {
	return slices.ContainsFunc(s.list, func(r route) bool { return r.method == http.MethodGet && r.path == path })
}

// register hands the list to echo.
func (s *Server) register(e *echo.Echo) {
	for _, r := range s.list {
		e.Add(r.method, r.path, r.handler, s.enter(r))
	}
}
