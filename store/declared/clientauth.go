package declared

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"countersign/termination"
)

// clientAuth reads a client policy. prefix is the name of its field.
func (r *reader) clientAuth(n ast.Node, at nodes, prefix string) termination.ClientAuth {
	before := r.failed
	a := noClientAuth()
	a.Mode = ""
	noting := func(key string, f field) field { return at.noting(prefix+"."+key, f) }
	r.mapping(n, "client_auth", map[string]field{
		"mode": noting("mode", func(n ast.Node) {
			r.word(n, "mode", (*string)(&a.Mode), string(termination.ModeOff), string(termination.ModeRequest),
				string(termination.ModeRequireAny), string(termination.ModeOptional), string(termination.ModeRequire))
		}),
		"authorities": noting("authorities", func(n ast.Node) { r.texts(n, "authorities", &a.Authorities) }),
		"pins":        noting("pins", func(n ast.Node) { r.pins(n, &a.Pins) }),
		"inherit":     noting("inherit", func(n ast.Node) { r.boolean(n, &a.Inherit) }),
		"max_depth":   noting("max_depth", func(n ast.Node) { r.integer(n, 1, 10, &a.MaxDepth) }),
		"announce":    noting("announce", func(n ast.Node) { r.boolean(n, &a.Announce) }),
		"on_loss": noting("on_loss", func(n ast.Node) {
			r.word(n, "on_loss", (*string)(&a.OnLoss), string(termination.OnLossClose), string(termination.OnLossDrain), string(termination.OnLossLeave))
		}),
		"rules": noting("rules", func(n ast.Node) {
			r.rules(n, &a.Rules, func(i int, n ast.Node) { at[fmt.Sprintf("%s.rules[%d]", prefix, i)] = n })
		}),
		"when":        noting("when", func(n ast.Node) { r.text(n, &a.When) }),
		"hygiene":     noting("hygiene", func(n ast.Node) { r.hygiene(n, &a.Hygiene) }),
		"report_only": noting("report_only", func(n ast.Node) { r.boolean(n, &a.ReportOnly) }),
		"soft":        noting("soft", func(n ast.Node) { r.boolean(n, &a.Soft) }),
	}, nil)
	switch {
	case a.Mode != "" || r.failed > before:
	case len(a.Authorities) > 0 || len(a.Pins) > 0:
		a.Mode = termination.ModeRequire // whoever chooses a CA means that it counts
	default:
		// Off would be a guess, and one that lets everybody in.
		r.fail(n, "client_auth says neither a mode nor whom to trust", "write mode: off, or name authorities or pins")
	}
	return a
}

// rules reads a list of {allow: subject} and {refuse: subject}, and tells where each stands.
func (r *reader) rules(n ast.Node, into *[]termination.Rule, at func(i int, n ast.Node)) {
	r.list(n, "rules", func(i int, e ast.Node) {
		at(i, e)
		var rule termination.Rule
		said := 0
		effect := func(effect termination.Effect) field {
			return func(n ast.Node) {
				said++
				rule.Effect = effect
				r.subject(n, &rule.Subject)
			}
		}
		before := r.failed
		r.mapping(e, "the rule", map[string]field{
			string(termination.EffectAllow):  effect(termination.EffectAllow),
			string(termination.EffectRefuse): effect(termination.EffectRefuse),
		}, nil)
		switch {
		case r.failed > before:
		case said != 1:
			r.fail(e, "a rule says either allow or refuse", `write it as in {allow: {uri: "spiffe://prod/*"}}`)
		default:
			*into = append(*into, rule)
		}
	})
}

