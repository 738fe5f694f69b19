package declared

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// place is where something stands in the file.
type place struct{ line, column int }

func placeOf(n ast.Node) place {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return place{}
	}
	p := n.GetToken().Position
	return place{line: p.Line, column: p.Column}
}

// reader collects what is wrong while it goes through the file, so that one run shows everything.
type reader struct {
	file    string
	dir     string // relative paths begin here
	getenv  func(string) (string, bool)
	anchors map[string]ast.Node
	errors  Errors
	files   []string // every file that was read
	places  map[string]place
}

func (r *reader) fail(n ast.Node, problem, advice string) {
	at := placeOf(n)
	r.errors = append(r.errors, Error{File: r.file, Line: at.line, Column: at.column, Problem: problem, Advice: advice})
}

// maxAliasDepth bounds aliases that lead to aliases.
const maxAliasDepth = 8

// resolve follows anchors and aliases to the value.
func (r *reader) resolve(n ast.Node) ast.Node {
	for range maxAliasDepth {
		switch v := n.(type) {
		case *ast.AnchorNode:
			r.anchors[v.Name.String()] = v.Value
			n = v.Value
		case *ast.AliasNode:
			target, ok := r.anchors[v.Value.String()]
			if !ok {
				r.fail(n, fmt.Sprintf("the alias *%s has no anchor before it", v.Value.String()), "define it with &"+v.Value.String())
				return nil
			}
			n = target
		case *ast.TagNode:
			r.fail(n, "tags such as "+v.Start.Value+" are not understood", "remove the tag")
			return nil
		default:
			return n
		}
	}
	r.fail(n, "aliases lead to each other", "write the value out")
	return nil
}

// field says what to do with the value of a key.
type field func(ast.Node)

// later marks keys that a later version understands.
type later []string

// mapping calls the field of each key. Unknown keys, keys of later versions and repeated keys are errors.
func (r *reader) mapping(n ast.Node, what string, fields map[string]field, notYet later) {
	n = r.resolve(n)
	pairs, ok := pairsOf(n)
	if !ok {
		r.fail(n, what+" must be a mapping of keys to values", "")
		return
	}
	seen := map[string]bool{}
	for _, pair := range pairs {
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			r.fail(pair.Key, fmt.Sprintf("%s has a key that is no plain word", what), "")
			continue
		}
		switch f, known := fields[key.Value]; {
		case seen[key.Value]:
			r.fail(key, fmt.Sprintf("%q stands twice in %s", key.Value, what), "remove one")
		case known:
			f(pair.Value)
		case slices.Contains(notYet, key.Value):
			r.fail(key, fmt.Sprintf("%q is not in this version", key.Value), "remove it")
		default:
			r.fail(key, fmt.Sprintf("%s has no key %q", what, key.Value), suggest(key.Value, fields))
		}
		seen[key.Value] = true
	}
}

func pairsOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch v := n.(type) {
	case *ast.MappingNode:
		return v.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{v}, true
	case *ast.NullNode:
		return nil, true // "authorities:" with nothing behind it
	}
	return nil, false
}

// suggest names the known keys, the nearest first.
func suggest(key string, fields map[string]field) string {
	best, distance := "", 4
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
		if d := editDistance(key, name); d < distance || d == distance && name < best {
			best, distance = name, d
		}
	}
	if best != "" && distance < 4 {
		return fmt.Sprintf("did you mean %q?", best)
	}
	slices.Sort(names)
	return "known are " + strings.Join(names, ", ")
}

// editDistance is Levenshtein's, of short words.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost = 1 + min(previous, row[j], row[j+1])
			}
			previous, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// list calls each for every element.
func (r *reader) list(n ast.Node, what string, each func(int, ast.Node)) {
	n = r.resolve(n)
	switch v := n.(type) {
	case *ast.SequenceNode:
		for i, e := range v.Values {
			each(i, e)
		}
	case *ast.NullNode, nil:
	default:
		r.fail(n, what+" must be a list", "write it as [a, b], or a line with \"- \" for each")
	}
}

// text reads a string and expands ${ENV} in it.
func (r *reader) text(n ast.Node, into *string) {
	n = r.resolve(n)
	switch v := n.(type) {
	case *ast.StringNode:
		*into = r.expand(n, v.Value)
	case *ast.LiteralNode:
		*into = r.expand(n, v.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode:
		*into = v.GetToken().Value // an unquoted 1.2 is meant as text where text is wanted
	default:
		r.fail(n, "text is wanted here", "put it in quotes")
	}
}

// expand replaces ${NAME} by the environment's value. An unset variable is an error, never empty text. "$${" is "${".
func (r *reader) expand(n ast.Node, s string) string {
	var out strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			out.WriteString(s)
			return out.String()
		}
		if i > 0 && s[i-1] == '$' {
			out.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		out.WriteString(s[:i])
		name, rest, closed := strings.Cut(s[i+2:], "}")
		value, set := "", false
		if closed {
			value, set = r.getenv(name)
		}
		if !set {
			r.fail(n, fmt.Sprintf("the environment variable %q is not set", name), "set it, or write $${ for a literal ${")
			return ""
		}
		out.WriteString(value)
		s = rest
	}
}

func (r *reader) texts(n ast.Node, what string, into *[]string) {
	r.list(n, what, func(_ int, e ast.Node) {
		var s string
		r.text(e, &s)
		*into = append(*into, s)
	})
}

func (r *reader) boolean(n ast.Node, into *bool) {
	n = r.resolve(n)
	if v, ok := n.(*ast.BoolNode); ok {
		*into = v.Value
		return
	}
	r.fail(n, "true or false is wanted here", "")
}

func (r *reader) integer(n ast.Node, least, most int, into *int) {
	n = r.resolve(n)
	v, ok := n.(*ast.IntegerNode)
	if !ok {
		r.fail(n, "a whole number is wanted here", "")
		return
	}
	i, err := strconv.Atoi(strings.ReplaceAll(v.GetToken().Value, "_", ""))
	if err != nil || i < least || i > most {
		r.fail(n, fmt.Sprintf("%s is out of range", v.GetToken().Value), fmt.Sprintf("use %d to %d", least, most))
		return
	}
	*into = i
}

// duration reads 10s, 5m, 2h, 7d.
func (r *reader) duration(n ast.Node, least, most time.Duration, into *time.Duration) {
	var s string
	before := len(r.errors)
	r.text(n, &s)
	if len(r.errors) > before {
		return
	}
	d, err := parseDuration(s)
	if err != nil || d < least || d > most {
		r.fail(n, fmt.Sprintf("%q is no duration between %s and %s", s, least, most), "write it as in 10s, 5m, 2h or 7d")
		return
	}
	*into = d
}

func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err //nolint:gosec // 16 bits
	}
	return time.ParseDuration(s)
}

// size reads 64KiB, 2GB, or a plain number of bytes.
func (r *reader) size(n ast.Node, least, most int64, into *int64) {
	var s string
	before := len(r.errors)
	r.text(n, &s)
	if len(r.errors) > before {
		return
	}
	v, err := parseSize(s)
	if err != nil || v < least || v > most {
		r.fail(n, fmt.Sprintf("%q is no size between %d and %d bytes", s, least, most), "write it as in 64KiB, 10MB or 2GB")
		return
	}
	*into = v
}

func parseSize(s string) (int64, error) {
	units := []struct {
		suffix string
		factor int64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
		{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 32)
		return v * u.factor, err
	}
	return 0, strconv.ErrSyntax
}
