// Package api is the JSON API under /api/v1: the same objects as on the pages, in the words of the configuration file,
// and an OpenAPI 3.1 document that is generated from the types and operations in here.
//
// It knows nothing of sessions, tokens, Host or Origin: package server stands before it, as before the pages.
package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/acme"
	"countersign/termination/gateway"
	"countersign/termination/proof"
	"countersign/termination/revocation"
)

// Prefix is the path of all operations.
const Prefix = "/api/v1"

// DocumentPath is where the OpenAPI document is found.
const DocumentPath = Prefix + "/openapi.json"

// Options are what the API works on.
type Options struct {
	TestNotices func(context.Context) error // posts a notice to the webhook now
	Store       *store.Store
	Current     func() *termination.Config // the configuration in force
	// Change stores, applies and audits as one; who asks is in the context.
	Change func(context.Context, func(*store.Tx) error) (*termination.Config, error)
	Status func() gateway.Status // nil: nothing is served
	ACME   func() acme.Status    // nil: nothing is obtained
	// Revocation tells how revocation lists are doing, and FetchRevocation has those of an authority fetched soon; nil:
	// nothing is served.
	Revocation      func() []revocation.Status
	FetchRevocation func(authority string)
	// Invite makes an invitation of an agent on behalf of who stands in the context.
	Invite func(context.Context, InviteRequest) (NewInvitation, error)
	Actor  func(context.Context) store.Actor // who stands in the context
	// CredentialUses tells when credentials were used last, by ID.
	CredentialUses func(context.Context) (map[string]store.CredentialUse, error)
	// Explain fills in what is said of a stored record, which is the caller's own.
	Explain func(store.Record)
	// Prove makes real handshakes with an endpoint and compares.
	Prove func(context.Context, string) (*proof.Report, error)
	// Rehearse returns the configuration that a change would lead to, and keeps nothing of it.
	Rehearse func(context.Context, func(*store.Tx) error) (*termination.Config, error)
	// Simulate judges the clients of some endpoints, as they came since a time, under another configuration; nil: of all
	// endpoints that it affects.
	Simulate func(context.Context, *termination.Config, []string, time.Time) (*Simulated, error)
	// Pulse sums up the handshakes that a filter selects in a period such as 15m.
	Pulse func(ctx context.Context, filter, period string) (Pulse, error)
	// BeginExplanation waits for one of the places of what is costly to explain; end gives it back.
	BeginExplanation func(context.Context) (end func(), err error)
	// Judge judges certificates at the endpoints; nil: nothing is served.
	Judge Judge
	Now   func() time.Time
	// Problem turns an error into the problem document that answers it (RFC 9457), and logs what is internal.
	Problem func(context.Context, error) Problem
	Version string
	// Visible writes what would not show in a JSON text as escapes.
	Visible func([]byte) []byte
}

// Problem is a problem document with its status. Its JSON is the document.
type Problem interface {
	huma.StatusError
	ContentType(string) string
}

// API answers the operations.
type API struct {
	options    Options
	mux        *http.ServeMux
	huma       huma.API
	operations []Operation
}

// Operation is one line of the list of operations.
type Operation struct {
	Method string
	Path   string // with {name} for parameters
	Scope  store.Scope
	Body   int64 // the largest body in bytes; 0: none
}

// New builds the API.
func New(o Options) *API {
	a := &API{options: o, mux: http.NewServeMux()}
	config := huma.DefaultConfig("Countersign", o.Version)
	config.Info.Description = "Mutual TLS in front of any service, and every handshake as it happens."
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // no $schema links: there is nothing to fetch behind them
	config.Formats = map[string]huma.Format{"application/json": visibleJSON(o.Visible), "json": visibleJSON(o.Visible)}
	config.RejectUnknownQueryParameters = true
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer", Description: "An API token: countersign token create NAME --scope read"},
		"session": {Type: "apiKey", In: "cookie", Name: "countersign_session", Description: "A browser that signed in"},
	}
	config.Security = []map[string][]string{{"token": {}}, {"session": {}}}
	a.huma = humago.New(a.mux, config)
	a.authorities()
	a.revocation()
	a.certificates()
	a.endpoints()
	a.proofs()
	a.simulations()
	a.handshakes()
	a.savedViews()
	a.marks()
	a.pulses()
	a.handshakeRows()
	a.notices()
	a.agents()
	a.identities()
	a.clients()
	a.registrations()
	a.credentials()
	a.blocks()
	a.explains()
	a.about()
	return a
}

// visibleJSON is JSON whose texts from strangers do nothing to a terminal: JSON itself asks for no escapes but those of
// characters below U+0020, and leaves C1 controls and bidirectional marks as they are.
func visibleJSON(visible func([]byte) []byte) huma.Format {
	return huma.Format{
		Marshal: func(w io.Writer, v any) error {
			var text bytes.Buffer
			if err := huma.DefaultJSONFormat.Marshal(&text, v); err != nil {
				return err
			}
			_, err := w.Write(visible(text.Bytes()))
			return err
		},
		Unmarshal: huma.DefaultJSONFormat.Unmarshal,
	}
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Operations lists what the API answers.
func (a *API) Operations() []Operation { return slices.Clone(a.operations) }

// Document is the OpenAPI 3.1 document as JSON.
func (a *API) Document() ([]byte, error) { return a.huma.OpenAPI().MarshalJSON() }

// operation is what the list and the document need to know of one.
type operation struct {
	method, path, summary string
	scope                 store.Scope
	body                  int64
	status                int
	tag                   string
}

const (
	smallBody = 64 << 10
	largeBody = 1 << 20 // a full upload as JSON
)

// register adds an operation; errors of its handler become problem documents.
func register[I, O any](a *API, op operation, handler func(context.Context, *I) (*O, error)) {
	a.operations = append(a.operations, Operation{Method: op.method, Path: Prefix + op.path, Scope: op.scope, Body: op.body})
	huma.Register(a.huma, huma.Operation{
		OperationID:   operationID(op),
		Method:        op.method,
		Path:          Prefix + op.path,
		Summary:       op.summary,
		Tags:          []string{op.tag},
		DefaultStatus: op.status,
		MaxBodyBytes:  op.body,
		Description:   "Scope: " + string(op.scope) + ".",
		Errors:        []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, a.options.Problem(ctx, err)
		}
		return out, nil
	})
}

// operationID is the method and the path in words, as in get-endpoints-name.
func operationID(op operation) string {
	path := strings.NewReplacer("{", "", "}", "", "/", "-").Replace(strings.TrimPrefix(op.path, "/"))
	return strings.ToLower(op.method) + "-" + path
}

// Named is the input of operations on one object. It is exported so that it can be embedded: the reader of inputs
// cannot fill what reflection may not set.
type Named struct {
	Ref string `path:"ref" doc:"Name or ID." maxLength:"200"`
}

// list is the output of operations that list all objects of a kind; there are at most some hundreds of each.
type list[T any] struct {
	Body struct {
		Revision uint64 `json:"revision" doc:"Number of the configuration that this is from."`
		Items    []T    `json:"items"`
	}
}

func listOf[T any](revision uint64, items []T) *list[T] {
	var out list[T]
	out.Body.Revision = revision
	out.Body.Items = items
	if items == nil {
		out.Body.Items = []T{}
	}
	return &out
}

// one is the output of operations on one object.
type one[T any] struct{ Body T }
