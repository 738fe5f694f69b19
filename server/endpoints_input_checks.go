package server

import (
	"net/url"
	"slices"
	"strings"

	"countersign/termination"
	"countersign/views"
	"countersign/views/parts"
)

// checksInput is what a client policy checks besides whom it trusts, as it stands in a form.
type checksInput struct {
	rules, when      string
	hygiene          map[string]string // by check; absent: the default
	reportOnly, soft bool

	filled  []int // rows of the form that hold the rules
	blank   int   // rows for rules that are still to be typed; 0: one
	open    bool  // show the fields
	offered bool  // the first rule came with a link, and is not saved
}

func checksInputOf(a termination.ClientAuth) checksInput {
	return checksInput{rules: termination.RulesText(a.Rules), when: a.When, hygiene: a.Hygiene.Words(), reportOnly: a.ReportOnly, soft: a.Soft}
}

const hygieneField = "hygiene_"

func readChecksInput(form url.Values) checksInput {
	in := checksInput{
		when: strings.TrimSpace(form.Get("when")), hygiene: map[string]string{},
		reportOnly: form.Has("report_only"), soft: form.Has("soft"),
	}
	in.rules, in.filled = readRules(form)
	for _, key := range termination.HygieneKeys() {
		if level := form.Get(hygieneField + key); level != "" {
			in.hygiene[key] = level
		}
	}
	return in
}

// into puts what was typed into a policy.
func (in *checksInput) into(a *termination.ClientAuth, wrong fieldProblems) {
	var err error
	if a.Rules, err = termination.ParseRules(in.rules); err != nil {
		wrong.add("rules", err.Error())
	}
	if a.Hygiene, err = termination.HygieneOf(in.hygiene); err != nil {
		wrong.add("hygiene", err.Error())
	}
	a.When, a.ReportOnly, a.Soft = in.when, in.reportOnly, in.soft
}

// checksForm puts them into fields.
func checksForm(in *checksInput, authorities []string, wrong fieldProblems) views.ChecksForm {
	f := views.ChecksForm{
		Rules:      rulesForm(in, authorities, wrong),
		When:       parts.Input{Name: "when", Label: "And only when", Hint: "An expression in CEL, such as client.subject.organization.exists(o, o == \"Example\"). Empty: always.", Value: in.when, Error: wrong.of("when"), Rows: 2},
		ReportOnly: in.reportOnly, Soft: in.soft, SoftError: wrong.of("soft"), ReportOnlyError: wrong.of("report_only"), HygieneError: wrong.of("hygiene"),
		Open: in.open || in.rules != "" || in.when != "" || wrong.anyOf("rules", "when", "hygiene", "soft", "report_only"),
	}
	for _, c := range new(termination.Hygiene).Checks() {
		f.Hygiene = append(f.Hygiene, views.HygieneField{
			Input:  parts.Input{Name: hygieneField + c.Key, Label: hygieneLabel(c.Key)},
			Levels: options(in.hygiene[c.Key], "", levelWords(c.Default)+", as usual", "refuse", "refuse", "warn", "let in, with a note", "off", "let in"),
		})
	}
	return f
}

func levelWords(l termination.Level) string {
	switch l {
	case termination.LevelRefuse:
		return "refuse"
	case termination.LevelWarn:
		return "let in, with a note"
	default:
		return "let in"
	}
}

func hygieneLabel(key string) string {
	switch key {
	case "weak_key":
		return "RSA below 2048 bits"
	case "weak_signature":
		return "Signed with SHA-1"
	case "usage":
		return "Not made for clients"
	case "key_usage":
		return "Key usage without digitalSignature"
	case "ca_leaf":
		return "A CA certificate as client"
	case "name_constraints":
		return "Names that its CA may not sign"
	case "missing_usage":
		return "No extended key usage, or version 1"
	case "missing_san":
		return "No subject alternative name"
	}
	return key
}

// alsoInput is what an endpoint demands and tells besides its client policy, as it stands in a form.
type alsoInput struct {
	allOf, anyOf   []string
	strip, verbose bool
	formats        []string
	headers        string // one a line: name, colon, expression
}

