// Package tunneltest has what tests of agents need.
package tunneltest

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"countersign/termination"
	"countersign/termination/tunnel"
)

// Registry is a tunnel.Registry in memory.
type Registry struct {
	Now func() time.Time // nil: time.Now

	mu      sync.Mutex
	invited map[[sha256.Size]byte]*invitation
	agents  map[string]termination.Agent
	broken  error
	failed  int
}

type invitation struct {
	endpointID string
	expires    time.Time
	used       bool
}

func (r *Registry) now() time.Time {
	if r.Now == nil {
		return time.Now()
	}
	return r.Now()
}

// Invite makes an invitation for an endpoint and returns its token. Its life may be negative.
func (r *Registry) Invite(ca *termination.AgentCA, endpointID, endpoint string, life time.Duration, gateways ...string) termination.JoinToken {
	t := termination.JoinToken{Gateways: gateways, CA: termination.FingerprintOf(ca.Certificate), Endpoint: endpoint, Secret: termination.NewJoinSecret()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.invited == nil {
		r.invited = map[[sha256.Size]byte]*invitation{}
	}
	r.invited[t.Hash()] = &invitation{endpointID: endpointID, expires: r.now().Add(life)}
	return t
}

// Remove marks an agent as removed.
func (r *Registry) Remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[id]
	a.Removed = true
	r.agents[id] = a
}

// Put stores an agent as it is.
func (r *Registry) Put(a termination.Agent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.agents == nil {
		r.agents = map[string]termination.Agent{}
	}
	r.agents[a.ID] = a
}

// Break makes every question fail with this error; nil repairs it.
func (r *Registry) Break(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = err
}

// Failed is how many questions about agents have failed since the registry was broken.
func (r *Registry) Failed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// Redeem implements tunnel.Registry.
func (r *Registry) Redeem(_ context.Context, secret [sha256.Size]byte, a termination.Agent) (termination.Agent, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.invited[secret]
	switch {
	case r.broken != nil:
		return a, r.broken
	case i == nil:
		return a, tunnel.ErrInvitationUnknown
	case i.used:
		return a, tunnel.ErrInvitationUsed
	case !r.now().Before(i.expires):
		return a, tunnel.ErrInvitationExpired
	case a.EndpointID != "" && a.EndpointID != i.endpointID:
		return a, tunnel.ErrInvitationElsewhere
	}
	i.used = true
	a.EndpointID = i.endpointID
	if r.agents == nil {
		r.agents = map[string]termination.Agent{}
	}
	r.agents[a.ID] = a
	return a, nil
}

// Agent implements tunnel.Registry.
func (r *Registry) Agent(_ context.Context, id string) (termination.Agent, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.agents[id]
	switch {
	case r.broken != nil:
		r.failed++
		return a, r.broken
	case !ok:
		return a, tunnel.ErrAgentUnknown
	case a.Removed:
		return a, tunnel.ErrAgentRemoved
	}
	return a, nil
}

// Expects implements tunnel.Registry.
func (r *Registry) Expects(_ context.Context, endpointID string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.agents {
		if a.EndpointID == endpointID && !a.Removed {
			return true, r.broken
		}
	}
	return false, r.broken
}

// Seen implements tunnel.Registry.
func (r *Registry) Seen(_ context.Context, a termination.Agent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.agents[a.ID]; ok {
		known.Seen, known.Version, known.Name, known.Address = a.Seen, a.Version, a.Name, a.Address
		r.agents[a.ID] = known
	}
	return r.broken
}
