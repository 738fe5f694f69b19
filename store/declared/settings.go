package declared

import (
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/store"
	"countersign/termination"
)

const (
	year       = 365 * 24 * time.Hour
	maxCounted = 10_000_000
)

func (r *reader) history(n ast.Node, d *store.Declared) {
	h := store.DefaultHistorySettings()
	r.places[placeKey("history", "", "")] = placeOf(n)
	r.mapping(n, "history", map[string]field{
		"keep":          func(n ast.Node) { r.duration(n, time.Minute, 10*year, &h.Keep) },
		"keep_failures": func(n ast.Node) { r.duration(n, time.Minute, 10*year, &h.KeepFailures) },
		"max_size":      func(n ast.Node) { r.size(n, 1<<20, 1<<42, &h.MaxSize) },
	}, nil)
	d.History = &h
}

func (r *reader) limits(n ast.Node, d *store.Declared) {
	l := termination.DefaultLimits()
	r.places[placeKey("limits", "", "")] = placeOf(n)
	count := func(into *int) field { return func(n ast.Node) { r.integer(n, 1, maxCounted, into) } }
	bytes := func(least, most int64, into *int) field {
		return func(n ast.Node) {
			v := int64(*into)
			r.size(n, least, most, &v)
			*into = int(v)
		}
	}
	r.mapping(n, "limits", map[string]field{
		"handshake_timeout":       func(n ast.Node) { r.duration(n, 100*time.Millisecond, 10*time.Minute, &l.HandshakeTimeout) },
		"client_hello":            bytes(1<<10, 64<<10, &l.ClientHello),
		"certificate_chain":       bytes(1<<10, 256<<10, &l.CertificateChain),
		"header":                  bytes(1<<10, 1<<20, &l.Header),
		"idle_timeout":            func(n ast.Node) { r.duration(n, time.Second, 24*time.Hour, &l.IdleTimeout) },
		"connections":             count(&l.Connections),
		"connections_per_address": count(&l.ConnectionsPerAddress),
		"half_open":               count(&l.HalfOpen),
		"half_open_per_address":   count(&l.HalfOpenPerAddress),
	}, nil)
	d.Limits = &l
}

func (r *reader) defaults(n ast.Node, d *store.Declared) {
	out := termination.Defaults{}
	r.places[placeKey("defaults", "", "")] = placeOf(n)
	r.mapping(n, "defaults", map[string]field{
		"client_auth": func(n ast.Node) {
			r.mapping(n, "client_auth", map[string]field{
				"authorities": func(n ast.Node) { r.texts(n, "authorities", &out.Authorities) },
				"pins":        func(n ast.Node) { r.pins(n, &out.Pins) },
			}, nil)
		},
	}, nil)
	d.Defaults = &out
}

func (r *reader) pins(n ast.Node, into *[]termination.Pin) {
	r.list(n, "pins", func(_ int, e ast.Node) {
		var s string
		before := len(r.errors)
		r.text(e, &s)
		if len(r.errors) > before {
			return
		}
		pin, err := termination.ParsePin(s)
		if err != nil {
			r.fail(e, err.Error(), `write the SHA-256 of the certificate, or "spki:" and that of the key, in hex`)
			return
		}
		*into = append(*into, pin)
	})
}