func alsoInputOf(e *termination.Endpoint) alsoInput {
	in := alsoInput{strip: e.Also.Strip, verbose: e.VerboseRefusals}
	for _, k := range e.Also.AllOf {
		in.allOf = append(in.allOf, string(k))
	}
	for _, k := range e.Also.AnyOf {
		in.anyOf = append(in.anyOf, string(k))
	}
	for _, f := range e.ForwardIdentity {
		in.formats = append(in.formats, string(f))
	}
	var lines []string
	for _, h := range e.ForwardHeaders {
		lines = append(lines, h.Name+": "+h.Value)
	}
	in.headers = strings.Join(lines, "\n")
	return in
}

func readAlsoInput(form url.Values) alsoInput {
	return alsoInput{
		allOf: form["all_of"], anyOf: form["any_of"], strip: form.Has("strip_proof"), verbose: form.Has("verbose"),
		formats: form["forward"], headers: strings.TrimSpace(form.Get("forward_headers")),
	}
}

// into puts what was typed into an endpoint.
func (in *alsoInput) into(e *termination.Endpoint, wrong fieldProblems) {
	e.Also = termination.Also{Strip: in.strip}
	for _, k := range in.allOf {
		e.Also.AllOf = append(e.Also.AllOf, termination.ProofKind(k))
	}
	for _, k := range in.anyOf {
		e.Also.AnyOf = append(e.Also.AnyOf, termination.ProofKind(k))
	}
	e.VerboseRefusals = in.verbose
	var before []string
	for _, f := range e.ForwardIdentity {
		before = append(before, string(f))
	}
	e.ForwardIdentity, e.ForwardHeaders = nil, nil
	for _, f := range kept(before, in.formats) {
		e.ForwardIdentity = append(e.ForwardIdentity, termination.IdentityFormat(f))
	}
	for line := range strings.SplitSeq(in.headers, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		if name, value = strings.TrimSpace(name), strings.TrimSpace(value); !found || name == "" || value == "" {
			wrong.add("forward_headers", `write a header and its expression, as in X-Team: client.subject.organization[0]; one a line`)
			continue
		}
		e.ForwardHeaders = append(e.ForwardHeaders, termination.ForwardHeader{Name: name, Value: value})
	}
	slices.SortStableFunc(e.ForwardHeaders, func(a, b termination.ForwardHeader) int { return strings.Compare(a.Name, b.Name) })
}

// alsoForm puts it into fields.
func alsoForm(in *alsoInput, wrong fieldProblems) views.AlsoForm {
	f := views.AlsoForm{
		Strip: in.strip, Verbose: in.verbose, Error: wrong.of("also"), ForwardError: wrong.of("forward"),
		Headers: parts.Input{Name: "forward_headers", Label: "Headers of your own", Hint: "One a line: a header, a colon, and an expression in CEL.", Value: in.headers, Error: wrong.of("forward_headers"), Rows: 2},
		Open:    wrong.anyOf("also", "forward", "forward_headers"),
	}
	for _, k := range [...][2]string{{string(termination.ProofBearer), "bearer token"}, {string(termination.ProofBasic), "user name and password"}, {string(termination.ProofCertificate), "client certificate"}} {
		f.AllOf = append(f.AllOf, tick(k[0], k[1], in.allOf))
		f.AnyOf = append(f.AnyOf, tick(k[0], k[1], in.anyOf))
	}
	for _, k := range [...][2]string{
		{string(termination.IdentityNginx), "X-Client-Verify, X-Client-CN, …"},
		{string(termination.IdentityXFCC), "X-Forwarded-Client-Cert, as of Envoy"},
		{string(termination.IdentityRFC9440), "Client-Cert, Client-Cert-Chain"},
		{string(termination.IdentityTraefik), "X-Forwarded-Tls-Client-Cert"},
		{string(termination.IdentityALB), "X-Amzn-Mtls-Clientcert-…"},
	} {
		f.Formats = append(f.Formats, tick(k[0], k[1], in.formats))
	}
	return f
}
