package declared

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/store"
	"countersign/termination"
)

const (
	year       = 365 * day
	maxCounted = 10_000_000
)

func (r *reader) dashboard(n ast.Node, d *Dashboard) {
	r.mapping(n, "dashboard", map[string]field{
		"listen": func(n ast.Node) { r.dashboardAddress(n, &d.Listen) },
		"hosts":  func(n ast.Node) { r.dashboardHosts(n, &d.Hosts) },
		"access": func(n ast.Node) {
			var access string
			if !r.text(n, &access) || access == "link" {
				return
			}
			problem := "is unknown"
			if slices.Contains([]string{"password", "client_certificate"}, access) {
				problem = "is not in this version"
			}
			r.fail(n, fmt.Sprintf("access: %q %s", access, problem), "use link")
		},
	}, later{"tls"})
}

// dashboardAddress reads host:port on loopback; port 0 takes a free one.
func (r *reader) dashboardAddress(n ast.Node, into *string) {
	var s string
	if !r.text(n, &s) {
		return
	}
	host, port, err := net.SplitHostPort(s)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
		r.fail(n, fmt.Sprintf("%q is no address and port", s), "write it as in 127.0.0.1:7443")
		return
	}
	if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
		r.fail(n, fmt.Sprintf("the dashboard on %q would need TLS and a credential, which are not in this version", s), "use 127.0.0.1 and, from elsewhere, an SSH tunnel")
		return
	}
	*into = s
}

// dashboardHosts reads names, or addresses, with or without a port.
func (r *reader) dashboardHosts(n ast.Node, into *[]string) {
	r.list(n, "hosts", func(_ int, e ast.Node) {
		var s string
		if !r.text(e, &s) {
			return
		}
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			host, port = s, "443"
		}
		_, badPort := strconv.ParseUint(port, 10, 16)
		_, badName := termination.NormalizeName(host)
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
			badName = nil
		}
		if badPort != nil || badName != nil || strings.HasPrefix(host, "*.") {
			r.fail(e, fmt.Sprintf("%q is no host name", s), "write a name without wildcard, with or without a port")
			return
		}
		*into = append(*into, s)
	})
}

func (r *reader) history(n ast.Node, d *store.Declared) {
	h := store.DefaultHistorySettings()
	r.places[placeKey("setting", "history", "")] = placeOf(n)
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
		"body":                    func(n ast.Node) { r.size(n, 1, 1<<42, &l.Body) },
		"idle_timeout":            func(n ast.Node) { r.duration(n, time.Second, day, &l.IdleTimeout) },
		"connections":             count(&l.Connections),
		"connections_per_address": count(&l.ConnectionsPerAddress),
		"half_open":               count(&l.HalfOpen),
		"half_open_per_address":   count(&l.HalfOpenPerAddress),
		"expression_cost":         func(n ast.Node) { r.integer(n, 100, 10_000_000, &l.ExpressionCost) },
	}, nil)
	d.Limits = &l
}

// agents reads how agents reach the gateway.
func (r *reader) agents(n ast.Node, d *store.Declared) {
	a := termination.DefaultAgents()
	r.places[placeKey("agents", "", "")] = placeOf(n)
	r.mapping(n, "agents", map[string]field{
		"listen":       func(n ast.Node) { r.addressAndPort(n, "127.0.0.1:7444", &a.Listen) },
		"stale_policy": func(n ast.Node) { r.duration(n, time.Second, day, &a.StalePolicy) },
		"hosts":        func(n ast.Node) { r.dashboardHosts(n, &a.Hosts) },
	}, nil)
	d.Agents = &a
}

// addressAndPort reads where a listener is opened.
func (r *reader) addressAndPort(n ast.Node, example string, into *netip.AddrPort) {
	var s string
	if !r.text(n, &s) {
		return
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 || a.Addr().Zone() != "" {
		r.fail(n, fmt.Sprintf("%q is no address and port of this machine", s), "write it as in "+example)
		return
	}
	*into = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (r *reader) defaults(n ast.Node, d *store.Declared) {
	out := termination.Defaults{}
	note := func(field string, n ast.Node) { r.places[placeKey("defaults", "", field)] = placeOf(n) }
	note("", n)
	r.mapping(n, "defaults", map[string]field{
		"client_auth": func(n ast.Node) {
			note("client_auth", n)
			r.mapping(n, "client_auth of the defaults", map[string]field{
				"authorities": func(n ast.Node) {
					note("client_auth.authorities", n)
					r.texts(n, "authorities", &out.Authorities)
				},
				"pins": func(n ast.Node) { r.pins(n, &out.Pins) },
				"rules": func(n ast.Node) {
					note("client_auth.rules", n)
					r.rules(n, &out.Rules, func(i int, n ast.Node) { note(fmt.Sprintf("client_auth.rules[%d]", i), n) })
				},
			}, nil)
		},
	}, nil)
	d.Defaults = &out
}

func (r *reader) pins(n ast.Node, into *[]termination.Pin) {
	r.list(n, "pins", func(_ int, e ast.Node) {
		var s string
		if !r.text(e, &s) {
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
