package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/clienterror"
)

// Handshake is the record of one attempt to get in.
type Handshake struct {
	*termination.Handshake
	Mark        termination.Mark           `json:"mark,omitempty" doc:"The shape that somebody gave it to find it again."`
	DurationMS  float64                    `json:"duration_ms"`
	StagesMS    map[string]float64         `json:"stages_ms" doc:"hello, reply, wait, check; a stage that did not run is left out."`
	Certificate []X509                     `json:"presented,omitempty" doc:"As the client sent it; only the first is proven, and only when the handshake got to beat 5."`
	PathToTrust []X509                     `json:"path,omitempty" doc:"Leaf to anchor, where a chain was found."`
	Printed     []clienterror.Printed      `json:"printed,omitempty" doc:"What the client's tool has probably printed, one line for each tool; only where one handshake is shown."`
	End         *termination.ConnectionEnd `json:"end,omitempty" doc:"Absent: the connection is open, or its end was not kept."`
}

// Handshakes is a page of records, newest first.
type Handshakes struct {
	Items    []Handshake `json:"items"`
	Cursor   string      `json:"cursor,omitempty" doc:"Give it as before to go on; absent: there is nothing older."`
	Searched *time.Time  `json:"searched_until,omitempty" doc:"A filter that matches little is given up after a while: down to this time was searched; go on with the cursor."`
}

func (a *API) handshakes() {
	const tag = "Handshakes"
	a.documentLive()
	a.documentExport()
	register(a, operation{method: http.MethodGet, path: "/handshakes", summary: "Search recorded handshakes, newest first", scope: store.ScopeRead, tag: tag},
		func(ctx context.Context, in *struct {
			Filter string `query:"f" maxLength:"1024" doc:"As on the page, such as: outcome:refused endpoint:payments since:15m"`
			Before string `query:"before" maxLength:"20" doc:"A cursor."`
			Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
		},
		) (*one[Handshakes], error) {
			query := store.HistoryQuery{Limit: in.Limit}
			var err error
			if query.Filter, err = termination.ParseFilter(in.Filter, time.Now()); err != nil {
				return nil, termination.ValidationError{{Kind: "filter", Field: "f", Problem: err.Error()}}
			}
			if in.Before != "" {
				if query.Before, err = strconv.ParseUint(in.Before, 10, 64); err != nil {
					return nil, termination.ValidationError{{Kind: "cursor", Field: "before", Problem: fmt.Sprintf("%q is no cursor", in.Before), Advice: "use the one that the page before came with"}}
				}
			}
			page, err := a.options.Store.Handshakes(ctx, query)
			if err != nil {
				return nil, err
			}
			return &one[Handshakes]{pageOf(page)}, nil
		})
	register(a, operation{method: http.MethodGet, path: "/handshakes/{ref}", summary: "Show a handshake with the certificates that were presented", scope: store.ScopeRead, tag: tag},
		func(ctx context.Context, in *Named) (*one[Handshake], error) {
			record, err := a.options.Store.Handshake(ctx, in.Ref)
			if err != nil {
				return nil, err
			}
			a.options.Explain(record)
			h := HandshakeOf(record)
			h.Printed = clienterror.Lines(record.Handshake)
			return &one[Handshake]{h}, nil
		})
}

// documentLive describes the WebSocket, which is served beside the operations.
func (a *API) documentLive() {
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "get-handshakes-live", Method: http.MethodGet, Path: Prefix + "/handshakes/live", Tags: []string{"Handshakes"},
		Summary: "Watch handshakes live, over a WebSocket",
		Description: "Scope: read. Text frames of JSON. Send {\"op\":\"sub\",\"f\":FILTER,\"after\":SEQ} first, and again to change the filter (a number sent as n comes back in hi, from where on the stream follows it); " +
			"receive hi (the legend), ev (events), gap (events that are not shown), st (counters of one second) and err (a filter that was not understood). " +
			"To come back without gap or duplicate, send the highest number seen as after.",
		Responses: map[string]*huma.Response{"101": {Description: "Switching protocols (RFC 6455)"}},
	})
}

// documentExport describes what is streamed or packed, and so is served beside the operations.
func (a *API) documentExport() {
	text := func(name, doc string) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "get-handshakes-export", Method: http.MethodGet, Path: Prefix + "/handshakes/export", Tags: []string{"Handshakes"},
		Summary: "Export what a filter selects, newest first, as CSV or JSON Lines",
		Description: "Scope: read. Streamed. The last line says whether this is all: {\"end\":{…}}, or a row that begins with \"(end)\"; without it, the answer broke off on its way. " +
			"In CSV, text from strangers that could begin a formula has an apostrophe before it, and what cannot be seen stands as its number.",
		Parameters: []*huma.Param{
			text("f", "As on the page."), text("before", "The cursor of an export that was cut off."),
			{Name: "format", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"jsonl", "csv"}, Default: "jsonl"}},
		},
		Responses: map[string]*huma.Response{"200": {Description: "The export", Content: map[string]*huma.MediaType{"application/jsonl": {}, "text/csv": {}}}},
	})
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "get-handshakes-ref-bundle.zip", Method: http.MethodGet, Path: Prefix + "/handshakes/{ref}/bundle.zip", Tags: []string{"Handshakes"},
		Summary:     "Download a handshake for the owner of its client: explanation, record and chain, as a zip archive",
		Description: "Scope: read. What is ours stays out: names of endpoints and identities, policies, the service behind; addresses come in only with addresses=1.",
		Parameters: []*huma.Param{
			{Name: "ref", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}, text("addresses", "1: with the addresses of client and gateway."),
		},
		Responses: map[string]*huma.Response{"200": {Description: "The archive", Content: map[string]*huma.MediaType{"application/zip": {}}}},
	})
}

func pageOf(page store.HistoryPage) Handshakes {
	out := Handshakes{Items: []Handshake{}}
	for _, r := range page.Records {
		out.Items = append(out.Items, HandshakeOf(r))
	}
	if page.Next != 0 {
		out.Cursor = strconv.FormatUint(page.Next, 10)
	}
	if !page.Searched.IsZero() {
		out.Searched = &page.Searched
	}
	return out
}

// HandshakeOf is a record as the API shows it.
func HandshakeOf(r store.Record) Handshake {
	out := Handshake{Handshake: r.Handshake, End: r.End, Mark: r.Mark, DurationMS: milliseconds(r.Handshake.Duration), StagesMS: map[string]float64{}}
	s := r.Handshake.Stages
	for name, d := range map[string]time.Duration{"hello": s.Hello, "reply": s.Reply, "wait": s.Wait, "check": s.Check} {
		if d >= 0 {
			out.StagesMS[name] = milliseconds(d)
		}
	}
	for _, c := range r.Handshake.Presented {
		out.Certificate = append(out.Certificate, describe(c))
	}
	for _, c := range r.Handshake.Path {
		out.PathToTrust = append(out.PathToTrust, describe(c))
	}
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
