package store

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"

	"countersign/termination"
)

// endpointRow is an endpoint as it was read, before its settings are understood. References are by ID.
type endpointRow struct {
	id, name, origin string
	enabled          bool
	scheme, host     string
	listen           string
	port             uint16
	terminateAt      string
	version          int
	settings         string
	aliases          []string
	authorities      []routeAuthority
	certificates     []string // IDs, or the words that are no names of certificates
	ownCertificates  []routeCertificate
}

// routeAuthority is one authority of an endpoint (route is empty) or of one of its routes.
type routeAuthority struct {
	route string
	id    string
}

// routeCertificate is the client certificate towards the upstream of an endpoint (route is empty) or of one of its routes.
type routeCertificate struct {
	route string
	id    string
}

// CreateEndpoint adds an endpoint and returns it with its new ID. An endpoint without an origin is the dashboard's.
func (tx *Tx) CreateEndpoint(e termination.Endpoint) (termination.Endpoint, error) {
	if err := checkObject(KindEndpoint, e.Name, &e.Origin); err != nil {
		return e, err
	}
	if err := tx.writable(KindEndpoint, e.Name, e.Origin); err != nil {
		return e, err
	}
	settings, err := marshalSettings(e)
	if err != nil {
		return e, err
	}
	e.ID = termination.NewID(termination.PrefixEndpoint, tx.now)
	err = tx.exec(`INSERT INTO endpoints (id, name, origin, enabled, scheme, host, listen, port, terminate_at, settings_version, settings, created, changed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.ID, e.Name, string(e.Origin), e.Enabled, string(e.Scheme), e.Host, e.Listen.String(), e.Port, string(e.TerminateAt), settingsVersion, settings, tx.now.UnixMilli(), tx.now.UnixMilli())
	if err != nil {
		return e, saving(KindEndpoint, e.Name, err)
	}
	if err := tx.insertReferences(e); err != nil {
		return e, err
	}
	return e, tx.audit(ActionCreate, KindEndpoint, e.ID, e.Name, nil, describeEndpoint(e))
}

// UpdateEndpoint replaces everything of the endpoint with e's ID but its origin. One that could not be read is repaired
// by it.
func (tx *Tx) UpdateEndpoint(e termination.Endpoint) error {
	row, err := tx.endpointRow(e.ID)
	if err != nil {
		return err
	}
	e.ID, e.Origin = row.id, termination.Origin(row.origin)
	if err := tx.writable(KindEndpoint, row.name, e.Origin); err != nil {
		return err
	}
	if err := checkObject(KindEndpoint, e.Name, &e.Origin); err != nil {
		return err
	}
	before, err := tx.describeRow(row)
	if err != nil {
		return err
	}
	if unchanged, err := same(before, describeEndpoint(e)); err != nil || unchanged {
		return err
	}
	settings, err := marshalSettings(e)
	if err != nil {
		return err
	}
	err = tx.exec(`UPDATE endpoints SET name = ?, enabled = ?, scheme = ?, host = ?, listen = ?, port = ?, terminate_at = ?, settings_version = ?, settings = ?, changed = ? WHERE id = ?`,
		e.Name, e.Enabled, string(e.Scheme), e.Host, e.Listen.String(), e.Port, string(e.TerminateAt), settingsVersion, settings, tx.now.UnixMilli(), e.ID)
	if err != nil {
		return saving(KindEndpoint, e.Name, err)
	}
	for _, table := range []string{"endpoint_aliases", "endpoint_authorities", "endpoint_certificates", "endpoint_own_certificates"} {
		if err := tx.exec("DELETE FROM "+table+" WHERE endpoint_id = ?", e.ID); err != nil {
			return saving(KindEndpoint, e.Name, err)
		}
	}
	if err := tx.insertReferences(e); err != nil {
		return err
	}
	return tx.audit(ActionUpdate, KindEndpoint, e.ID, e.Name, before, describeEndpoint(e))
}

// DeleteEndpoint removes the endpoint with that name or ID, and with it its agents and invitations.
func (tx *Tx) DeleteEndpoint(ref string) error {
	row, err := tx.endpointRow(ref)
	if err != nil {
		return err
	}
	if err := tx.writable(KindEndpoint, row.name, termination.Origin(row.origin)); err != nil {
		return err
	}
	users, err := tx.identitiesAt(row.id)
	if err != nil {
		return err
	}
	credentials, err := tx.credentialsOf(row.id)
	if err != nil {
		return err
	}
	users = append(users, credentials...)
	if len(users) > 0 {
		return InUseError{Kind: KindEndpoint, Name: row.name, By: users}
	}
	before, err := tx.describeRow(row)
	if err != nil {
		return err
	}
	if before.Agents, err = tx.countAgents(row.id); err != nil {
		return err
	}
	if err := tx.exec("DELETE FROM endpoints WHERE id = ?", row.id); err != nil {
		return saving(KindEndpoint, row.name, err)
	}
	return tx.audit(ActionDelete, KindEndpoint, row.id, row.name, before, nil)
}

// Endpoint returns the endpoint with that ID or name. One that cannot be read is an error.
func (tx *Tx) Endpoint(ref string) (termination.Endpoint, error) {
	row, err := tx.endpointRow(ref)
	if err != nil {
		return termination.Endpoint{}, err
	}
	names, err := readNames(tx.ctx, tx.sql)
	if err != nil {
		return termination.Endpoint{}, err
	}
	e, err := row.build(names)
	if err != nil {
		return e, fmt.Errorf("read endpoint %q: %w", row.name, err)
	}
	return e, nil
}

func (tx *Tx) endpointRow(ref string) (endpointRow, error) {
	rows, err := readEndpoints(tx.ctx, tx.sql, ref)
	if err != nil {
		return endpointRow{}, err
	}
	for _, r := range rows {
		if ref != "" && (r.id == ref || len(rows) == 1) {
			return r, nil
		}
	}
	return endpointRow{}, NotFoundError{Kind: KindEndpoint, Name: ref}
}

// insertReferences writes what an endpoint refers to, by ID, so that renames carry through.
func (tx *Tx) insertReferences(e termination.Endpoint) error {
	for i, name := range e.Aliases {
		if err := tx.exec("INSERT INTO endpoint_aliases (endpoint_id, position, name) VALUES (?, ?, ?)", e.ID, i, name); err != nil {
			return saving(KindEndpoint, e.Name, err)
		}
	}
	if err := tx.insertCertificateReferences(e); err != nil {
		return err
	}
	authorities, err := nameToID(tx.ctx, tx.sql, authorityNames)
	if err != nil {
		return err
	}
	if err := tx.insertAuthorityReferences(e, "", "client_auth.authorities", e.ClientAuth.Authorities, authorities); err != nil {
		return err
	}
	for _, r := range e.Routes {
		if r.ClientAuth == nil {
			continue
		}
		if err := tx.insertAuthorityReferences(e, r.Path, "routes.client_auth.authorities", r.ClientAuth.Authorities, authorities); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) insertCertificateReferences(e termination.Endpoint) error {
	certificates, err := nameToID(tx.ctx, tx.sql, certificateNames)
	if err != nil {
		return err
	}
	for i, name := range e.Certificates {
		var id any
		issuer := ""
		switch name {
		case termination.CertificateLocal:
		case termination.CertificateACME:
			issuer = name
		default:
			known, ok := certificates[name]
			if !ok {
				return fieldError(KindEndpoint, e.Name, "certificates", fmt.Sprintf("there is no certificate %q", name), "upload it under Certificates, or use local")
			}
			id = known
		}
		if err := tx.exec("INSERT INTO endpoint_certificates (endpoint_id, position, certificate_id, issuer) VALUES (?, ?, ?, ?)", e.ID, i, id, issuer); err != nil {
			return saving(KindEndpoint, e.Name, err)
		}
	}
	if err := tx.insertOwnCertificate(e, "", "upstream_tls", e.Upstream, certificates); err != nil {
		return err
	}
	for _, r := range e.Routes {
		if r.Upstream == nil {
			continue
		}
		if err := tx.insertOwnCertificate(e, r.Path, "routes.upstream_tls", *r.Upstream, certificates); err != nil {
			return err
		}
	}
	return nil
}

// insertOwnCertificate writes with which certificate we show ourselves to an upstream.
func (tx *Tx) insertOwnCertificate(e termination.Endpoint, route, field string, u termination.Upstream, ids map[string]string) error {
	if u.TLS.Certificate == "" {
		return nil
	}
	id, ok := ids[u.TLS.Certificate]
	if !ok {
		return fieldError(KindEndpoint, e.Name, field, fmt.Sprintf("there is no certificate %q", u.TLS.Certificate), "upload it under Certificates, with its key")
	}
	if err := tx.exec("INSERT INTO endpoint_own_certificates (endpoint_id, route, certificate_id) VALUES (?, ?, ?)", e.ID, route, id); err != nil {
		return saving(KindEndpoint, e.Name, err)
	}
	return nil
}

func (tx *Tx) insertAuthorityReferences(e termination.Endpoint, route, field string, names []string, ids map[string]string) error {
	for i, name := range names {
		id, ok := ids[name]
		if !ok {
			return fieldError(KindEndpoint, e.Name, field, fmt.Sprintf("there is no authority %q", name), "upload it under Trust, or choose another")
		}
		err := tx.exec("INSERT INTO endpoint_authorities (endpoint_id, route, position, authority_id) VALUES (?, ?, ?, ?)", e.ID, route, i, id)
		if isUnique(err) {
			return fieldError(KindEndpoint, e.Name, "routes.path", fmt.Sprintf("%q stands there twice", route), "remove one")
		}
		if err != nil {
			return saving(KindEndpoint, e.Name, err)
		}
	}
	return nil
}

// readEndpoints returns endpoints in the order in which they were made: those with that ID or name, or, with an empty
// ref, all.
func readEndpoints(ctx context.Context, q *sql.Tx, ref string) ([]endpointRow, error) {
	rows, err := q.QueryContext(ctx, `SELECT id, name, origin, enabled, scheme, host, listen, port, terminate_at, settings_version, settings
		FROM endpoints WHERE ?1 = '' OR id = ?1 OR name = ?1 ORDER BY id`, ref)
	if err != nil {
		return nil, fmt.Errorf("read endpoints: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []endpointRow
	for rows.Next() {
		var r endpointRow
		if err := rows.Scan(&r.id, &r.name, &r.origin, &r.enabled, &r.scheme, &r.host, &r.listen, &r.port, &r.terminateAt, &r.version, &r.settings); err != nil {
			return nil, fmt.Errorf("read endpoints: %w", err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read endpoints: %w", err)
	}
	return out, readReferences(ctx, q, out)
}

// readReferences fills in aliases, authorities and certificates, each with one query for all endpoints.
func readReferences(ctx context.Context, q *sql.Tx, endpoints []endpointRow) error {
	byID := make(map[string]*endpointRow, len(endpoints))
	for i := range endpoints {
		byID[endpoints[i].id] = &endpoints[i]
	}
	for _, part := range []struct {
		query string // of an endpoint's ID and two texts
		add   func(e *endpointRow, a, b string)
	}{
		{
			"SELECT endpoint_id, name, '' FROM endpoint_aliases ORDER BY endpoint_id, position",
			func(e *endpointRow, a, _ string) { e.aliases = append(e.aliases, a) },
		},
		{
			"SELECT endpoint_id, route, authority_id FROM endpoint_authorities ORDER BY endpoint_id, route, position",
			func(e *endpointRow, a, b string) {
				e.authorities = append(e.authorities, routeAuthority{route: a, id: b})
			},
		},
		{
			"SELECT endpoint_id, coalesce(certificate_id, CASE issuer WHEN '' THEN 'local' ELSE issuer END), '' FROM endpoint_certificates ORDER BY endpoint_id, position",
			func(e *endpointRow, a, _ string) { e.certificates = append(e.certificates, a) },
		},
		{
			"SELECT endpoint_id, route, certificate_id FROM endpoint_own_certificates ORDER BY endpoint_id, route",
			func(e *endpointRow, a, b string) {
				e.ownCertificates = append(e.ownCertificates, routeCertificate{route: a, id: b})
			},
		},
	} {
		err := eachReference(ctx, q, part.query, func(id, a, b string) {
			if e := byID[id]; e != nil {
				part.add(e, a, b)
			}
		})
		if err != nil {
			return fmt.Errorf("read what endpoints refer to: %w", err)
		}
	}
	return nil
}

func eachReference(ctx context.Context, q *sql.Tx, query string, f func(id, a, b string)) error {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, a, b string
		if err := rows.Scan(&id, &a, &b); err != nil {
			return err
		}
		f(id, a, b)
	}
	return rows.Err()
}

// names maps IDs to names.
type names struct {
	authorities  map[string]string
	certificates map[string]string
}

func readNames(ctx context.Context, q *sql.Tx) (names, error) {
	authorities, err := nameToID(ctx, q, authorityNames)
	if err != nil {
		return names{}, err
	}
	certificates, err := nameToID(ctx, q, certificateNames)
	return names{authorities: inverted(authorities), certificates: inverted(certificates)}, err
}

func inverted(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[v] = k
	}
	return out
}

// build makes the endpoint out of the row. An error means that its policy is not known, so nobody may enter.
func (r endpointRow) build(n names) (termination.Endpoint, error) {
	e, err := r.address()
	if err != nil {
		return e, err
	}
	e.TerminateAt = termination.TerminateAt(r.terminateAt)
	s, err := unmarshalSettings(r.version, r.settings)
	if err != nil {
		return e, err
	}
	s.fill(&e)
	for _, id := range r.certificates {
		name, ok := n.certificates[id]
		switch {
		case id == termination.CertificateLocal, id == termination.CertificateACME:
			name = id
		case !ok:
			return e, fmt.Errorf("its certificate %s is not there", id)
		}
		e.Certificates = append(e.Certificates, name)
	}
	for _, c := range r.ownCertificates {
		name, ok := n.certificates[c.id]
		if !ok {
			return e, fmt.Errorf("its certificate %s towards an upstream is not there", c.id)
		}
		u := upstreamOf(&e, c.route)
		if u == nil {
			return e, fmt.Errorf("a certificate stands under its route %q, which has no upstream", c.route)
		}
		u.TLS.Certificate = name
	}
	for _, a := range r.authorities {
		name, ok := n.authorities[a.id]
		if !ok {
			return e, fmt.Errorf("its authority %s is not there", a.id)
		}
		policy := policyOf(&e, a.route)
		if policy == nil {
			return e, fmt.Errorf("an authority stands under its route %q, which is not there", a.route)
		}
		policy.Authorities = append(policy.Authorities, name)
	}
	return e, nil
}

// address makes the part of the endpoint that says where it answers. With an error it claims as much as it might have.
func (r endpointRow) address() (termination.Endpoint, error) {
	e := termination.Endpoint{
		ID: r.id, Name: r.name, Origin: termination.Origin(r.origin), Enabled: r.enabled,
		Scheme: termination.Scheme(r.scheme), Host: r.host, Aliases: r.aliases, Port: r.port,
	}
	var err error
	if e.Listen, err = netip.ParseAddr(r.listen); err != nil {
		e.Listen = netip.IPv4Unspecified()
		return e, fmt.Errorf("the interface it listens on cannot be read: %w", err)
	}
	if e.Scheme != termination.SchemeHTTPS && e.Scheme != termination.SchemeTLS {
		e.Scheme = termination.SchemeTLS
		return e, fmt.Errorf("its scheme %q is unknown", r.scheme)
	}
	return e, nil
}

func policyOf(e *termination.Endpoint, route string) *termination.ClientAuth {
	if route == "" {
		return &e.ClientAuth
	}
	for i := range e.Routes {
		if e.Routes[i].Path == route {
			return e.Routes[i].ClientAuth
		}
	}
	return nil
}

func upstreamOf(e *termination.Endpoint, route string) *termination.Upstream {
	if route == "" {
		return &e.Upstream
	}
	for i := range e.Routes {
		if e.Routes[i].Path == route {
			return e.Routes[i].Upstream
		}
	}
	return nil
}
