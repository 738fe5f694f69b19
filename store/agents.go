package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"countersign/termination"
)

const (
	// maxAgents bounds the agents that have joined and the invitations that are open, together, so that lists of them fit.
	maxAgents = 20_000
	// tombstoneLife is how long a removed agent is remembered. Its certificate ends long before; from then on it is
	// refused as one that is not known.
	tombstoneLife = 30 * 24 * time.Hour
	// agentsSeenEvery is how often the times at which agents were seen are written, for all of them in one go.
	agentsSeenEvery = 5 * time.Second
)

// AgentRemovedError says that an agent was removed and may not come back.
type AgentRemovedError struct{ ID string }

func (e AgentRemovedError) Error() string {
	return fmt.Sprintf("agent %q was removed; let it join again with a new invitation, if that is wanted", e.ID)
}

const selectAgent = "SELECT id, endpoint_id, name, key, created, seen, version, address, coalesce(removed, 0) FROM agents "

// Agent returns the agent with that ID as it is now. The error is a [NotFoundError] or an [AgentRemovedError], or means
// that the store cannot be read.
func (s *Store) Agent(ctx context.Context, id string) (termination.Agent, error) {
	a, err := scanAgent(s.config.reader.QueryRowContext(ctx, selectAgent+"WHERE id = ?", id))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return termination.Agent{}, NotFoundError{Kind: KindAgent, Name: id}
	case err != nil:
		return termination.Agent{}, fmt.Errorf("look for agent: %w", err)
	case a.Removed:
		return a, AgentRemovedError{ID: id}
	}
	return s.seen.latest(a), nil
}

// Agents lists the agents that have joined and were not removed, those of one endpoint or, with an empty ID, all; the
// last that joined comes first.
func (s *Store) Agents(ctx context.Context, endpointID string) ([]termination.Agent, error) {
	rows, err := s.config.reader.QueryContext(ctx, selectAgent+"WHERE removed IS NULL AND (?1 = '' OR endpoint_id = ?1) ORDER BY created DESC, id DESC LIMIT ?2", endpointID, maxAgents)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []termination.Agent
	for rows.Next() {
		a, err := scanAgent(rows)
		if err != nil {
			return nil, fmt.Errorf("list agents: %w", err)
		}
		out = append(out, s.seen.latest(a))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	return out, nil
}

func scanAgent(row scanner) (termination.Agent, error) {
	var a termination.Agent
	var key []byte
	var created, seen, removed int64
	if err := row.Scan(&a.ID, &a.EndpointID, &a.Name, &key, &created, &seen, &a.Version, &a.Address, &removed); err != nil {
		return a, err
	}
	copy(a.Key[:], key)
	a.Created, a.Removed = fromMillis(created), removed != 0
	if seen != 0 {
		a.Seen = fromMillis(seen)
	}
	return a, nil
}

// describedAgent is an agent for the audit log.
type describedAgent struct {
	Name       string `json:"name"`
	Endpoint   string `json:"endpoint"`
	Key        string `json:"key"`
	Address    string `json:"address,omitempty"`
	Invitation string `json:"invitation,omitempty"`
	InvitedBy  string `json:"invitedBy,omitempty"`
}

// RemoveAgent keeps the agent with that ID from coming back. Whoever serves the configuration that follows cuts it off.
func (tx *Tx) RemoveAgent(id string) error {
	a, err := scanAgent(tx.sql.QueryRowContext(tx.ctx, selectAgent+"WHERE id = ? AND removed IS NULL", id))
	if errors.Is(err, sql.ErrNoRows) {
		return NotFoundError{Kind: KindAgent, Name: id}
	}
	if err != nil {
		return fmt.Errorf("look for agent: %w", err)
	}
	if err := tx.exec("UPDATE agents SET removed = ? WHERE id = ?", tx.now.UnixMilli(), id); err != nil {
		return fmt.Errorf("remove agent: %w", err)
	}
	endpoint, err := tx.endpointName(a.EndpointID)
	if err != nil {
		return err
	}
	return tx.audit(ActionDelete, KindAgent, a.ID, a.Name, describedAgent{Name: a.Name, Endpoint: endpoint, Key: a.Key.String(), Address: a.Address}, nil)
}

func (tx *Tx) endpointName(id string) (string, error) {
	var name string
	if err := tx.sql.QueryRowContext(tx.ctx, "SELECT name FROM endpoints WHERE id = ?", id).Scan(&name); err != nil {
		return "", fmt.Errorf("read an endpoint's name: %w", err)
	}
	return name, nil
}

// countAgents counts the agents of an endpoint that were not removed.
func (tx *Tx) countAgents(endpointID string) (int, error) {
	var n int
	err := tx.sql.QueryRowContext(tx.ctx, "SELECT count(*) FROM agents WHERE endpoint_id = ? AND removed IS NULL", endpointID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count agents: %w", err)
	}
	return n, nil
}

// agentsSeen gathers when agents were seen, so that a thousand that come back at once cost one write and not a thousand.
// It holds no more than the agents there can be.
type agentsSeen struct {
	mu      sync.Mutex
	pending map[string]termination.Agent // by ID; not written yet
	written time.Time
}

// latest puts what is not written yet over what was read.
func (v *agentsSeen) latest(a termination.Agent) termination.Agent {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p, ok := v.pending[a.ID]; ok && p.Seen.After(a.Seen) {
		a.Seen, a.Name, a.Version, a.Address = p.Seen, p.Name, p.Version, p.Address
	}
	return a
}

// note adds what is known of one agent, and reports whether it is time to write.
func (v *agentsSeen) note(a termination.Agent, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pending == nil {
		v.pending = map[string]termination.Agent{}
	}
	if before, ok := v.pending[a.ID]; ok && before.Seen.After(a.Seen) || !ok && len(v.pending) >= maxAgents {
		return true
	}
	v.pending[a.ID] = a
	return now.Sub(v.written) >= agentsSeenEvery
}

// take returns what is to be written. What is read meanwhile is the time before, for a moment.
func (v *agentsSeen) take(now time.Time) map[string]termination.Agent {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := v.pending
	v.pending, v.written = nil, now
	return out
}

// AgentSeen notes that an agent is, or was until now, online: its Seen, Name, Version and Address. It waits for no change
// and costs no write of its own; at most seconds of it are lost in a crash. An agent that is no longer there is no error.
func (s *Store) AgentSeen(ctx context.Context, a termination.Agent) error {
	a.Name, a.Version, a.Address = cleanText(a.Name), cleanText(a.Version), cleanText(a.Address)
	if a.Seen.IsZero() {
		a.Seen = s.now()
	}
	if !s.seen.note(a, s.now()) {
		return nil
	}
	select {
	case <-s.writing:
	default:
		return nil // somebody else writes; the next one that is seen does it
	}
	defer s.release()
	if s.closed {
		return nil
	}
	return s.writeSeen(ctx)
}

// writeSeen writes what was gathered. The caller holds the right to write.
func (s *Store) writeSeen(ctx context.Context) error {
	pending := s.seen.take(s.now())
	if len(pending) == 0 {
		return nil
	}
	return s.transact(ctx, Actor{}, func(tx *Tx) error {
		for id, a := range pending {
			err := tx.exec("UPDATE agents SET seen = ?, name = ?, version = ?, address = ? WHERE id = ? AND removed IS NULL AND seen < ?1",
				a.Seen.UnixMilli(), a.Name, a.Version, a.Address, id)
			if err != nil {
				return fmt.Errorf("note when agents were seen: %w", err)
			}
		}
		return nil
	})
}
