package views

import (
	"net/url"

	"countersign/termination"
	"countersign/termination/explain"
	"countersign/views/parts"
)

// Explain is the page that says what something is.
type Explain struct {
	Explained *explain.Explained // nil: nothing was asked yet
	Source    string             // what it was called; hostile text
	Pasted    string
	Error     string
	Chain     []parts.ChainItem
	Endpoints []ExplainedEndpoint
	Recent    []ExplainedHandshake
}

// ExplainedEndpoint is whether a client with the certificate would come in at an endpoint.
type ExplainedEndpoint struct {
	Endpoint  string
	In        bool
	Undecided bool
	Sealed    bool // decided by the service behind
	Reason    termination.Reason
	Rule      string
	Sentence  string
	Checks    []string
}

func (e ExplainedEndpoint) state() string {
	switch {
	case e.Sealed:
		return "skip"
	case e.In:
		return "ok"
	default:
		return "bad"
	}
}

// ExplainedHandshake is a handshake that may fit what was found.
type ExplainedHandshake struct{ ID, When, Sentence, Endpoint string }

func factsOf(list []explain.Fact) []parts.Fact {
	out := make([]parts.Fact, 0, len(list))
	for _, f := range list {
		out = append(out, parts.Fact{Name: f.Name, Value: f.Value, Note: f.Note})
	}
	return out
}

func filterHref(filter string) string { return "/live?f=" + url.QueryEscape(filter) }

// signable reports whether the finding is a request that a local CA could sign.
func signable(f explain.Finding) bool { return f.Kind == explain.KindRequest }
