package expression

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"countersign/termination"
)

// Error is what is wrong with the text of an expression.
type Error struct {
	Line, Column int // from 1; 0: nowhere in particular
	Problem      string
	Advice       string // what to do
}

// Error implements error.
func (e *Error) Error() string {
	s := e.Problem
	if e.Line > 0 {
		s = fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, s)
	}
	if e.Advice != "" {
		s += "; " + e.Advice
	}
	return s
}

// EvalError is why an expression gave no value for a client.
type EvalError struct {
	Problem string
}

// Error implements error.
func (e *EvalError) Error() string { return e.Problem }

const (
	maxProblem  = 400
	unknownName = "nothing here is called "
)

// problem puts the first issue of cel-go into our words. Its own ones are kept where they say it best.
func problem(issues *cel.Issues) *Error {
	all := issues.Errors()
	if len(all) == 0 {
		return &Error{Problem: "it cannot be compiled: " + cut(issues.Err().Error())}
	}
	first := all[0]
	e := &Error{Line: first.Location.Line(), Column: first.Location.Column() + 1, Problem: cut(first.Message)}
	if e.Line < 1 {
		e.Line, e.Column = 0, 0
	}
	words := first.Message
	switch {
	case strings.HasPrefix(words, "undeclared reference to "):
		name, _, _ := strings.Cut(strings.TrimPrefix(words, "undeclared reference to '"), "'")
		e.Problem = unknownName + cut(name)
		e.Advice = "use the variables under conn.tls.client, conn, req and now"
	case strings.HasSuffix(words, "does not support field selection"):
		e.Problem = unknownName + "that"
		e.Advice = "a text has no parts"
	case words == "invalid matches argument":
		e.Problem = "this is no regular expression (RE2), or too large a one"
		e.Advice = "look at its brackets, and at how often parts are repeated"
	case strings.Contains(words, "recursion limit"), strings.Contains(words, "limit exceeded"):
		e.Problem = "it is nested too deeply, or too long: " + cut(words)
		e.Advice = "write it more simply"
	case strings.HasPrefix(words, "found no matching overload for "):
		e.Problem = mismatch(words)
		e.Advice = "compare values of one type, as in name == \"text\"; lists are asked with exists, or with in"
	case strings.HasPrefix(words, "Syntax error"):
		e.Problem = "it cannot be read here: " + lowerFirst(cut(strings.TrimPrefix(words, "Syntax error: ")))
		e.Advice = "look for a missing quote, bracket or operator"
	}
	return e
}

// mismatch says which types an operator or a function was given and does not take.
func mismatch(words string) string {
	m := regexp.MustCompile(`overload for '([^']*)' applied to '([^']*)'`).FindStringSubmatch(words)
	if m == nil {
		return cut(words)
	}
	return fmt.Sprintf("%s does not take %s", strings.Trim(m[1], "_"), cut(m[2]))
}

// unknown says what an expression names that does not exist, and what comes near it.
func (l *language) unknown(e *Error, text string) {
	if !strings.HasPrefix(e.Problem, unknownName) {
		return
	}
	name := nameAt(text, e)
	if name == "" {
		return
	}
	e.Problem = unknownName + cut(name)
	if near := l.nearest(name); near != "" {
		e.Advice = "did you mean " + near + "?"
	}
}

// nearest is the variable that a name is probably a misspelling of; empty: none is near. A text is bounded, and so is the
// work.
func (l *language) nearest(name string) string {
	best, least := "", len(name)/3+1
	for _, known := range slices.Sorted(maps.Keys(l.variables)) {
		// The start of a longer name, or a name without its beginning, is near as well.
		if d := termination.EditDistance(name, known); d < least || best == "" && (strings.HasPrefix(known, name+".") || strings.HasSuffix(known, "."+name)) {
			best, least = known, min(d, least)
		}
	}
	return best
}

// nameAt is the whole dotted name that stands where an error is.
func nameAt(text string, e *Error) string {
	lines := strings.Split(text, "\n")
	if e.Line < 1 || e.Line > len(lines) {
		return ""
	}
	line := []rune(lines[e.Line-1])
	if e.Column < 1 || e.Column > len(line) {
		return ""
	}
	inName := func(r rune) bool {
		return r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	from, to := e.Column-1, e.Column-1
	for from > 0 && inName(line[from-1]) {
		from--
	}
	for to < len(line) && inName(line[to]) {
		to++
	}
	return strings.Trim(string(line[from:to]), ".")
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// cut bounds what is repeated of an expression.
func cut(s string) string {
	if r := []rune(s); len(r) > maxProblem {
		return string(r[:maxProblem]) + "…"
	}
	return s
}
