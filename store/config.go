package store

import (
	"context"
	"crypto"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"countersign/termination"
)

// Problem is something in the store that cannot be used as it stands. It stops no more than it must: an endpoint whose
// policy is not known lets nobody in, everything else goes on.
type Problem struct {
	Kind string
	ID   string
	Name string
	Text string // what is wrong, and what follows
}

// Error is the problem in one line.
func (p Problem) Error() string {
	if p.Name == "" {
		return p.Kind + ": " + p.Text
	}
	return fmt.Sprintf("%s %q: %s", p.Kind, p.Name, p.Text)
}

// Load returns the whole configuration, as it stands in one instant, and what of it cannot be used:
//
//   - An endpoint that cannot be read, or whose authorities or certificates cannot, stays in the configuration so that
//     no laxer endpoint answers for its names; but its policy is replaced by one that lets nobody in.
//   - Authorities, certificates and local CAs that cannot be read are left out, and every endpoint that needs them is
//     treated as above.
//
// The configuration is valid. An error means that the store as a whole cannot be read.
func (s *Store) Load(ctx context.Context) (*termination.Config, []Problem, error) {
	var config *termination.Config
	var problems []Problem
	err := s.read(ctx, func(q *sql.Tx) error {
		var err error
		config, problems, err = s.load(ctx, q, nil)
		return err
	})
	return config, problems, explain(s.config.path, err)
}

// loader puts a configuration together.
type loader struct {
	ctx      context.Context //nolint:containedctx // lives within one call
	store    *Store
	sql      *sql.Tx
	config   *termination.Config
	problems []Problem
	names    names
	broken   map[string]string // ID of an authority or a certificate to why it cannot be used
	closed   map[string]bool   // IDs of endpoints that let nobody in
	keys     map[[sha256.Size]byte]crypto.Signer
	known    map[string]bool // IDs that had a problem before; nil: any may have one
}

// load reads the configuration out of q. What is invalid in objects that are not known to have a problem is an error;
// with known nil it is a problem like any other.
func (s *Store) load(ctx context.Context, q *sql.Tx, known map[string]bool) (*termination.Config, []Problem, error) {
	l := &loader{
		ctx: ctx, store: s, sql: q, known: known, config: &termination.Config{Node: s.node},
		broken: map[string]string{}, closed: map[string]bool{}, keys: map[[sha256.Size]byte]crypto.Signer{},
	}
	for _, step := range []func() error{l.state, l.agentCA, l.authorities, l.revoked, l.certificates, l.localCAs, l.endpoints, l.identities, l.blocks, l.credentials, l.settle} {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	s.sealer.keep(l.keys)
	return l.config, l.problems, nil
}

func (l *loader) problem(kind, id, name, text string) {
	l.problems = append(l.problems, Problem{Kind: kind, ID: id, Name: name, Text: text})
}

func (l *loader) state() error {
	var err error
	if err = l.sql.QueryRowContext(l.ctx, "SELECT revision FROM state").Scan(&l.config.Revision); err != nil {
		return fmt.Errorf("read revision: %w", err)
	}
	if l.names, err = readNames(l.ctx, l.sql); err != nil {
		return err
	}
	if l.config.Limits, err = readLimits(l.ctx, l.sql); err != nil {
		if resultCode(err) != 0 {
			return err
		}
		l.problem("limits", "", "", err.Error()+"; the default limits hold")
	}
	if l.config.Agents, err = readAgents(l.ctx, l.sql); err != nil {
		if resultCode(err) != 0 {
			return err
		}
		l.problem("agents", "", "", err.Error()+"; no agent can connect")
	}
	if l.config.ACME, err = l.store.readACME(l.ctx, l.sql); err != nil {
		if resultCode(err) != 0 {
			return err
		}
		l.problem("acme", "", "", err.Error()+"; no certificate can be obtained")
	}
	return nil
}

func (l *loader) authorities() error {
	rows, err := readAuthorities(l.ctx, l.sql, "")
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.err != nil {
			l.breaks(KindAuthority, r.ID, r.Name, r.err)
			continue
		}
		l.config.Authorities = append(l.config.Authorities, r.Authority)
	}
	return nil
}

