package main

import (
	"fmt"
	"slices"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
)

// neededLocalCA makes a local CA where the file asks for certificates from one and none that is there may sign the
// names; nil where nothing is needed. Nobody trusts it before it is told to: it stands in no policy, and clients have
// to be given its certificate.
func neededLocalCA(config *termination.Config, d store.Declared, now time.Time) (*termination.LocalCA, error) {
	if !slices.ContainsFunc(d.Endpoints, func(e termination.Endpoint) bool { return asksLocalCA(&e) && !mayBeIssued(config.LocalCAs, &e) }) {
		return nil, nil //nolint:nilnil // nothing is needed
	}
	ca, err := localca.Create(localca.Options{Name: freeAuthorityName(config, d), Now: now})
	if err != nil {
		return nil, fmt.Errorf("make a local CA for the endpoints of the configuration file: %w", err)
	}
	return ca, nil
}

// asksLocalCA reports whether the endpoint has its certificate from a local CA: by that word, by naming none, or until
// one is obtained through ACME. An agent asks for one unless it was given one, which the file does not tell.
func asksLocalCA(e *termination.Endpoint) bool {
	return e.TerminateAt == termination.AtAgent || e.TerminateAt == termination.AtEdge && (len(e.Certificates) == 0 ||
		slices.Contains(e.Certificates, termination.CertificateLocal) || onlyByACME(e))
}

func onlyByACME(e *termination.Endpoint) bool {
	return !slices.ContainsFunc(e.Certificates, func(name string) bool { return name != termination.CertificateACME })
}

func mayBeIssued(cas []termination.LocalCA, e *termination.Endpoint) bool {
	names := e.ServerNames()
	if len(names) == 0 {
		names = []string{"localhost"} // a fallback gets the names of this machine
	}
	return slices.ContainsFunc(cas, func(ca termination.LocalCA) bool { return localca.MayIssue(&ca, names) == nil })
}

// freeAuthorityName is a name that neither the dashboard nor the file has given.
func freeAuthorityName(config *termination.Config, d store.Declared) string {
	const name = "Local CA"
	taken := func(s string) bool {
		return config.Authority(s) != nil || slices.ContainsFunc(d.Authorities, func(a termination.Authority) bool { return a.Name == s })
	}
	free := name
	for n := 2; taken(free); n++ {
		free = fmt.Sprintf("%s %d", name, n)
	}
	return free
}
