package declared

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"countersign/termination"
)

// place is where something stands in the file.
type place struct{ line, column int }

// placeOf returns where a value begins.
func placeOf(n ast.Node) place {
	switch v := n.(type) {
	case nil:
		return place{}
	case *ast.MappingNode:
		// The token of a mapping without braces is its first colon.
		if !v.IsFlowStyle && len(v.Values) > 0 {
			n = v.Values[0].Key
		}
	case *ast.MappingValueNode:
		n = v.Key
	}
	if n.GetToken() == nil || n.GetToken().Position == nil {
		return place{}
	}
	p := n.GetToken().Position
	return place{line: p.Line, column: p.Column}
}

// reader collects what is wrong while it goes through the file, so that one run shows everything.
type reader struct {
	file     string
	dir      string // relative paths begin here
	getenv   func(string) (string, bool)
	readFile func(path string, most int64) ([]byte, error)
	aliases  map[*ast.AliasNode]*ast.AnchorNode
	visited  int // values looked at, those behind aliases each time
	errors   Errors
	warnings []Warning
	failed   int      // errors found; more than there are in errors when they are many
	files    []string // every file that was read
	places   map[string]place
	chains   []chain                   // of server certificates, to be completed
	own      []termination.Certificate // given by their files beside the upstream that is to see them
}

const (
	maxErrors  = 100     // that are listed
	maxVisited = 500_000 // aliases of aliases multiply
)

func (r *reader) fail(n ast.Node, problem, advice string) { r.failAt(placeOf(n), problem, advice) }

func (r *reader) failAt(at place, problem, advice string) {
	if r.failed++; r.failed <= maxErrors {
		r.errors = append(r.errors, Error{File: r.file, Line: at.line, Column: at.column, Problem: clip(problem), Advice: clip(advice)})
	}
}

// clip shortens what quotes a long text of the file.
func clip(s string) string {
	const most = 600
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// maxAliasDepth bounds aliases that lead to aliases.
const maxAliasDepth = 8

// resolve follows anchors and aliases to the value. Nil means that there is none, and that this was noted.
func (r *reader) resolve(n ast.Node) ast.Node {
	if r.visited++; r.visited > maxVisited {
		if r.visited == maxVisited+1 {
			r.fail(n, "the aliases in the file multiply beyond measure", "write the values out")
		}
		return nil
	}
	at := n
	for range maxAliasDepth {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			target, ok := r.aliases[v]
			if !ok {
				r.unknownAlias(at, v.Value.String())
				return nil
			}
			n = target
		default:
			return n
		}
	}
	r.fail(at, "aliases lead to each other", "write the value out")
	return nil
}

func (r *reader) unknownAlias(n ast.Node, name string) {
	if strings.HasPrefix(name, ".") {
		r.fail(n, fmt.Sprintf("a text that begins with * is an alias in YAML, and *%s has no anchor", name), fmt.Sprintf(`put it in quotes: "*%s"`, name))
		return
	}
	r.fail(n, fmt.Sprintf("the alias *%s has no anchor before it", name), "define it with &"+name+", or put the text in quotes")
}

// field says what to do with the value of a key.
type field func(ast.Node)

// later marks keys that a later version understands.
type later []string

// mapping calls the field of each key. Unknown keys, keys of later versions and repeated keys are errors. It returns the
// keys that are there, or were probably meant by an unknown one, so that they are not said to be missing; nil when there
// is no mapping at all, so that nothing more needs to be said.
func (r *reader) mapping(n ast.Node, what string, fields map[string]field, notYet later) map[string]bool {
	v := r.resolve(n)
	if v == nil {
		return nil
	}
	pairs, ok := pairsOf(v)
	if !ok {
		r.fail(n, what+" must be a mapping of keys to values", "write it as key: value, a line for each")
		return nil
	}
	lines, meant := map[string]int{}, map[string]bool{}
	for _, pair := range pairs {
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			r.fail(pair.Key, what+" has a key that is no plain word", known(fields))
			continue
		}
		switch f, known := fields[key.Value]; {
		case lines[key.Value] > 0:
			r.fail(key, fmt.Sprintf("%q stands in line %d already", key.Value, lines[key.Value]), "remove one of the two")
			continue
		case known:
			meant[key.Value] = true
			f(pair.Value)
		case slices.Contains(notYet, key.Value):
			r.fail(key, fmt.Sprintf("%q is not in this version", key.Value), "remove it")
		default:
			name, advice := suggest(key.Value, fields)
			meant[name] = true
			r.fail(key, fmt.Sprintf("%s has no key %q", what, key.Value), advice)
		}
		lines[key.Value] = max(1, placeOf(key).line)
	}
	return meant
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

// suggest returns the known key that was probably meant, or "", and what to do.
func suggest(key string, fields map[string]field) (name, advice string) {
	best, least := "", max(2, len(key)/3)+1
	for _, name := range keysOf(fields) {
		if len(key) >= 3 && strings.HasPrefix(name, key) {
			best = name
			break
		}
		if len(key) > 2*len(name)+8 {
			continue // far apart; and a key of a file may be of any length
		}
		if d := termination.EditDistance(key, name); d < least && d < len(name) {
			best, least = name, d
		}
	}
	if best == "" {
		return "", known(fields)
	}
	return best, fmt.Sprintf("did you mean %q?", best)
}

func known(fields map[string]field) string {
	return "known are " + strings.Join(keysOf(fields), ", ")
}

func keysOf(fields map[string]field) []string {
	return slices.Sorted(maps.Keys(fields))
}

// list calls each for every element.
func (r *reader) list(n ast.Node, what string, each func(int, ast.Node)) {
	switch v := r.resolve(n).(type) {
	case *ast.SequenceNode:
		for i, e := range v.Values {
			each(i, e)
		}
	case *ast.NullNode, nil:
	default:
		r.fail(n, what+" must be a list", `write it as [a, b], or a line with "- " for each`)
	}
}
