package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"countersign/termination"
)

// How long an invitation can be good.
const (
	MinInvitation = time.Minute
	MaxInvitation = 30 * 24 * time.Hour
)

// invitationMemory is how long an invitation that was used or has expired is remembered, so that whoever tries it is told
// why it does not work.
const invitationMemory = 7 * 24 * time.Hour

// Errors of [Store.Redeem].
var (
	ErrInvitationUnknown   = errors.New("there is no such invitation: it was withdrawn, or is another gateway's")
	ErrInvitationUsed      = errors.New("the invitation was used already, and lets in one agent once")
	ErrInvitationExpired   = errors.New("the invitation has expired")
	ErrInvitationElsewhere = errors.New("the invitation is for another endpoint")
)

// Invitation is a [termination.Invitation] with what became of it.
type Invitation struct {
	termination.Invitation
	Endpoint string    // name
	Used     time.Time // zero: it was not
	AgentID  string    // that came by it
}

// Open reports whether an agent can still come by it.
func (i Invitation) Open(now time.Time) bool { return i.Used.IsZero() && now.Before(i.Expires) }

// describedInvitation is an invitation for the audit log.
type describedInvitation struct {
	Endpoint string    `json:"endpoint"`
	Expires  time.Time `json:"expires"`
}

// CreateInvitation lets one agent join the endpoint with that name or ID, once, for as long as life. secret is the hash of
// what the agent will show.
func (s *Store) CreateInvitation(ctx context.Context, actor Actor, endpoint string, secret [sha256.Size]byte, life time.Duration) (Invitation, error) {
	if err := actor.check(); err != nil {
		return Invitation{}, err
	}
	if life < MinInvitation || life > MaxInvitation {
		return Invitation{}, fieldError(KindInvitation, "", "expires", "must be from a minute to 30 days", "an hour is enough to start an agent: 1h")
	}
	var out Invitation
	err := s.write(ctx, actor, func(tx *Tx) error {
		row, err := tx.endpointRow(endpoint)
		if err != nil {
			return err
		}
		if termination.TerminateAt(row.terminateAt) != termination.AtAgent {
			return fieldError(KindInvitation, "", "endpoint", fmt.Sprintf("TLS of endpoint %q does not end at an agent", row.name), "set terminate_at: agent first, on its page or in the configuration file")
		}
		if err := tx.forgetAgents(); err != nil {
			return err
		}
		if err := tx.roomForAgent(); err != nil {
			return err
		}
		out = Invitation{Endpoint: row.name, Invitation: termination.Invitation{
			ID: termination.NewID(termination.PrefixInvitation, tx.now), EndpointID: row.id, Secret: secret,
			Created: tx.now.Truncate(time.Millisecond), Expires: tx.now.Add(life).Truncate(time.Millisecond), By: actor.Name,
		}}
		err = tx.exec("INSERT INTO invitations (id, secret_hash, endpoint_id, created, created_by, expires) VALUES (?, ?, ?, ?, ?, ?)",
			out.ID, secret[:], row.id, out.Created.UnixMilli(), out.By, out.Expires.UnixMilli())
		if err != nil {
			return fmt.Errorf("save invitation: %w", err)
		}
		return tx.audit(ActionCreate, KindInvitation, out.ID, row.name, nil, describedInvitation{Endpoint: row.name, Expires: out.Expires})
	})
	return out, err
}

// forgetAgents deletes what nobody asks about any more.
func (tx *Tx) forgetAgents() error {
	old := tx.now.Add(-invitationMemory).UnixMilli()
	if err := tx.exec("DELETE FROM invitations WHERE min(expires, coalesce(used, expires)) < ?", old); err != nil {
		return fmt.Errorf("forget old invitations: %w", err)
	}
	if err := tx.exec("DELETE FROM agents WHERE removed < ?", tx.now.Add(-tombstoneLife).UnixMilli()); err != nil {
		return fmt.Errorf("forget removed agents: %w", err)
	}
	return nil
}

func (tx *Tx) roomForAgent() error {
	var n int
	err := tx.sql.QueryRowContext(tx.ctx, `SELECT (SELECT count(*) FROM agents WHERE removed IS NULL) + (SELECT count(*) FROM invitations WHERE used IS NULL AND expires > ?)`,
		tx.now.UnixMilli()).Scan(&n)
	if err != nil {
		return fmt.Errorf("count agents: %w", err)
	}
	if n >= maxAgents {
		return fieldError(KindInvitation, "", "endpoint", fmt.Sprintf("there are %d agents and open invitations, and no room for more", n), "remove agents that are gone, or withdraw invitations")
	}
	return nil
}

const selectInvitation = `SELECT i.id, i.endpoint_id, e.name, i.secret_hash, i.created, i.created_by, i.expires, coalesce(i.used, 0), coalesce(i.agent_id, '')
	FROM invitations i JOIN endpoints e ON e.id = i.endpoint_id `

