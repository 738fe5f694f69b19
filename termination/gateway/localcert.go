package gateway

import (
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"time"

	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/servercert"
)

const (
	localCertDays   = 90
	renewalInterval = time.Minute
)

// localCerts are the server certificates that the local CAs issued for endpoints. Their keys live in memory only: a
// start issues anew, which clients that trust the CA do not notice.
type localCerts struct {
	mu     sync.Mutex
	chains map[string]servercert.Chain // by CA and names
}

// chain returns the certificate of an endpoint, issued when there is none or it is due.
func (l *localCerts) chain(cas []termination.LocalCA, e *termination.Endpoint, now time.Time) (servercert.Chain, error) {
	names := localNames(e)
	ca, err := issuerFor(cas, names)
	if err != nil {
		return servercert.Chain{}, err
	}
	key := termination.FingerprintOf(ca.Certificate).String() + " " + strings.Join(names, " ")
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.chains[key]; ok && now.Before(localca.DueAt(c.Certificates[0])) {
		return c, nil
	}
	issued, err := localca.IssueServer(ca, names, now, localCertDays)
	if err != nil {
		return servercert.Chain{}, fmt.Errorf("issue a certificate for endpoint %q by the local CA: %w", e.Name, err)
	}
	c := servercert.Chain{Certificates: issued.Chain, Key: issued.Key}
	if l.chains == nil {
		l.chains = map[string]servercert.Chain{}
	}
	l.chains[key] = c
	return c, nil
}

// forget drops the certificates that are not in use.
func (l *localCerts) forget(used map[termination.Fingerprint]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, c := range l.chains {
		if !used[termination.FingerprintOf(c.Certificates[0])] {
			delete(l.chains, key)
		}
	}
}

// localNames are the names that an endpoint's local certificate covers. A fallback has none of its own; it gets those
// of this machine.
func localNames(e *termination.Endpoint) []string {
	if names := e.ServerNames(); len(names) > 0 {
		return names
	}
	if e.Listen.IsUnspecified() || e.Listen.IsLoopback() {
		return []string{"localhost", "127.0.0.1", "::1"}
	}
	return []string{e.Listen.String()}
}

// issuerFor finds the first local CA that may sign all the names.
func issuerFor(cas []termination.LocalCA, names []string) (*termination.LocalCA, error) {
	if len(cas) == 0 {
		return nil, fmt.Errorf("there is no local CA to issue a certificate for %s; make one under Certificates, or upload a certificate", strings.Join(names, ", "))
	}
	var first error
	for i := range cas {
		err := localca.MayIssue(&cas[i], names)
		if err == nil {
			return &cas[i], nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("no local CA may issue for %s: %w; make a local CA without that limit under Certificates, or upload a certificate", strings.Join(names, ", "), first)
}

// renewCertificates replaces local certificates when two thirds of their life are over, and takes up those that were
// obtained from a CA.
func (g *Gateway) renewCertificates() {
	ticker := time.NewTicker(renewalInterval)
	defer ticker.Stop()
	var changed <-chan struct{}
	if g.obtained != nil {
		changed = g.obtained.Changed()
	}
	for {
		select {
		case <-g.stopped.Done():
			return
		case <-ticker.C:
		case <-changed:
		case <-g.stapler.Changed():
		}
		g.renewDue()
	}
}

// renewDue looks at every endpoint of the current table.
func (g *Gateway) renewDue() {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.table.Load()
	used := map[termination.Fingerprint]bool{}
	var presented []servercert.Chain
	repaired := false
	for _, e := range t.byID {
		if e.chooser == nil {
			continue
		}
		chains, problem := g.chains(t.config, e.Endpoint)
		if problem != "" {
			if problem != e.problem { // else it is known
				g.log.Error("cannot renew a certificate", "endpoint", e.Name, "error", problem)
			}
			continue
		}
		repaired = repaired || e.problem != ""
		e.chooser.Replace(chains)
		presented = append(presented, chains...)
		for _, c := range chains {
			used[termination.FingerprintOf(c.Certificates[0])] = true
		}
	}
	g.local.forget(used)
	g.stapler.Watch(presented, issuers(t.config))
	if repaired && !g.closed && !g.left {
		g.openRepaired(t)
	}
}

// issuers are the CA certificates that are known.
func issuers(config *termination.Config) []*x509.Certificate {
	var out []*x509.Certificate
	for i := range config.Authorities {
		for _, c := range config.Authorities[i].Certificates {
			out = append(out, c.Certificate)
		}
	}
	return out
}

// openRepaired lets clients into endpoints that had no certificate until now.
func (g *Gateway) openRepaired(t *table) {
	next, err := g.compile(t.config, t)
	if err != nil {
		g.log.Error("cannot serve endpoints whose certificate has come", "error", err)
		return
	}
	next.listening = t.listening
	g.publish(next)
}
