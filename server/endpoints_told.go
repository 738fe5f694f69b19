package server

import (
	"context"
	"fmt"
	"strings"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/proxy"
	"countersign/views"
)

// toldShown is how much of a header's value a page shows, in characters.
const toldShown = 300

// toldBy shows what the service behind an endpoint is told about clients, by the example of the one that came in last. It
// is nil where nothing is told.
func (s *Server) toldBy(ctx context.Context, e *termination.Endpoint) (*views.ToldPart, error) {
	if len(e.ForwardIdentity)+len(e.ForwardHeaders) == 0 {
		return nil, nil //nolint:nilnil // there is nothing to show
	}
	out := &views.ToldPart{ReportOnly: e.ClientAuth.ReportOnly}
	for _, f := range e.ForwardIdentity {
		out.Names = append(out.Names, f.Headers()...)
	}
	for _, h := range e.ForwardHeaders {
		out.Names = append(out.Names, h.Name)
	}
	rec, err := s.lastVerified(ctx, e)
	if err != nil || rec == nil {
		return out, err
	}
	told, err := proxy.Preview(e, rec, s.current().Limits, s.now())
	if err != nil {
		return nil, fmt.Errorf("show what is told: %w", err)
	}
	out.Client, out.Href = rec.Client.Name, "/handshakes/"+rec.ID
	var lines strings.Builder
	for _, h := range told {
		fmt.Fprintf(&lines, "%s: %s\n", h.Name, cutHeader(h.Value))
	}
	out.Text = lines.String()
	return out, nil
}

// cutHeader shortens a value that nobody would read.
func cutHeader(value string) string {
	if r := []rune(value); len(r) > toldShown {
		return fmt.Sprintf("%s… (%d bytes)", string(r[:toldShown]), len(value))
	}
	return value
}

// lastVerified is the newest handshake of a verified client at an endpoint, with its certificates, or nil.
func (s *Server) lastVerified(ctx context.Context, e *termination.Endpoint) (*termination.Handshake, error) {
	filter, err := termination.ParseFilter(`endpoint:"`+e.Name+`" outcome:verified`, s.now())
	if err != nil {
		return nil, fmt.Errorf("look for the last client: %w", err)
	}
	page, err := s.store.Handshakes(ctx, store.HistoryQuery{Filter: filter, Limit: 1})
	if err != nil || len(page.Records) == 0 {
		return nil, err
	}
	rec, err := s.store.Handshake(ctx, page.Records[0].Handshake.ID)
	if err != nil {
		return nil, err
	}
	return rec.Handshake, nil
}
