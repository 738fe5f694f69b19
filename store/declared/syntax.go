package declared

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of the text, so that no file makes the parser slow or its recursion deep. They are far above what any
// configuration needs.
const (
	maxText    = 1 << 20 // bytes of the configuration file itself
	maxNesting = 16      // of [ ] and { }
	maxColumn  = 120     // where a line, or a "-" in it, may begin: what begins further right is nested deeper
	maxKeys    = 1000    // of a mapping; the parser takes the square of their number
)

// syntax parses the text and returns the value of its one document, or nil when what is wrong with it was noted.
func (r *reader) syntax(text []byte) ast.Node {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !r.plainText(text) {
		return nil
	}
	tokens := lexer.Tokenize(string(text))
	if !r.guard(tokens) {
		return nil
	}
	// The guard counts the documents: the parser silently drops one that follows an empty one. Repeated keys are refused by
	// reader.mapping, in its own words.
	file, err := parseTokens(tokens)
	if err != nil {
		r.syntaxError(err)
		return nil
	}
	for _, d := range file.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType || d.Body.Type() == ast.NullType {
			continue
		}
		r.findAliases(d.Body)
		return d.Body
	}
	// Editors that write in place leave the file empty for a moment. Taken at its word it would remove everything.
	r.failAt(place{}, "the file says nothing", "declare something; to remove all that it declared before, write: endpoints: []")
	return nil
}

// plainText refuses what the lexer would repair in silence.
func (r *reader) plainText(text []byte) bool {
	if len(text) > maxText {
		r.failAt(place{}, fmt.Sprintf("the file is larger than %d KiB", maxText>>10), "keep certificates in files of their own, with pem_file, cert_file and key_file")
		return false
	}
	line := 1
	for i := 0; i < len(text); {
		c, size := utf8.DecodeRune(text[i:])
		switch {
		case c == utf8.RuneError && size == 1:
			r.failAt(place{line: line}, "the text is not UTF-8", "save the file as UTF-8")
			return false
		case c == '\n':
			line++
		case c == '\r' && (i+1 == len(text) || text[i+1] != '\n'):
			// YAML takes it for the end of a line, editors do not, and then the numbers of lines differ.
			r.failAt(place{line: line}, "there is a carriage return without a line feed", "save the file with the line ends of Unix or Windows")
			return false
		case c < ' ' && c != '\t' && c != '\r' || c == 0x7f:
			r.failAt(place{line: line}, fmt.Sprintf("there is a control character (%U)", c), "remove it")
			return false
		}
		i += size
	}
	return true
}

// guard refuses, before the parser sees them, the parts of YAML that have no place here, and what is nested too deep.
func (r *reader) guard(tokens token.Tokens) bool {
	var previous *token.Token
	var begun, content, ended bool
	counts := []int{0} // keys since the last "-", and, above that, in each open { or [
	for _, t := range tokens {
		innermost := len(counts) - 1
		switch t.Type {
		case token.TagType:
			return r.refuse(t, "tags such as "+t.Value+" are not understood", "remove the tag")
		case token.DirectiveType:
			return r.refuse(t, "directives are not understood", "remove the line that begins with %")
		case token.MappingKeyType:
			return r.refuse(t, `keys marked with "?" are not understood`, "write key: value")
		case token.MergeKeyType:
			return r.refuse(t, "merged mappings (<<) are not understood", "write the keys out; an alias may stand for a whole value")
		case token.MappingStartType, token.SequenceStartType:
			if counts = append(counts, 0); len(counts) > maxNesting {
				return r.refuse(t, "the brackets are nested too deep", "write it with less nesting")
			}
		case token.MappingEndType, token.SequenceEndType:
			counts = counts[:max(1, innermost)]
		case token.MappingValueType:
			if counts[innermost]++; counts[innermost] > maxKeys {
				return r.refuse(t, fmt.Sprintf("there are more than %d keys in a row", maxKeys), "remove what does not belong here")
			}
		case token.SequenceEntryType:
			if innermost > 0 {
				return r.refuse(t, `"-" makes no list within brackets`, "write [a, b], or put the text in quotes")
			}
			counts[0] = 0
		default:
		}
		if t.Type == token.CommentType {
			continue
		}
		begins := previous == nil || previous.Position.Line != t.Position.Line || t.Type == token.SequenceEntryType
		if begins && innermost == 0 && t.Position.Column > maxColumn {
			return r.refuse(t, "the lines are indented too deep", "indent by two")
		}
		previous = t
		// A file may begin with "---" and end with "...", and that is all.
		mark := t.Type == token.DocumentHeaderType || t.Type == token.DocumentEndType
		if ended && t.Type != token.DocumentEndType || t.Type == token.DocumentHeaderType && (begun || content) {
			return r.refuse(t, "the file holds more than one YAML document", "keep one, without --- between")
		}
		begun = begun || t.Type == token.DocumentHeaderType
		ended = ended || t.Type == token.DocumentEndType
		content = content || !mark
	}
	return true
}

func (r *reader) refuse(t *token.Token, problem, advice string) bool {
	r.failAt(place{line: t.Position.Line, column: t.Position.Column}, problem, advice)
	return false
}

// parseTokens turns a panic of the parser into an error: the file comes from outside, and a reload must not end the
// gateway.
func parseTokens(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if v := recover(); v != nil {
			file, err = nil, fmt.Errorf("it confuses the YAML parser: %v", v)
		}
	}()
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

func (r *reader) syntaxError(err error) {
	var at place
	var syntax yaml.Error
	problem := err.Error
	if errors.As(err, &syntax) {
		problem = syntax.GetMessage // the text of the error itself quotes the file at length
		if t := syntax.GetToken(); t != nil && t.Position != nil {
			at = place{line: t.Position.Line, column: t.Position.Column}
		}
	}
	r.failAt(at, "this is no valid YAML: "+problem(), "check indentation, quotes and colons")
}

// findAliases notes what each alias stands for: the anchor of that name that comes last before it (YAML 1.2, section
// 7.1).
func (r *reader) findAliases(root ast.Node) {
	ast.Walk(aliasFinder{anchors: map[string]*ast.AnchorNode{}, targets: r.aliases}, root)
}

type aliasFinder struct {
	anchors map[string]*ast.AnchorNode
	targets map[*ast.AliasNode]*ast.AnchorNode
}

// Visit implements ast.Visitor.
func (f aliasFinder) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.AnchorNode:
		f.anchors[n.Name.String()] = n
	case *ast.AliasNode:
		if target, ok := f.anchors[n.Value.String()]; ok {
			f.targets[n] = target
		}
	}
	return f
}
