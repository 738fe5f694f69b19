package expression

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// MaxText bounds the text of an expression, in bytes.
const MaxText = 4096

// DefaultCost is how much one evaluation may cost where nothing else is said, in the units of CEL: about one for each
// step, and one for every ten bytes of a text that is looked at. It is some milliseconds of one core.
const DefaultCost = 100_000

// MaxCost is the highest limit that may be set.
const MaxCost = 10_000_000

// Kind says what an expression is for.
type Kind int

// The kinds of expressions.
const (
	Condition Kind = iota // its value is true or false
	Text                  // its value is a text, or a list of texts
)

// Program is a compiled expression. It is immutable and safe for concurrent use.
type Program struct {
	text    string
	kind    Kind
	needs   needs
	uses    []*variable
	program cel.Program
	worst   uint64
	limit   uint64
}

// Compile reads an expression. limit bounds the cost of one evaluation, and 0 means [DefaultCost]. The error is an
// [*Error] where the text is to blame.
func Compile(source string, kind Kind, limit int) (*Program, error) {
	l, err := shared()
	if err != nil {
		return nil, err
	}
	if limit == 0 {
		limit = DefaultCost
	}
	if limit < 0 || limit > MaxCost {
		return nil, fmt.Errorf("an expression may cost 1 to %d, not %d", MaxCost, limit)
	}
	switch {
	case strings.TrimSpace(source) == "":
		return nil, &Error{Problem: "it is empty", Advice: "write a condition, as in client.subject.common_name == \"billing\", or leave the expression out"}
	case len(source) > MaxText:
		return nil, &Error{Problem: fmt.Sprintf("it has %d bytes, and %d are allowed", len(source), MaxText), Advice: "shorten it, or use rules for long lists"}
	case !utf8.ValidString(source):
		return nil, &Error{Problem: "it is not valid UTF-8", Advice: "write it as UTF-8 text"}
	}
	tree, issues := l.env.Compile(source)
	if issues.Err() != nil {
		e := problem(issues)
		l.unknown(e, source)
		return nil, e
	}
	if e := kind.fits(tree.OutputType()); e != nil {
		return nil, e
	}
	p := &Program{text: source, kind: kind, limit: uint64(limit)}
	p.notes(l, tree)
	if p.worst, err = l.estimate(tree); err != nil {
		return nil, err
	}
	if p.worst > p.limit {
		return nil, &Error{
			Problem: fmt.Sprintf("it could cost %s for one client, and %d are allowed", costText(p.worst), limit),
			Advice:  "take out loops within loops and regular expressions over long texts, or raise limits.expression_cost",
		}
	}
	p.program, err = l.env.Program(tree, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(p.limit), cel.InterruptCheckFrequency(checkInterrupt))
	if err != nil { // such as a constant part that fails whoever comes
		return nil, &Error{Problem: "it cannot be compiled: " + cut(err.Error()), Advice: "correct the part that fails"}
	}
	return p, nil
}

func costText(n uint64) string {
	if n == math.MaxUint64 {
		return "any amount"
	}
	return fmt.Sprint(n)
}

// estimate is what an evaluation costs at most with an ordinary client.
func (l *language) estimate(tree *cel.Ast) (uint64, error) {
	cost, err := l.env.EstimateCost(tree, ordinary{})
	if err != nil {
		return 0, fmt.Errorf("estimate the cost of the expression: %w", err)
	}
	return cost.Max, nil
}

// fits refuses an expression whose value is of another type than is wanted. One whose type is known only when it is asked
// is looked at then.
func (k Kind) fits(t *cel.Type) *Error {
	switch {
	case t.Kind() == types.DynKind:
		return nil
	case k == Condition && !t.IsExactType(cel.BoolType):
		return &Error{Problem: fmt.Sprintf("its value is of type %s, not true or false", cel.FormatCELType(t)), Advice: "compare it with something, as in client.subject.common_name == \"billing\""}
	case k == Text && !t.IsExactType(cel.StringType) && !t.IsExactType(stringList()):
		return &Error{Problem: fmt.Sprintf("its value is of type %s, not a text", cel.FormatCELType(t)), Advice: "turn it into one, as in string(now)"}
	}
	return nil
}

// notes keeps which variables an expression uses, and what it needs for them.
func (p *Program) notes(l *language, tree *cel.Ast) {
	for _, r := range tree.NativeRep().ReferenceMap() {
		v, ok := l.variables[r.Name]
		if !ok || slices.Contains(p.uses, v) {
			continue
		}
		p.uses = append(p.uses, v)
		p.needs |= v.needs
	}
	slices.SortFunc(p.uses, func(a, b *variable) int { return strings.Compare(a.name, b.name) })
}

// String returns the text that was compiled.
func (p *Program) String() string { return p.text }

// NeedsRequest reports whether it cannot be evaluated before there is an HTTP request.
func (p *Program) NeedsRequest() bool { return p.needs&needsRequest != 0 }

// NeedsPeer reports whether it asks for the client's address.
func (p *Program) NeedsPeer() bool { return p.needs&needsPeer != 0 }

