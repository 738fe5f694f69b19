package expression

import (
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
)

// Sizes of an ordinary client, by which the cost of an expression is estimated. A certificate may be larger: then the
// limit at run time counts.
const (
	ordinaryText  = 256
	ordinaryPEM   = 8 << 10
	ordinaryPath  = 2 << 10
	ordinaryNames = 32
	ordinaryBytes = 1 << 10
)

// ordinary estimates sizes by what ordinary clients have.
type ordinary struct{}

// EstimateSize implements cost.Estimator.
func (ordinary) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	upTo := func(n uint64) *cost.SizeEstimate {
		s := cost.RangedSizeEstimate(0, n)
		return &s
	}
	if node.Expr() != nil && node.Expr().Kind() == ast.LiteralKind {
		return nil // known exactly
	}
	root := ""
	if path := node.Path(); len(path) > 0 {
		root = path[0]
	}
	switch node.Type().Kind() {
	case types.StringKind:
		switch {
		case strings.HasSuffix(root, ".pem"):
			return upTo(ordinaryPEM)
		case strings.HasPrefix(root, "req."):
			return upTo(ordinaryPath)
		}
		return upTo(ordinaryText)
	case types.BytesKind, types.DynKind:
		return upTo(ordinaryBytes)
	case types.ListKind:
		return upTo(ordinaryNames)
	case types.MapKind:
		return upTo(4)
	default:
		return nil
	}
}

// EstimateCallCost implements cost.Estimator.
func (ordinary) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
