package declared

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"

	"countersign/store"
	"countersign/termination"
)

// acme reads where certificates named "acme" come from.
func (r *reader) acme(n ast.Node, d *store.Declared) {
	var a termination.ACME
	note := func(field string, n ast.Node) { r.places[placeKey("acme", "", field)] = placeOf(n) }
	note("", n)
	meant := r.mapping(n, "acme", map[string]field{
		"directory": func(n ast.Node) { note("directory", n); r.text(n, &a.Directory) },
		"email":     func(n ast.Node) { note("email", n); r.text(n, &a.Email) },
		"ca_file":   func(n ast.Node) { note("ca_file", n); a.Roots = r.roots(n) },
		"http":      func(n ast.Node) { note("http", n); r.addressAndPort(n, "0.0.0.0:80", &a.HTTP) },
		"dns":       func(n ast.Node) { note("dns", n); a.DNS = r.acmeDNS(n, note) },
	}, nil)
	if meant != nil && !meant["directory"] {
		r.fail(n, "acme has no directory", "give the address of the CA's directory, as in https://acme-v02.api.letsencrypt.org/directory")
	}
	d.ACME = &a
}

// acmeDNS reads the DNS provider: its name, and beside it whatever that provider has to be told.
func (r *reader) acmeDNS(n ast.Node, note func(string, ast.Node)) termination.ACMEDNS {
	dns := termination.ACMEDNS{Settings: map[string]string{}}
	pairs, ok := pairsOf(r.resolve(n))
	if !ok {
		r.fail(n, "dns must be a mapping of keys to values", "write it as provider: name, and below it what the provider has to be told")
		return dns
	}
	for _, pair := range pairs {
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			r.fail(pair.Key, "dns has a key that is no plain word", "write it as provider: name")
			continue
		}
		note("dns."+key.Value, pair.Value)
		var value string
		if !r.text(pair.Value, &value) {
			continue
		}
		_, twice := dns.Settings[key.Value]
		switch {
		case twice || key.Value == "provider" && dns.Provider != "":
			r.fail(key, fmt.Sprintf("%q stands there twice", key.Value), "remove one of the two")
		case key.Value == "provider":
			dns.Provider = value
		default:
			dns.Settings[key.Value] = value
		}
	}
	return dns
}