// NeedsTime reports whether its value changes with time.
func (p *Program) NeedsTime() bool { return p.needs&needsTime != 0 }

// NeedsClient reports whether it looks at the client's certificate, or at what follows from it.
func (p *Program) NeedsClient() bool { return p.needs&needsClient != 0 }

// TrustsNames reports whether it goes by what a CA writes into certificates, and nowhere asks which authority that was: where
// several are trusted, another could write the same.
func (p *Program) TrustsNames() bool { return p.needs&claimed != 0 && p.needs&bound == 0 }

// Cost is what one evaluation costs at most with an ordinary client.
func (p *Program) Cost() uint64 { return p.worst }

// Limit is what one evaluation may cost.
func (p *Program) Limit() uint64 { return p.limit }

// Test evaluates a Condition. Whoever gets an error, which is an [*EvalError] unless ctx ended, takes it for false.
func (p *Program) Test(ctx context.Context, in Input) (bool, error) {
	v, err := p.eval(ctx, &in)
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok || p.kind != Condition {
		return false, &EvalError{Problem: fmt.Sprintf("its value is of type %s, not true or false", v.Type().TypeName())}
	}
	return bool(b), nil
}

// Texts evaluates a Text: one text, or those of a list. The texts are not fit for a header or a page by themselves.
func (p *Program) Texts(ctx context.Context, in Input) ([]string, error) {
	v, err := p.eval(ctx, &in)
	if err != nil {
		return nil, err
	}
	if s, ok := v.(types.String); ok {
		return []string{string(s)}, nil
	}
	list, err := v.ConvertToNative(stringSlice())
	if err != nil {
		return nil, &EvalError{Problem: fmt.Sprintf("its value is of type %s, not a text", v.Type().TypeName())}
	}
	return list.([]string), nil
}

func stringSlice() reflect.Type { return reflect.TypeFor[[]string]() }

func (p *Program) eval(ctx context.Context, in *Input) (ref.Val, error) {
	if err := p.complete(in); err != nil {
		return nil, err
	}
	v, _, err := p.program.ContextEval(ctx, activation{in, p})
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("evaluate the expression: %w", context.Cause(ctx))
	case err != nil:
		return nil, &EvalError{Problem: cut(evalWords(err))}
	}
	return v, nil
}

// complete refuses to evaluate without what the expression asks for: an empty text in its place could mean yes.
func (p *Program) complete(in *Input) error {
	var missing string
	switch {
	case p.NeedsRequest() && in.Request == nil:
		missing = "the request"
	case p.NeedsPeer() && !in.Peer.IsValid():
		missing = "the client's address"
	case p.NeedsTime() && in.Now.IsZero():
		missing = "the time"
	case p.needs&needsVersion != 0 && in.Version == 0:
		missing = "the version of TLS"
	default:
		return nil
	}
	return &EvalError{Problem: "it asks for " + missing + ", which is not known"}
}

func evalWords(err error) string {
	words := err.Error()
	if strings.Contains(words, "cost limit exceeded") {
		return "it cost more for this client than is allowed; its certificate is unusually large, or the expression is"
	}
	var typed *types.Err
	if errors.As(err, &typed) {
		words = typed.String()
	}
	return words
}

// activation gives an expression its variables, each when it is asked for.
type activation struct {
	in      *Input
	program *Program
}

// ResolveName implements cel.Activation.
func (a activation) ResolveName(name string) (any, bool) {
	if rest, short := strings.CutPrefix(name, clientShort+"."); short {
		name = clientRoot + "." + rest
	}
	for _, v := range a.program.uses {
		if v.name == name {
			return v.value(a.in), true
		}
	}
	return nil, false
}

// Parent implements cel.Activation.
func (activation) Parent() cel.Activation { return nil }

// Value is a variable that an expression uses, with its value for one client.
type Value struct {
	Name, Type, Text string
}

// maxShown bounds the value of a variable that is shown, in characters.
const maxShown = 200

// Values tells what the variables that the expression uses hold for one client, for people. One that is not known, such as
// the path before there is a request, has an empty Text.
func (p *Program) Values(in Input) []Value {
	out := make([]Value, 0, len(p.uses))
	for _, v := range p.uses {
		value := Value{Name: v.name, Type: cel.FormatCELType(v.kind)}
		one := Program{needs: v.needs}
		if one.complete(&in) == nil {
			value.Text = shown(v.value(&in))
		}
		out = append(out, value)
	}
	return out
}

func shown(v ref.Val) string {
	var s string
	switch v := v.(type) {
	case types.String:
		s = fmt.Sprintf("%q", string(v))
	case types.Timestamp:
		s = v.Time.UTC().Format("2006-01-02T15:04:05Z")
	default:
		if list, err := v.ConvertToNative(stringSlice()); err == nil {
			s = fmt.Sprintf("%q", list)
		} else {
			s = fmt.Sprint(v.Value())
		}
	}
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown]) + "…"
	}
	return s
}
