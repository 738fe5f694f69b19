package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"countersign/termination"
)

// maxChangesSince bounds the changes that are listed of an endpoint since a revision.
const maxChangesSince = 100

// EndpointThen is an endpoint as it was configured at a revision, from the audit log.
type EndpointThen struct {
	Endpoint termination.Endpoint // without ID, origin and agents
	Since    time.Time            // of the change that made it so
	By       Actor
	Changes  []AuditEntry // of the endpoint since then, newest first, at most a hundred
}

// EndpointAsOf returns the endpoint with that ID as it was at a revision, also when it is gone. The error is a
// [NotFoundError] where the audit log knows nothing of it at that time.
func (s *Store) EndpointAsOf(ctx context.Context, id string, revision uint64) (EndpointThen, error) {
	var then EndpointThen
	var at int64
	var after string
	err := s.config.reader.QueryRowContext(ctx, `SELECT time, actor, via, coalesce(after, '') FROM audit
		WHERE object_id = ? AND kind = ? AND revision <= ? ORDER BY seq DESC LIMIT 1`,
		id, KindEndpoint, int64(revision)).Scan(&at, &then.By.Name, &then.By.Via, &after) //nolint:gosec // a revision fits
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && after == "":
		return then, NotFoundError{Kind: KindEndpoint, Name: id}
	case err != nil:
		return then, fmt.Errorf("read an earlier endpoint: %w", err)
	}
	if then.Endpoint, err = readDescribed(after); err != nil {
		return then, fmt.Errorf("read an earlier endpoint: %w", err)
	}
	then.Since = fromMillis(at)
	entries, err := s.Audit(ctx, AuditQuery{Kind: KindEndpoint, ObjectID: id, Limit: maxChangesSince})
	if err != nil {
		return then, err
	}
	for _, e := range entries {
		if e.Revision > revision {
			then.Changes = append(then.Changes, e)
		}
	}
	return then, nil
}

// readDescribed reads what [describeEndpoint] wrote.
func readDescribed(text string) (termination.Endpoint, error) {
	var d describedEndpoint
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return termination.Endpoint{}, fmt.Errorf("its entry in the audit log: %w", err)
	}
	if d.Unreadable != "" {
		return termination.Endpoint{}, fmt.Errorf("it could not be read then either: %s", d.Unreadable)
	}
	settings, err := unmarshalSettings(settingsVersion, string(d.Settings))
	if err != nil {
		return termination.Endpoint{}, err
	}
	e := termination.Endpoint{
		Name: d.Name, Enabled: d.Enabled, Scheme: termination.Scheme(d.Scheme), Host: d.Host, Port: d.Port,
		TerminateAt: termination.TerminateAt(d.TerminateAt), Aliases: d.Aliases, Certificates: d.Certificates,
	}
	if e.Listen, err = netip.ParseAddr(d.Listen); err != nil {
		return e, fmt.Errorf("its listening address: %w", err)
	}
	settings.fill(&e)
	e.ClientAuth.Authorities, e.Upstream.TLS.Certificate = d.Authorities[""], d.Upstream[""]
	for i := range e.Routes {
		r := &e.Routes[i]
		if r.ClientAuth != nil {
			r.ClientAuth.Authorities = d.Authorities[r.Path]
		}
		if r.Upstream != nil {
			r.Upstream.TLS.Certificate = d.Upstream[r.Path]
		}
	}
	return e, nil
}
