package server

import (
	"crypto/tls"
	"net/url"
	"strings"

	"countersign/termination"
)

// tlsInput is what an endpoint offers and accepts in TLS, and what comes before it, as it stands in a form.
type tlsInput struct {
	minVersion, maxVersion, preset, suites, alpn, startTLS, proxyFrom string
}

func tlsInputOf(e *termination.Endpoint) tlsInput {
	in := tlsInput{
		minVersion: versionWord(e.MinVersion), maxVersion: versionWord(e.MaxVersion), preset: string(e.Preset),
		alpn: strings.Join(e.ALPN, ", "), startTLS: string(e.StartTLS),
	}
	suites := make([]string, len(e.Suites))
	for i, id := range e.Suites {
		suites[i] = termination.SuiteName(id)
	}
	in.suites = strings.Join(suites, "\n")
	from := make([]string, len(e.ProxyProtocol))
	for i, p := range e.ProxyProtocol {
		from[i] = p.String()
	}
	in.proxyFrom = strings.Join(from, "\n")
	return in
}

func readTLSInput(form url.Values) tlsInput {
	text := func(key string) string { return strings.TrimSpace(form.Get(key)) }
	return tlsInput{
		minVersion: text("min_version"), maxVersion: text("max_version"), preset: text("preset"), suites: text("suites"), alpn: text("alpn"),
		startTLS: text("starttls"), proxyFrom: text("proxy_from"),
	}
}

// into puts what was typed into an endpoint.
func (in *tlsInput) into(e *termination.Endpoint, wrong fieldProblems) {
	e.MinVersion, e.MaxVersion = versionNumber(in.minVersion), versionNumber(in.maxVersion)
	e.Preset, e.ALPN, e.StartTLS = termination.TLSPreset(in.preset), words(in.alpn), termination.StartTLS(in.startTLS)
	e.Suites, e.ProxyProtocol = nil, nil
	for _, name := range words(in.suites) {
		id, err := termination.ParseSuite(name)
		if err != nil {
			wrong.add("suites", err.Error())
			continue
		}
		e.Suites = append(e.Suites, id)
	}
	for _, s := range words(in.proxyFrom) {
		p, err := termination.ParsePrefix(s)
		if err != nil {
			wrong.add("proxy_from", err.Error()+"; write it as in 10.0.0.0/8 or 10.1.2.3")
			continue
		}
		e.ProxyProtocol = append(e.ProxyProtocol, p)
	}
}

func versionNumber(s string) uint16 {
	switch s {
	case "":
		return 0
	case "1.2":
		return tls.VersionTLS12
	case "1.3":
		return tls.VersionTLS13
	}
	return 1 // no version, so the validation refuses it
}

func versionWord(v uint16) string {
	switch v {
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS13:
		return "1.3"
	}
	return ""
}
