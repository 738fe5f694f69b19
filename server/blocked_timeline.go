package server

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// timelineSearch is how many of the newest handshakes are looked at, and timelineRows how many events are shown.
	timelineSearch = 1000
	timelineRows   = 50
	// timelinePatience bounds the search in the history.
	timelinePatience = 2 * time.Second
)

// blockPage shows a block and, from the records, what it has cut.
func (s *Server) blockPage(c echo.Context) error {
	b, err := s.findBlock(c)
	if err != nil {
		return err
	}
	p := s.view(c, "Blocked", "refresh.js")
	v := views.Block{BlockItem: s.blockItem(c, p, b), Refresh: "/blocked/" + b.ID}
	if err := s.timeline(c, p, b, &v); err != nil {
		return err
	}
	if isFragment(c.Request()) {
		return s.render(c, http.StatusOK, views.BlockTimeline(v))
	}
	return s.render(c, http.StatusOK, views.BlockPage(p, v))
}

// blockEvent is one thing that a block has done, before it is put into words.
type blockEvent struct {
	at     time.Time
	record store.Record
	cut    bool // a live connection, else an attempt that was refused
}

// timeline finds connections that the block has ended and attempts that it has refused.
func (s *Server) timeline(c echo.Context, p views.Page, b *termination.Block, v *views.Block) error {
	filter := termination.Filter{}
	if b.Pin != nil && !b.Pin.Key {
		filter.Terms = []termination.FilterTerm{{Key: termination.FilterFP, Values: []termination.FilterValue{{Text: b.Pin.Fingerprint.String()}}}}
	}
	page, err := s.store.Handshakes(c.Request().Context(), store.HistoryQuery{Filter: filter, Limit: timelineSearch, Patience: timelinePatience})
	if err != nil {
		return fmt.Errorf("look for what a block has cut: %w", err)
	}
	var events []blockEvent
	cut, refused, tickets := 0, 0, 0
	for _, r := range page.Records {
		e := blockEvent{record: r}
		switch {
		case r.End != nil && r.End.ClosedBy == termination.ClosedByPolicy && r.End.Reason == termination.ReasonBlocked:
			e.at, e.cut = r.End.Time, true
		case r.Handshake.Verdict.Outcome == termination.OutcomeRefused && r.Handshake.Verdict.Reason == termination.ReasonBlocked:
			e.at = r.Handshake.Time
		default:
			continue
		}
		if e.at.Before(b.Since.Truncate(time.Second)) || !s.isBlockedBy(c, b, r, len(filter.Terms) > 0) {
			continue
		}
		switch {
		case e.cut:
			cut++
		default:
			refused++
			if r.Handshake.Hello != nil && r.Handshake.Hello.OffersResumption {
				tickets++
			}
		}
		events = append(events, e)
	}
	slices.SortStableFunc(events, func(a, b blockEvent) int { return a.at.Compare(b.at) })
	v.Events = append(v.Events, views.BlockEvent{When: p.Relative(b.Since), Exact: p.Exact(b.Since), Text: "blocked", Detail: "From here on nobody comes in by it.", Tone: parts.Bad, Mark: "✕"})
	for _, e := range events[:min(len(events), timelineRows)] {
		v.Events = append(v.Events, s.eventOf(p, b, e))
	}
	v.Cut = "No live connection had to be closed."
	if cut > 0 {
		v.Cut = format.Count(cut, "live connection was closed.", "live connections were closed.")
	}
	v.Refused = "Nobody has tried to come in by it since."
	if refused > 0 {
		v.Refused = format.Count(refused, "attempt was refused", "attempts were refused")
		if tickets > 0 {
			v.Refused += ", " + format.Count(tickets, "of them with a session ticket", "of them with session tickets")
		}
		v.Refused += "."
	}
	if page.Next != 0 {
		v.Partly = fmt.Sprintf("Among the last %s handshakes.", format.Int(len(page.Records)))
	}
	return nil
}

// isBlockedBy reports whether it was this block that a record speaks of. known: the record is of its certificate.
func (s *Server) isBlockedBy(c echo.Context, b *termination.Block, r store.Record, known bool) bool {
	if known {
		return true
	}
	whole, err := s.store.Handshake(c.Request().Context(), r.Handshake.ID)
	if err != nil || len(whole.Handshake.Presented) == 0 {
		return false
	}
	certificates := whole.Handshake.Path
	if len(certificates) == 0 {
		certificates = whole.Handshake.Presented[:1]
	}
	alone := termination.Config{Authorities: s.current().Authorities, Blocked: []termination.Block{*b}}
	found, _ := revocation.BlockOf(&alone, certificates)
	return found != nil
}

func (s *Server) eventOf(p views.Page, b *termination.Block, e blockEvent) views.BlockEvent {
	h := e.record.Handshake
	out := views.BlockEvent{When: p.Relative(e.at), Exact: p.Exact(e.at), Href: "/handshakes/" + h.ID, Tone: parts.Bad, Mark: "✕"}
	from := h.Peer.Addr().String()
	if e.cut {
		out.Text = "connection closed"
		out.Detail = fmt.Sprintf("%s after the block: from %s to %s, open since %s.", format.Duration(max(e.at.Sub(b.Since), 0)), from, h.Endpoint, p.Moment(h.Time))
		return out
	}
	out.Text = "refused"
	out.Detail = fmt.Sprintf("From %s to %s.", from, h.Endpoint)
	if h.Hello != nil && h.Hello.OffersResumption {
		out.Text, out.Detail = "ticket refused", fmt.Sprintf("From %s to %s, with a ticket of an earlier session.", from, h.Endpoint)
	}
	return out
}
