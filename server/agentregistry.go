package server

import (
	"context"
	"crypto/sha256"
	"errors"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/tunnel"
)

// agentRegistry tells the gateway about agents in its own words.
type agentRegistry struct{ store func() *store.Store }

// AgentRegistry is what the gateway must be told of the agents that a store keeps: the one that is open at the moment.
func AgentRegistry(s func() *store.Store) tunnel.Registry { return agentRegistry{s} }

// Redeem implements [tunnel.Registry].
func (r agentRegistry) Redeem(ctx context.Context, secret [sha256.Size]byte, a termination.Agent) (termination.Agent, error) {
	joined, err := r.store().Redeem(ctx, secret, a)
	for ours, theirs := range map[error]error{
		store.ErrInvitationUnknown: tunnel.ErrInvitationUnknown, store.ErrInvitationUsed: tunnel.ErrInvitationUsed,
		store.ErrInvitationExpired: tunnel.ErrInvitationExpired, store.ErrInvitationElsewhere: tunnel.ErrInvitationElsewhere,
	} {
		if errors.Is(err, ours) {
			return termination.Agent{}, theirs
		}
	}
	return joined, err
}

// Agent implements [tunnel.Registry].
func (r agentRegistry) Agent(ctx context.Context, id string) (termination.Agent, error) {
	a, err := r.store().Agent(ctx, id)
	var missing store.NotFoundError
	var removed store.AgentRemovedError
	switch {
	case errors.As(err, &missing):
		return termination.Agent{}, tunnel.ErrAgentUnknown
	case errors.As(err, &removed):
		return termination.Agent{}, tunnel.ErrAgentRemoved
	}
	return a, err
}

// Expects implements [tunnel.Registry].
func (r agentRegistry) Expects(ctx context.Context, endpointID string) (bool, error) {
	agents, err := r.store().Agents(ctx, endpointID)
	return len(agents) > 0, err
}

// Seen implements [tunnel.Registry].
func (r agentRegistry) Seen(ctx context.Context, a termination.Agent) error {
	return r.store().AgentSeen(ctx, a)
}
