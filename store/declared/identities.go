package declared

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"

	"countersign/store"
	"countersign/termination"
)

func (r *reader) identities(n ast.Node, d *store.Declared) {
	r.list(n, "identities", func(_ int, e ast.Node) {
		if i, ok := r.identity(e); ok {
			d.Identities = append(d.Identities, i)
		}
	})
}

// identity reads a named client.
func (r *reader) identity(n ast.Node) (termination.Identity, bool) {
	before := r.failed
	i := termination.Identity{Origin: termination.OriginFile}
	at := nodes{}
	note := func(key string, read func(ast.Node)) field {
		return func(n ast.Node) {
			at[key] = n
			read(n)
		}
	}
	meant := r.mapping(n, "the identity", map[string]field{
		"name":      note("name", func(n ast.Node) { r.text(n, &i.Name) }),
		"pins":      note("pins", func(n ast.Node) { r.pins(n, &i.Pins) }),
		"match":     note("match", func(n ast.Node) { r.matches(n, &i.Matches) }),
		"endpoints": note("endpoints", func(n ast.Node) { r.texts(n, "endpoints", &i.Endpoints) }),
		"rate":      note("rate", func(n ast.Node) { r.rate(n, &i.Rate) }),
		"burst":     note("burst", func(n ast.Node) { r.integer(n, 1, maxCounted, &i.Rate.Burst) }),
		"blocked":   note("blocked", func(n ast.Node) { r.boolean(n, &i.Blocked) }),
	}, nil)
	if meant == nil {
		return i, false
	}
	r.named(store.KindIdentity, n, at, i.Name, meant)
	// One that nothing makes known is of no use in a file: a certificate that is registered later stands in no file.
	if r.failed == before && len(i.Pins) == 0 && len(i.Matches) == 0 {
		r.fail(n, "nothing says which client this is", "give pins: with the SHA-256 of its certificate, or match: {authority: devices, uri: …}")
	}
	return i, r.failed == before
}

// matches reads one match, or a list of them.
func (r *reader) matches(n ast.Node, into *[]termination.Subject) {
	one := func(n ast.Node) {
		if _, isMap := r.resolve(n).(*ast.MappingNode); !isMap {
			r.fail(n, "a match is a map of names", `write it as in {authority: devices, uri: "spiffe://prod/billing"}`)
			return
		}
		var s termination.Subject
		before := r.failed
		if r.subject(n, &s); r.failed == before {
			*into = append(*into, s)
		}
	}
	if _, isList := r.resolve(n).(*ast.SequenceNode); isList {
		r.list(n, "match", func(_ int, e ast.Node) { one(e) })
		return
	}
	one(n)
}

// rate reads how often something may happen, such as 50/s. A burst that stands beside it stays.
func (r *reader) rate(n ast.Node, into *termination.Rate) {
	var s string
	if !r.text(n, &s) {
		return
	}
	rate, err := termination.ParseRate(s)
	if err == nil && !rate.Limited() {
		err = fmt.Errorf("the rate is empty")
	}
	if err != nil {
		r.fail(n, err.Error(), "leave it out where there is none")
		return
	}
	into.Count, into.Per = rate.Count, rate.Per
}