func scanInvitation(row scanner) (Invitation, error) {
	var i Invitation
	var secret []byte
	var created, expires, used int64
	if err := row.Scan(&i.ID, &i.EndpointID, &i.Endpoint, &secret, &created, &i.By, &expires, &used, &i.AgentID); err != nil {
		return i, err
	}
	copy(i.Secret[:], secret)
	i.Created, i.Expires = fromMillis(created), fromMillis(expires)
	if used != 0 {
		i.Used = fromMillis(used)
	}
	return i, nil
}

// Invitations lists invitations, newest first: those that are open, and for a week those that were used or expired.
func (s *Store) Invitations(ctx context.Context) ([]Invitation, error) {
	rows, err := s.config.reader.QueryContext(ctx, selectInvitation+"WHERE min(i.expires, coalesce(i.used, i.expires)) >= ? ORDER BY i.created DESC, i.id DESC LIMIT ?",
		s.now().Add(-invitationMemory).UnixMilli(), maxAgents)
	if err != nil {
		return nil, fmt.Errorf("list invitations: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []Invitation
	for rows.Next() {
		i, err := scanInvitation(rows)
		if err != nil {
			return nil, fmt.Errorf("list invitations: %w", err)
		}
		out = append(out, i)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list invitations: %w", err)
	}
	return out, nil
}

// WithdrawInvitation makes the invitation with that ID useless. One that was used is a [NotFoundError]: its agent has
// joined, and is removed by itself.
func (s *Store) WithdrawInvitation(ctx context.Context, actor Actor, id string) error {
	if err := actor.check(); err != nil {
		return err
	}
	return s.write(ctx, actor, func(tx *Tx) error {
		i, err := scanInvitation(tx.sql.QueryRowContext(tx.ctx, selectInvitation+"WHERE i.id = ? AND i.used IS NULL", id))
		if errors.Is(err, sql.ErrNoRows) {
			return NotFoundError{Kind: KindInvitation, Name: id}
		}
		if err != nil {
			return fmt.Errorf("look for invitation: %w", err)
		}
		if err := tx.exec("DELETE FROM invitations WHERE id = ?", id); err != nil {
			return fmt.Errorf("withdraw invitation: %w", err)
		}
		return tx.audit(ActionRevoke, KindInvitation, i.ID, i.Endpoint, describedInvitation{Endpoint: i.Endpoint, Expires: i.Expires}, nil)
	})
}

// viaAgent is the way of what an agent does by itself.
const viaAgent = "agent"

// Redeem uses up the invitation with that hash of its secret and adds the agent, both or neither, with an entry in the
// audit log. a comes with everything but perhaps its EndpointID, which the answer has; an ID of another endpoint than the
// invitation's is [ErrInvitationElsewhere]. Of two who use one invitation at once, one gets [ErrInvitationUsed].
func (s *Store) Redeem(ctx context.Context, secret [sha256.Size]byte, a termination.Agent) (termination.Agent, error) {
	a.Name, a.Version, a.Address = cleanText(a.Name), cleanText(a.Version), cleanText(a.Address)
	if a.Name == "" {
		a.Name = "unnamed"
	}
	actor := Actor{Name: a.Name, Via: viaAgent}
	err := s.write(ctx, actor, func(tx *Tx) error {
		i, err := tx.usable(secret)
		if err != nil {
			return err
		}
		if a.EndpointID != "" && a.EndpointID != i.EndpointID {
			return ErrInvitationElsewhere
		}
		a.EndpointID, a.Removed, a.Seen, a.Created = i.EndpointID, false, time.Time{}, tx.now.Truncate(time.Millisecond)
		if err := tx.exec("UPDATE invitations SET used = ?, agent_id = ? WHERE id = ?", tx.now.UnixMilli(), a.ID, i.ID); err != nil {
			return fmt.Errorf("use invitation: %w", err)
		}
		err = tx.exec("INSERT INTO agents (id, endpoint_id, name, key, created, seen, version, address) VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
			a.ID, a.EndpointID, a.Name, a.Key[:], a.Created.UnixMilli(), a.Version, a.Address)
		if err != nil {
			return fmt.Errorf("save agent: %w", err)
		}
		return tx.audit(ActionJoin, KindAgent, a.ID, a.Name, nil,
			describedAgent{Name: a.Name, Endpoint: i.Endpoint, Key: a.Key.String(), Address: a.Address, Invitation: i.ID, InvitedBy: i.By})
	})
	if err != nil {
		return termination.Agent{}, err
	}
	return a, nil
}

// usable finds the invitation of a secret. Looking it up by the hash needs no comparison in constant time, see hashSecret.
func (tx *Tx) usable(secret [sha256.Size]byte) (Invitation, error) {
	i, err := scanInvitation(tx.sql.QueryRowContext(tx.ctx, selectInvitation+"WHERE i.secret_hash = ?", secret[:]))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return i, ErrInvitationUnknown
	case err != nil:
		return i, fmt.Errorf("look for invitation: %w", err)
	case !i.Used.IsZero():
		return i, ErrInvitationUsed
	case !tx.now.Before(i.Expires):
		return i, ErrInvitationExpired
	}
	return i, nil
}
