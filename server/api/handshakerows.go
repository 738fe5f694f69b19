package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live"
)

// Rows is a page of recorded handshakes in the form in which the live stream tells them.
type Rows struct {
	Events    []live.Event   `json:"e" doc:"Newest first; numbers of outcomes are those of the stream's hi."`
	Endpoints map[int]string `json:"endpoints" doc:"What the numbers of endpoints in this answer mean."`
	Cursor    string         `json:"cursor,omitempty" doc:"Give it as before to go on; absent: there is nothing older."`
	Searched  *time.Time     `json:"searched_until,omitempty" doc:"Fewer than limit were found in time: down to this time was searched; go on with the cursor."`
}

func (a *API) handshakeRows() {
	register(a, operation{method: http.MethodGet, path: "/handshakes/rows", summary: "Search recorded handshakes, as rows of the live stream", scope: store.ScopeRead, tag: "Handshakes"},
		func(ctx context.Context, in *struct {
			Filter string `query:"f" maxLength:"1024"`
			Before string `query:"before" maxLength:"20" doc:"Only numbers below: a cursor, or what follows the end of a gap."`
			After  string `query:"after" maxLength:"20" doc:"Only numbers above, as for a gap."`
			Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
		},
		) (*one[Rows], error) {
			query := store.HistoryQuery{Limit: in.Limit}
			var err error
			if query.Filter, err = termination.ParseFilter(in.Filter, a.options.Now()); err != nil {
				return nil, filterProblem(err)
			}
			for _, bound := range []struct {
				text string
				into *uint64
			}{{in.Before, &query.Before}, {in.After, &query.After}} {
				if bound.text == "" {
					continue
				}
				if *bound.into, err = strconv.ParseUint(bound.text, 10, 64); err != nil {
					return nil, termination.ValidationError{{Kind: "cursor", Field: "before", Problem: fmt.Sprintf("%q is no cursor", bound.text), Advice: "use the one that the page before came with"}}
				}
			}
			page, err := a.options.Store.Handshakes(ctx, query)
			if err != nil {
				return nil, err
			}
			return &one[Rows]{rowsOf(page, in.Limit)}, nil
		})
}

func rowsOf(page store.HistoryPage, limit int) Rows {
	out := Rows{Events: []live.Event{}, Endpoints: map[int]string{}}
	numbers := map[string]int{"": 0}
	for _, r := range page.Records {
		name := r.Handshake.Endpoint
		if _, known := numbers[name]; !known {
			numbers[name] = len(numbers)
			out.Endpoints[numbers[name]] = name
		}
		e := live.EventOf(r.Handshake, numbers[name])
		e.Mark = r.Mark.Symbol()
		out.Events = append(out.Events, e)
	}
	if page.Next != 0 {
		out.Cursor = strconv.FormatUint(page.Next, 10)
	}
	if !page.Searched.IsZero() && len(page.Records) < limit {
		out.Searched = &page.Searched
	}
	return out
}
