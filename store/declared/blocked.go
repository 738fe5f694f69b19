package declared

import (
	"github.com/goccy/go-yaml/ast"

	"countersign/store"
	"countersign/termination"
)

// blocked reads what is blocked by hand.
func (r *reader) blocked(n ast.Node, d *store.Declared) {
	r.list(n, "blocked", func(_ int, e ast.Node) {
		if b, ok := r.block(e); ok {
			d.Blocked = append(d.Blocked, b)
		}
	})
}

func (r *reader) block(n ast.Node) (termination.Block, bool) {
	before := r.failed
	b := termination.Block{Origin: termination.OriginFile}
	at := map[string]place{"": placeOf(n)}
	note := func(key string, read func(ast.Node)) field {
		return func(n ast.Node) {
			at[key] = placeOf(n)
			read(n)
		}
	}
	if r.mapping(n, "the block", map[string]field{
		"pin": note("pin", func(n ast.Node) {
			var s string
			if !r.text(n, &s) {
				return
			}
			pin, err := termination.ParsePin(s)
			if err != nil {
				r.fail(n, err.Error(), `write the SHA-256 of the certificate in hex, or "spki:" and that of its key`)
				return
			}
			b.Pin = &pin
		}),
		"serial": note("serial", func(n ast.Node) {
			var s string
			if !r.text(n, &s) {
				return
			}
			serial, err := termination.ParseSerial(s)
			if err != nil {
				r.fail(n, err.Error(), "")
				return
			}
			b.Serial = serial
		}),
		"authority": note("authority", func(n ast.Node) { r.text(n, &b.Authority) }),
		"why":       note("why", func(n ast.Node) { r.text(n, &b.Why) }),
	}, nil) == nil || r.failed > before {
		return b, false
	}
	if wrong := termination.CheckBlock(&b); wrong != nil {
		where, ok := at[wrong.Field]
		if !ok {
			where = at[""]
		}
		r.failAt(where, wrong.Problem, wrong.Advice)
		return b, false
	}
	for key, where := range at {
		r.places[placeKey(store.KindBlock, b.String(), key)] = where
	}
	return b, true
}
