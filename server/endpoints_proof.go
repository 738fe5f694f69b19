package server

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/proof"
	"countersign/views"
	"countersign/views/parts"
)

// proveEndpoint runs a proof for whoever pressed the button.
func (s *Server) proveEndpoint(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	if _, err := s.Prove(c.Request().Context(), e.ID); err != nil {
		return err
	}
	return s.redirect(c, endpointPath(e)+"#proof")
}

// endpointProof is the last proof of an endpoint as a file.
func (s *Server) endpointProof(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	report, _ := s.lastProof(e)
	if report == nil {
		return &Problem{Status: http.StatusNotFound, Code: "not_found", Title: e.Name + " was not proven since the start", Advice: "Run the proof on its page.", Href: endpointPath(e), Link: "Back to " + e.Name}
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("write the proof: %w", err)
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+localca.FileName(e.Name)+`-proof.json"`)
	return c.Blob(http.StatusOK, "application/json", append(text, '\n'))
}

// proofShown is the panel of an endpoint's page.
func (s *Server) proofShown(p views.Page, e *termination.Endpoint) views.Proof {
	v := views.Proof{Action: endpointPath(e) + "/proof", Sealed: e.TerminateAt == termination.AtUpstream, Possible: e.Enabled}
	report, stale := s.lastProof(e)
	if report == nil {
		return v
	}
	v.Export = endpointPath(e) + "/proof.json"
	v.When, v.Exact, v.Revision, v.Stale = p.Relative(report.Time), p.Exact(report.Time), report.Revision, stale
	v.Handshakes = report.Handshakes()
	switch report.Result {
	case proof.Holds:
		v.Tone, v.Headline = parts.OK, "It holds"
	case proof.Contradicts:
		v.Tone, v.Headline = parts.Bad, "It does not hold"
	default:
		v.Tone, v.Headline = parts.Warn, "Not everything could be tried"
	}
	for _, l := range report.Lines {
		v.Lines = append(v.Lines, proofLine(l, e))
	}
	return v
}

func proofLine(l proof.Line, e *termination.Endpoint) views.ProofLine {
	out := views.ProofLine{Tried: l.Tried, Happened: l.Happened, Detail: l.Detail}
	if l.Handshake != "" {
		out.Href = "/handshakes/" + l.Handshake
	}
	switch l.Result {
	case proof.Holds:
		out.Tone, out.Mark = parts.OK, "✓"
		if l.Weak && e.ClientAuth.ReportOnly {
			out.Tone, out.Mark = parts.Warn, "!"
		} else if l.Weak && l.Happened != "" && e.TerminateAt != termination.AtUpstream {
			out.Tone, out.Mark, out.Detail = parts.Warn, "!", l.Detail+"; the lowest version here is TLS 1.2"
			if !e.Origin.Fixed() {
				out.Raise = endpointPath(e) + "/settings"
			}
		}
	case proof.Contradicts:
		out.Tone, out.Mark, out.Expected = parts.Bad, "✕", l.Expected
	case proof.Failed:
		out.Tone, out.Mark, out.Happened, out.Expected = parts.Warn, "!", "broke", l.Expected
	default:
		out.Tone, out.Mark, out.Happened = parts.Plain, "–", "not shown"
	}
	return out
}
