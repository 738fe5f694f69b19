package verify

import (
	"slices"
	"strings"

	"countersign/termination"
)

// nearest returns the names that name is probably a misspelling of, nearest first, at most three. Both are normalised
// server names, 253 bytes at most, which bounds the work.
func nearest(name string, candidates []string) []string {
	type near struct {
		name     string
		distance int
	}
	limit := max(2, len(name)/5)
	var found []near
	for _, c := range candidates {
		d := termination.EditDistance(name, strings.TrimPrefix(c, "*."))
		if d <= limit || related(name, c) {
			found = append(found, near{c, d})
		}
	}
	slices.SortStableFunc(found, func(a, b near) int { return a.distance - b.distance })
	var out []string
	for _, n := range found {
		if len(out) < 3 && !slices.Contains(out, n.name) {
			out = append(out, n.name)
		}
	}
	return out
}

// related reports whether two names have the same first label, as api.example.com and api.example.org.
func related(a, b string) bool {
	first, _, _ := strings.Cut(a, ".")
	other, _, dotted := strings.Cut(b, ".")
	return first == other && dotted && len(first) > 1
}