// breaks notes that an authority or a certificate cannot be used.
func (l *loader) breaks(kind, id, name string, err error) {
	l.broken[id] = fmt.Sprintf("%s %q: %v", kind, name, err)
	l.problem(kind, id, name, err.Error()+"; endpoints that need it let nobody in until it is replaced")
}

func (l *loader) certificates() error {
	rows, err := readCertificates(l.ctx, l.sql, "")
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.err == nil {
			r.Key, r.err = l.store.sealer.openKept(r.sealed, r.Leaf().PublicKey, l.keys)
		}
		if r.err != nil {
			l.breaks(KindCertificate, r.ID, r.Name, r.err)
			continue
		}
		l.config.Certificates = append(l.config.Certificates, r.Certificate)
	}
	return nil
}

func (l *loader) localCAs() error {
	rows, err := readLocalCAs(l.ctx, l.sql)
	if err != nil {
		return err
	}
	for _, r := range rows {
		ca, err := r.open(l.config.Authority(r.authority), l)
		if err != nil {
			l.problem(KindLocalCA, r.authorityID, r.authority, err.Error()+"; it issues nothing")
			continue
		}
		l.config.LocalCAs = append(l.config.LocalCAs, ca)
	}
	return nil
}

func (l *loader) endpoints() error {
	defaults, err := readDefaults(l.ctx, l.sql)
	if err != nil {
		return err // they widen every policy that inherits: nothing can be served without knowing them
	}
	var brokenDefault string
	defaults.Authorities = slices.DeleteFunc(defaults.Authorities, func(name string) bool {
		if l.config.Authority(name) != nil {
			return false
		}
		brokenDefault = fmt.Sprintf("authority %q, which it inherits from the defaults, cannot be used", name)
		return true
	})
	l.config.Defaults = defaults
	rows, err := readEndpoints(l.ctx, l.sql, "")
	if err != nil {
		return err
	}
	for _, r := range rows {
		e, err := r.build(l.names)
		if err == nil {
			err = l.needs(r)
		}
		if err == nil && brokenDefault != "" && inherits(e) {
			err = errors.New(brokenDefault)
		}
		if err == nil {
			l.showOurselves(&e)
			l.config.Endpoints = append(l.config.Endpoints, e)
			continue
		}
		address, _ := r.address() // as much of it as is known
		l.config.Endpoints = append(l.config.Endpoints, address)
		l.closeEndpoint(len(l.config.Endpoints)-1, err.Error())
	}
	return nil
}

// needs returns why an endpoint cannot be served for want of something it refers to.
func (l *loader) needs(r endpointRow) error {
	for _, a := range r.authorities {
		if why, broken := l.broken[a.id]; broken {
			return errors.New(why)
		}
	}
	for _, id := range r.certificates {
		if why, broken := l.broken[id]; broken {
			return errors.New(why)
		}
	}
	for _, c := range r.ownCertificates {
		if why, broken := l.broken[c.id]; broken {
			return errors.New(why)
		}
	}
	return nil
}

// showOurselves gives each upstream the certificate that it is to see from us.
func (l *loader) showOurselves(e *termination.Endpoint) {
	upstreams := []*termination.Upstream{&e.Upstream}
	for i := range e.Routes {
		if e.Routes[i].Upstream != nil {
			upstreams = append(upstreams, e.Routes[i].Upstream)
		}
	}
	for _, u := range upstreams {
		if c := l.config.Certificate(u.TLS.Certificate); c != nil {
			u.TLS.Client = &termination.KeyPair{Chain: c.Chain, Key: c.Key}
		}
	}
}

func inherits(e termination.Endpoint) bool {
	if e.ClientAuth.Inherit && e.ClientAuth.Mode != termination.ModeOff {
		return true
	}
	return slices.ContainsFunc(e.Routes, func(r termination.Route) bool {
		return r.ClientAuth != nil && r.ClientAuth.Inherit && r.ClientAuth.Mode != termination.ModeOff
	})
}