// subject reads whom a rule means: any, or a map of fields.
func (r *reader) subject(n ast.Node, into *termination.Subject) {
	if _, isMap := r.resolve(n).(*ast.MappingNode); !isMap {
		var s string
		if r.text(n, &s) && s != termination.SubjectAny {
			r.fail(n, fmt.Sprintf("%q is no subject of a rule", s), `write any, or fields as in {dns: "*.example.com"}`)
		}
		return
	}
	words := map[string]string{}
	fields := map[string]field{}
	for _, key := range termination.SubjectKeys() {
		fields[key] = func(n ast.Node) {
			var s string
			if r.text(n, &s) {
				words[key] = s
			}
		}
	}
	before := r.failed
	r.mapping(n, "the subject", fields, nil)
	if r.failed > before {
		return
	}
	if len(words) == 0 {
		r.fail(n, "the rule does not say whom it means", "name a subject, or write any")
		return
	}
	s, err := termination.SubjectOf(words)
	if err != nil {
		r.fail(n, err.Error(), "")
		return
	}
	*into = s
}

// hygiene reads how strict a policy is about single checks.
func (r *reader) hygiene(n ast.Node, into *termination.Hygiene) {
	fields := map[string]field{}
	for _, c := range into.Checks() {
		fields[c.Key] = func(n ast.Node) {
			r.word(n, c.Key, (*string)(c.Level), string(termination.LevelRefuse), string(termination.LevelWarn), string(termination.LevelOff))
		}
	}
	r.mapping(n, "hygiene", fields, nil)
}

// also reads what is demanded besides the client policy. On a route it may be empty: then nothing is, whatever the endpoint
// says.
func (r *reader) also(n ast.Node, route bool) termination.Also {
	var a termination.Also
	kinds := func(what string, into *[]termination.ProofKind) field {
		return func(n ast.Node) {
			r.list(n, what, func(_ int, e ast.Node) {
				var kind string
				if r.word(e, what, &kind, string(termination.ProofCertificate), string(termination.ProofBearer), string(termination.ProofBasic)) {
					*into = append(*into, termination.ProofKind(kind))
				}
			})
		}
	}
	before := r.failed
	r.mapping(n, "also", map[string]field{
		"all_of": kinds("all_of", &a.AllOf),
		"any_of": kinds("any_of", &a.AnyOf),
		"strip":  func(n ast.Node) { r.boolean(n, &a.Strip) },
	}, nil)
	if r.failed == before && a.Empty() && !(route && !a.Strip) {
		r.fail(n, "also names no proof", "write it as in also: {any_of: [bearer, basic]}, or remove it")
	}
	return a
}

// forwardIdentity reads a list of header sets, a map of headers to expressions, or a list with such maps in it.
func (r *reader) forwardIdentity(n ast.Node, e *termination.Endpoint) {
	if m, isMap := r.resolve(n).(*ast.MappingNode); isMap {
		r.forwardHeaders(m, e)
		return
	}
	formats := []string{
		string(termination.IdentityNginx), string(termination.IdentityXFCC), string(termination.IdentityRFC9440),
		string(termination.IdentityTraefik), string(termination.IdentityALB),
	}
	r.list(n, "forward_identity", func(_ int, item ast.Node) {
		if m, isMap := r.resolve(item).(*ast.MappingNode); isMap {
			r.forwardHeaders(m, e)
			return
		}
		var s string
		if r.word(item, "forward_identity", &s, formats...) {
			e.ForwardIdentity = append(e.ForwardIdentity, termination.IdentityFormat(s))
		}
	})
}

// forwardHeaders reads headers with their expressions; their order means nothing, and is that of their names.
func (r *reader) forwardHeaders(m *ast.MappingNode, e *termination.Endpoint) {
	for _, pair := range m.Values {
		var name, value string
		if !r.text(pair.Key, &name) || !r.text(pair.Value, &value) {
			continue
		}
		if slices.ContainsFunc(e.ForwardHeaders, func(h termination.ForwardHeader) bool { return strings.EqualFold(h.Name, name) }) {
			r.fail(pair.Key, fmt.Sprintf("the header %q stands there twice", name), "remove one of the two")
			continue
		}
		e.ForwardHeaders = append(e.ForwardHeaders, termination.ForwardHeader{Name: name, Value: value})
	}
	slices.SortStableFunc(e.ForwardHeaders, func(a, b termination.ForwardHeader) int { return strings.Compare(a.Name, b.Name) })
}
