package expression

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"countersign/termination"
)

const (
	maxNodes       = 2000 // of the syntax tree, macros expanded
	maxNesting     = 64   // of the parser
	maxLoops       = 3    // within each other
	maxRegexp      = 500  // instructions of a regular expression's program
	maxPrecision   = 16   // of format
	checkInterrupt = 100  // steps of a loop between two looks at the context
)

// language is what all expressions have in common. It never changes.
type language struct {
	env       *cel.Env
	variables map[string]*variable // by full name, and by the short one of those that have it
}

// shared makes the language once: that takes milliseconds, and a configuration may hold thousands of expressions.
var shared = sync.OnceValues(newLanguage)

func newLanguage() (*language, error) {
	l := &language{variables: map[string]*variable{}}
	options := []cel.EnvOption{
		cel.EagerlyValidateDeclarations(true),
		cel.ParserExpressionSizeLimit(MaxText),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserErrorRecoveryLimit(4),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegexp),
		cel.DefaultUTCTimeZone(true),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(),
			cel.ValidateComprehensionNestingLimit(maxLoops), literals{},
		),
		ext.Strings(ext.StringsVersion(5), ext.StringsMaxPrecision(maxPrecision)),
		ext.Encoders(ext.EncodersVersion(2)),
		cel.Function("inCidrRange", cel.Overload(oneRange, []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType,
			cel.BinaryBinding(inRange))),
		cel.Function("inCidrRanges", cel.Overload(manyRanges, []*cel.Type{cel.StringType, stringList()}, cel.BoolType,
			cel.BinaryBinding(inRanges))),
		cel.CostModel(
			cost.Overload(oneRange, cost.EvalCost(cost.Sum(cost.Const(2), cost.StringScan(cost.Length(cost.Arg(0))), cost.StringScan(cost.Length(cost.Arg(1)))))),
			cost.Overload(manyRanges, cost.EvalCost(cost.Sum(cost.Const(2), cost.Scale(cost.Length(cost.Arg(1)), 8)))),
		),
	}
	list := variables()
	for i := range list {
		v := &list[i]
		l.variables[v.name] = v
		options = append(options, cel.Variable(v.name, v.kind))
		if short, ok := shorten(v.name); ok {
			l.variables[short] = v
			options = append(options, cel.Variable(short, v.kind))
		}
	}
	var err error
	if l.env, err = cel.NewEnv(options...); err != nil {
		return nil, fmt.Errorf("build the language of expressions: %w", err)
	}
	return l, nil
}

const (
	oneRange   = "in_cidr_range_string_string"
	manyRanges = "in_cidr_ranges_string_list"
)

// inRange is inCidrRange(address, network), as in ngrok.
func inRange(address, network ref.Val) ref.Val {
	a, err := netip.ParseAddr(text(address))
	if err != nil {
		return types.NewErr("%q is no IP address", text(address))
	}
	n, err := termination.ParsePrefix(text(network))
	if err != nil {
		return types.NewErr("%q is no network", text(network))
	}
	return types.Bool(n.Contains(a.Unmap()))
}

// inRanges is inCidrRanges(address, networks), as in ngrok.
func inRanges(address, networks ref.Val) ref.Val {
	list, err := networks.ConvertToNative(stringSlice())
	if err != nil {
		return types.NewErr("inCidrRanges needs a list of networks")
	}
	for _, n := range list.([]string) {
		if in := inRange(address, types.String(n)); in != types.False {
			return in
		}
	}
	return types.False
}

func text(v ref.Val) string {
	s, _ := v.(types.String)
	return string(s)
}

// literals looks at what is written out in an expression: networks that are none, and what must be written out. A regular
// expression that comes out of a certificate would let its holder decide; and the name of a time zone would be looked up
// in files, for each client.
type literals struct{}

// Name implements cel.ASTValidator.
func (literals) Name() string { return "countersign.literals" }

// Validate implements cel.ASTValidator.
func (literals) Validate(_ *cel.Env, _ cel.ValidatorConfig, tree *ast.AST, issues *cel.Issues) {
	for _, e := range ast.MatchDescendants(ast.NavigateAST(tree), ast.KindMatcher(ast.CallKind)) {
		call := e.AsCall()
		switch call.FunctionName() {
		case "inCidrRange", "inCidrRanges":
			if args := call.Args(); len(args) == 2 {
				checkNetworks(args[1], issues)
			}
		case "matches":
			args := call.Args()
			if len(args) > 0 && args[len(args)-1].Kind() != ast.LiteralKind {
				issues.ReportErrorAtID(e.ID(), "the regular expression of matches must be written out as a text in quotes")
			}
		case "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours", "getMilliseconds",
			"getMinutes", "getMonth", "getSeconds":
			for _, zone := range call.Args() {
				if zone.Kind() != ast.LiteralKind || !offset(zone.AsLiteral()) {
					issues.ReportErrorAtID(zone.ID(), "a time zone must be written out as an offset from UTC, as in \"+01:00\"; names of zones are not known here")
				}
			}
		}
	}
}

// offset reports whether a value is an offset from UTC, as in +01:00.
func offset(v ref.Val) bool {
	s := text(v)
	_, err := time.Parse("-07:00", s)
	return err == nil || s == "UTC"
}

func checkNetworks(e ast.Expr, issues *cel.Issues) {
	switch e.Kind() {
	case ast.ListKind:
		for _, item := range e.AsList().Elements() {
			checkNetworks(item, issues)
		}
	case ast.LiteralKind:
		if s, ok := e.AsLiteral().(types.String); ok {
			if _, err := termination.ParsePrefix(string(s)); err != nil {
				issues.ReportErrorAtID(e.ID(), "%q is no network; write it as in 10.0.0.0/8", string(s))
			}
		}
	default: // known only when it is asked
	}
}
