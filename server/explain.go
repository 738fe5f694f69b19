package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/explain"
	"countersign/termination/verify"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// maxExplainRecent is how many recent handshakes a finding leads to on the page itself.
	maxExplainRecent = 5
	// mostExplanations is how many run at once: a PKCS#12 file may ask for seconds of a processor that clients need, too.
	mostExplanations = 2
)

func (s *Server) explainRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/explain", handler: s.explainPage},
		{method: http.MethodPost, path: "/explain", body: uploadBody, handler: s.explainThis},
	}
}

func (s *Server) explainPage(c echo.Context) error {
	return s.showExplain(c, http.StatusOK, views.Explain{})
}

// beginExplanation waits for a place. Whoever has one gives it back by end.
func (s *Server) beginExplanation(ctx context.Context) (end func(), err error) {
	select {
	case s.explanations <- struct{}{}:
		return func() { <-s.explanations }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// explainThis says what was pasted or dropped. Nothing of it is kept: no store, no log, no page but this one.
func (s *Server) explainThis(c echo.Context) error {
	data, source, err := readUploadForm(c)
	if err != nil {
		return err
	}
	defer clear(data)
	pasted := c.FormValue("text")
	if string(data) != pasted {
		pasted = "" // a file came, and it alone is explained
	}
	end, err := s.beginExplanation(c.Request().Context())
	if err != nil {
		return err
	}
	defer end()
	explained, err := explain.Read(data, c.FormValue("password"), s.now())
	v := views.Explain{Source: source, Pasted: pasted}
	if err != nil {
		v.Error = err.Error() + ". Give a certificate in any form, a header, an error line, a fingerprint, an alert number or a recording."
		return s.showExplain(c, http.StatusUnprocessableEntity, v)
	}
	v.Explained = explained
	if explained.Has(explain.KindKey) {
		v.Pasted = "" // not even back to where it came from
	}
	if chain := explained.Chain(); len(chain) > 0 {
		v.Chain = explainedChain(s.clock(c), chain)
	}
	if chain := explained.ClientChain(); len(chain) > 0 {
		for _, at := range s.verdicts(chain, "") {
			v.Endpoints = append(v.Endpoints, views.ExplainedEndpoint(at))
		}
	}
	v.Recent = s.explainRecent(c, explained)
	return s.showExplain(c, http.StatusOK, v)
}

func (s *Server) showExplain(c echo.Context, status int, v views.Explain) error {
	return s.render(c, status, views.ExplainPage(s.view(c, "Explain", "explain.js", "drop.js"), v))
}

// verdicts tells for each endpoint, or the one that is named, whether a client with this chain would come in. The leaf comes
// first.
func (s *Server) verdicts(chain []*x509.Certificate, only string) []api.EndpointVerdict {
	config := s.current()
	var out []api.EndpointVerdict
	for i := range config.Endpoints {
		if e := &config.Endpoints[i]; only == "" || e.Name == only || e.ID == only {
			out = append(out, s.verdictAt(config, e, chain))
		}
	}
	return out
}

func (s *Server) verdictAt(config *termination.Config, e *termination.Endpoint, chain []*x509.Certificate) api.EndpointVerdict {
	v := api.EndpointVerdict{Endpoint: e.Name}
	if e.TerminateAt == termination.AtUpstream {
		v.Sealed, v.Sentence = true, "Decided by the service behind. We cannot check what we do not open."
		return v
	}
	policy, err := verify.Compile(config, e.PolicyFor(nil), s.scope(e.Name))
	if err != nil {
		v.Sentence = "Its policy cannot be read, so nobody enters: " + err.Error()
		return v
	}
	client := verify.Showing(chain...)
	t := policy.Try(client, nil, s.now())
	j := judgedOf(config, e, client, t)
	v.In, v.Undecided, v.Reason, v.Rule = t.Judgement.In, t.Judgement.Undecided, t.Judgement.Reason, t.Judgement.Rule
	switch {
	case v.In && v.Undecided:
		v.Sentence = "Through TLS, " + j.By + "; then each request decides."
	case v.In:
		v.Sentence = "Would come in, " + j.By + "."
	default:
		v.Sentence = "Would be refused: " + lowerFirst(j.Reason) + "."
	}
	for _, check := range t.Judgement.Checks {
		if !check.Note && !slices.Contains(v.Checks, check.Detail) {
			v.Checks = append(v.Checks, check.Detail)
		}
	}
	return v
}

// explainedChain draws the chain as it was given: each ring says whether the next one signed it.
func explainedChain(clock format.Clock, chain []*x509.Certificate) []parts.ChainItem {
	var out []parts.ChainItem
	for i, c := range chain {
		name := verify.BestName(c).Name
		if c.IsCA || name == "" {
			name = c.Subject.CommonName
		}
		if name == "" {
			name = "without a name"
		}
		item := parts.ChainItem{State: parts.ChainGood, Name: name, Life: &parts.Life{From: c.NotBefore, Until: c.NotAfter, Now: clock.Now}}
		switch {
		case i+1 < len(chain) && c.CheckSignatureFrom(chain[i+1]) != nil:
			item.State, item.Tag, item.TagTone = parts.ChainBroken, "not signed by the next", parts.Bad
		case i+1 < len(chain):
			item.Tag = "signed by the next"
		case bytes.Equal(c.RawIssuer, c.RawSubject):
			item.State, item.Tag = parts.ChainAnchor, "signs itself"
		default:
			item.Tag, item.TagTone = "its issuer is not here", parts.Warn
			item.Details = append(item.Details, "issued by "+termination.NameText(c.Issuer))
		}
		if (clock.Now.After(c.NotAfter) || clock.Now.Before(c.NotBefore)) && item.TagTone != parts.Bad {
			item.Details = append(item.Details, item.Tag)
			item.State, item.Tag, item.TagTone = parts.ChainBroken, "out of date", parts.Bad
		}
		out = append(out, item)
	}
	return out
}

// explainRecent are the handshakes that what was found may stand for, newest first.
func (s *Server) explainRecent(c echo.Context, e *explain.Explained) []views.ExplainedHandshake {
	var filters []string
	for i := range e.Findings {
		if f := e.Findings[i].Filter; f != "" && !slices.Contains(filters, f) {
			filters = append(filters, f)
		}
	}
	clock := s.clock(c)
	var out []views.ExplainedHandshake
	for _, text := range filters[:min(len(filters), 3)] {
		filter, err := termination.ParseFilter(text, s.now())
		if err != nil {
			continue
		}
		page, err := s.store.Handshakes(c.Request().Context(), store.HistoryQuery{Filter: filter, Limit: maxExplainRecent, Patience: recentPatience})
		if err != nil {
			s.log.Warn("the handshakes that may fit cannot be read", "error", err)
			return out
		}
		for i := range page.Records {
			h := page.Records[i].Handshake
			if slices.ContainsFunc(out, func(o views.ExplainedHandshake) bool { return o.ID == h.ID }) || len(out) == maxExplainRecent {
				continue
			}
			out = append(out, views.ExplainedHandshake{ID: h.ID, When: clock.Moment(h.Time), Sentence: strings.TrimSpace(h.Verdict.Explanation.Sentence), Endpoint: h.Endpoint})
		}
	}
	return out
}
