package store

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"

	"countersign/termination"
)

// agentCAName stands in the audit log and in problems: there is one.
const agentCAName = "agents"

// agentCARow is the CA of agents as it was read, its key still sealed.
type agentCARow struct {
	certificate []byte // DER
	sealed      []byte
}

// readAgentCA returns nil where none was made yet.
func readAgentCA(ctx context.Context, q *sql.Tx) (*agentCARow, error) {
	var r agentCARow
	err := q.QueryRowContext(ctx, "SELECT certificate, sealed_key FROM agent_ca").Scan(&r.certificate, &r.sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("read the agents' CA: %w", err)
	}
	return &r, nil
}

// agentCA reads the CA of agents. One that cannot be used closes the gateway to agents and to nobody else.
func (l *loader) agentCA() error {
	row, err := readAgentCA(l.ctx, l.sql)
	if err != nil || row == nil {
		return err
	}
	cert, err := x509.ParseCertificate(row.certificate)
	if err != nil {
		err = fmt.Errorf("its certificate cannot be read: %w", err)
	} else {
		var ca termination.AgentCA
		ca.Certificate = cert
		if ca.Key, err = l.store.sealer.openKept(row.sealed, cert.PublicKey, l.keys); err == nil {
			l.config.Agents.CA = &ca
			return nil
		}
	}
	l.problem(KindAgentCA, agentCAName, agentCAName, err.Error()+"; no agent can connect. The next invitation makes a new one, and then each agent has to join again")
	return nil
}

// PutAgentCA keeps ca as the CA that signs the certificates of agents, unless there is one that works: then that one
// stays. One that cannot be read or has ended is replaced, since no agent can connect by it.
func (tx *Tx) PutAgentCA(ca *termination.AgentCA) error {
	row, err := readAgentCA(tx.ctx, tx.sql)
	if err != nil {
		return err
	}
	action := ActionCreate
	if row != nil {
		if tx.agentCAWorks(row) {
			return nil
		}
		action = ActionUpdate
	}
	sealed, err := tx.store.sealer.seal(ca.Key)
	if err != nil {
		return err
	}
	err = tx.exec("INSERT INTO agent_ca (one, certificate, sealed_key, created) VALUES (1, ?, ?, ?) ON CONFLICT DO UPDATE SET certificate = excluded.certificate, sealed_key = excluded.sealed_key, created = excluded.created",
		ca.Certificate.Raw, sealed, tx.now.UnixMilli())
	if err != nil {
		return fmt.Errorf("save the agents' CA: %w", err)
	}
	return tx.audit(action, KindAgentCA, agentCAName, agentCAName, nil, describeX509(ca.Certificate, termination.RoleAnchor))
}

func (tx *Tx) agentCAWorks(row *agentCARow) bool {
	cert, err := x509.ParseCertificate(row.certificate)
	if err != nil || !tx.now.Before(cert.NotAfter) {
		return false
	}
	_, err = tx.store.sealer.open(row.sealed, cert.PublicKey)
	return err == nil
}
