package server

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// ruleRows is how many rules are shown as rows; more are shown as text.
	ruleRows = 40
	// kindAny and kindText are the kinds of a row that are no field of a subject.
	kindAny  = "any"
	kindText = "text"
	kindNew  = "uri" // of a row that nobody has filled in
)

// ruleRow is a rule as it stands in the rows of a form.
type ruleRow struct{ effect, kind, value, authority string }

// blank reports whether nothing was typed into the row.
func (r ruleRow) blank() bool {
	return r.value == "" && r.authority == "" && r.kind != kindAny
}

// line is the row as termination.ParseRules reads it.
func (r ruleRow) line() string {
	line := r.effect
	quoted := func(key, value string) string {
		return " " + key + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ", "\r", " ").Replace(value) + `"`
	}
	switch {
	case r.kind == kindText:
		line += " " + strings.NewReplacer("\n", " ", "\r", " ").Replace(r.value)
	case r.kind == kindAny && r.authority == "":
		line += " " + termination.SubjectAny
	case r.kind != kindAny:
		line += quoted(r.kind, r.value)
	}
	if r.authority != "" {
		line += quoted("authority", r.authority)
	}
	return line
}

// rowOf is a line as a row. What fits into no field of a row is shown as text.
func rowOf(line string) ruleRow {
	effect, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	row := ruleRow{effect: effect, kind: kindText, value: strings.TrimSpace(rest)}
	rules, err := termination.ParseRules(line)
	if err != nil || len(rules) != 1 {
		return row
	}
	words := rules[0].Subject.Words()
	authority := words["authority"]
	delete(words, "authority")
	switch len(words) {
	case 0:
		return ruleRow{effect: effect, kind: kindAny, authority: authority}
	case 1:
		for key, value := range words {
			return ruleRow{effect: effect, kind: key, value: value, authority: authority}
		}
	}
	return row
}

func rowsOf(text string) []ruleRow {
	var out []ruleRow
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(line) != "" {
			out = append(out, rowOf(line))
		}
	}
	return out
}

// readRules reads the rules of a form: its rows, or the text where there are none. It also returns the numbers of the rows
// that were filled in.
func readRules(form url.Values) (text string, filled []int) {
	if !form.Has("rule0_effect") {
		return strings.TrimSpace(form.Get("rules")), nil
	}
	var lines []string
	for i := range ruleRows + 2 {
		key := "rule" + strconv.Itoa(i) + "_"
		if !form.Has(key + "effect") {
			break
		}
		row := ruleRow{effect: form.Get(key + "effect"), kind: form.Get(key + "kind"), value: strings.TrimSpace(form.Get(key + "value")), authority: strings.TrimSpace(form.Get(key + "authority"))}
		if !row.blank() {
			lines, filled = append(lines, row.line()), append(filled, i)
		}
	}
	return strings.Join(lines, "\n"), filled
}

// arrange does what a button beside the rules says, such as rule_up_2, and reports whether it was one.
func (in *checksInput) arrange(do string) bool {
	what, ok := strings.CutPrefix(do, "rule_")
	if !ok {
		return false
	}
	in.open = true
	if what == "add" {
		in.blank = 2
		return true
	}
	verb, number, _ := strings.Cut(what, "_")
	lines := strings.FieldsFunc(in.rules, func(r rune) bool { return r == '\n' })
	row, err := strconv.Atoi(number)
	i := slices.Index(in.filled, row)
	if err != nil || i < 0 || i >= len(lines) {
		return true // a row that nobody has filled in
	}
	switch {
	case verb == "remove":
		lines = slices.Delete(lines, i, i+1)
	case verb == "up" && i > 0:
		lines[i-1], lines[i] = lines[i], lines[i-1]
	case verb == "down" && i+1 < len(lines):
		lines[i+1], lines[i] = lines[i], lines[i+1]
	}
	in.rules = strings.Join(lines, "\n")
	return true
}

// offer puts a rule that somebody followed a link to before the others, unless it is none.
func (in *checksInput) offer(rule string) {
	if rules, err := termination.ParseRules(rule); rule != "" && err == nil && len(rules) == 1 {
		in.rules = strings.TrimSpace(rules[0].Text() + "\n" + in.rules)
		in.open, in.offered = true, true
	}
}

// rulesForm puts the rules into rows.
func rulesForm(in *checksInput, authorities []string, wrong fieldProblems) views.RulesForm {
	f := views.RulesForm{
		Error: wrong.of("rules"), Offered: in.offered,
		Text: parts.Input{Name: "rules", Label: "Rules", Hint: `One a line, the first that matches decides: allow dns="*.example.com", refuse serial=1f3a authority=devices, allow any.`, Value: in.rules, Error: wrong.of("rules"), Rows: 12},
	}
	rows := rowsOf(in.rules)
	if len(rows) > ruleRows {
		f.AsText = true
		return f
	}
	filled := len(rows)
	for range max(in.blank, 1) {
		rows = append(rows, ruleRow{effect: string(termination.EffectAllow), kind: kindNew})
	}
	for i, r := range rows {
		f.Rows = append(f.Rows, ruleFields(i, r, filled, authorities))
	}
	return f
}

func ruleFields(i int, r ruleRow, filled int, authorities []string) views.RuleRow {
	name := func(field string) string { return "rule" + strconv.Itoa(i) + "_" + field }
	n := strconv.Itoa(i + 1)
	row := views.RuleRow{
		Number: n, Filled: i < filled, First: i == 0, Last: i >= filled-1, Weak: r.kind == "cn", Index: strconv.Itoa(i),
		Effect: parts.Input{Name: name("effect"), Label: "Rule " + n}, Effects: options(r.effect, "allow", "let in", "refuse", "refuse"),
		Kind: parts.Input{Name: name("kind"), Label: "whose"},
		Kinds: options(r.kind, "uri", "URI", "dns", "DNS name", "email", "e-mail address", "identity", "identity", "pin", "fingerprint", "serial", "serial number",
			"ip", "IP address", "o", "organization (O)", "ou", "unit (OU)", "issuer", "issuer", "cn", "common name (CN), the weakest", kindAny, "anybody", kindText, "several of these, as text"),
		Value:     parts.Input{Name: name("value"), Label: "is", Value: r.value, Placeholder: valueExample(r.kind)},
		Authority: parts.Input{Name: name("authority"), Label: "under"},
	}
	choices := []string{"", "any trusted CA"}
	if r.authority != "" && !slices.Contains(authorities, r.authority) {
		choices = append(choices, r.authority, r.authority)
	}
	for _, a := range authorities {
		choices = append(choices, a, a)
	}
	row.Authorities = options(r.authority, choices...)
	return row
}

// valueExample shows how a value is written; "*" stands for any characters.
func valueExample(kind string) string {
	switch kind {
	case "uri":
		return "spiffe://prod/*"
	case "dns":
		return "*.devices.example.com"
	case "email":
		return "*@example.com"
	case "ip":
		return "10.0.0.0/8"
	case "serial":
		return "1f:3a"
	case "pin":
		return "SHA-256, or spki: and that of the key"
	case kindText:
		return `o="Example" ou="it"`
	}
	return ""
}

// ruleLines are the rules of an endpoint in their order, the shared ones first, with how many clients each decided about
// today.
func (s *Server) ruleLines(p views.Page, e *termination.Endpoint, config *termination.Config) (lines []views.RuleLine, since string) {
	if s.gateway == nil || !e.ClientAuth.Mode.Asks() {
		return nil, ""
	}
	counts, from := s.gateway.RuleHits(e.ID)
	add := func(list []termination.Rule, shared bool) {
		for _, r := range list {
			lines = append(lines, views.RuleLine{Text: r.Text(), Shared: shared, Hits: format.Count(int(counts[r.String()]), "client", "clients")})
		}
	}
	if e.ClientAuth.Inherit {
		add(config.Defaults.Rules, true)
	}
	add(e.ClientAuth.Rules, false)
	return lines, p.Clock.Minute(from)
}
