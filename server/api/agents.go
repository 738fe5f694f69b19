package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/tunnel"
)

// Agent is a remote process that ends TLS beside a service, with what is known of it right now.
type Agent struct {
	ID         string                  `json:"id"`
	Name       string                  `json:"name" doc:"As it calls itself. Nobody has checked it."`
	Endpoint   string                  `json:"endpoint" doc:"Name of what it serves."`
	EndpointID string                  `json:"endpoint_id"`
	Key        termination.Fingerprint `json:"key" doc:"SHA-256 of the public key that it joined with."`
	Joined     time.Time               `json:"joined"`
	LastSeen   *time.Time              `json:"last_seen,omitempty" doc:"Absent: it was never online."`
	Version    string                  `json:"version"`
	Address    string                  `json:"address"`
	Online     *Online                 `json:"online,omitempty" doc:"Absent: it is not."`
}

// Online is what is known of an agent while its tunnel is open.
type Online struct {
	Since       time.Time `json:"since"`
	Ready       bool      `json:"ready" doc:"Clients are given to it."`
	Problem     string    `json:"problem,omitempty" doc:"Why it cannot serve, in its own words."`
	Connections int       `json:"connections" doc:"Of clients, given to it and not over."`
	Revision    uint64    `json:"revision" doc:"Of the policy that it confirmed last; 0: none yet."`
	RoundTripMS float64   `json:"round_trip_ms"`
	Dropped     uint64    `json:"dropped" doc:"Records of handshakes that it could not report."`
}

// Agents is a page of agents.
type Agents struct {
	Revision uint64  `json:"revision" doc:"Number of the configuration in force."`
	Online   int     `json:"online" doc:"How many are online, of all."`
	Total    int     `json:"total" doc:"How many there are, on all pages."`
	Items    []Agent `json:"items"`
	Cursor   string  `json:"cursor,omitempty" doc:"Give it as after to go on; absent: there are no more."`
	Problem  string  `json:"problem,omitempty" doc:"Why no agent can connect."`
}

// Invitation lets one agent join one endpoint, once.
type Invitation struct {
	ID         string    `json:"id"`
	Endpoint   string    `json:"endpoint" doc:"Name."`
	EndpointID string    `json:"endpoint_id"`
	Created    time.Time `json:"created"`
	By         string    `json:"by"`
	Expires    time.Time `json:"expires"`
	State      string    `json:"state" enum:"open,used,expired"`
	AgentID    string    `json:"agent_id,omitempty" doc:"Of the agent that came by it."`
}

// NewInvitation is an invitation with its token, which is told once.
type NewInvitation struct {
	Invitation

	Token    string   `json:"token" doc:"It holds the secret, which is kept nowhere."`
	Gateways []string `json:"gateways" doc:"Where the agent finds the gateway; it tries them in this order."`
	Command  string   `json:"command" doc:"Starts an agent with it."`
	Note     string   `json:"note,omitempty" doc:"What to know about the addresses."`
}

// InviteRequest asks for an invitation.
type InviteRequest struct {
	Endpoint string
	Life     time.Duration // 0: the default
	Gateways []string      // where the agent finds the gateway; none: as the configuration says
}

// InvitationOf describes an invitation as it is now.
func InvitationOf(i store.Invitation, now time.Time) Invitation {
	out := Invitation{
		ID: i.ID, Endpoint: i.Endpoint, EndpointID: i.EndpointID, Created: i.Created, By: i.By, Expires: i.Expires,
		State: "expired", AgentID: i.AgentID,
	}
	switch {
	case !i.Used.IsZero():
		out.State = "used"
	case i.Open(now):
		out.State = "open"
	}
	return out
}

type agentsInput struct {
	Endpoint string `query:"endpoint" maxLength:"200" doc:"Name or ID; absent: of all endpoints."`
	After    string `query:"after" maxLength:"64" doc:"A cursor."`
	Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

type byID struct {
	ID string `path:"id" maxLength:"64"`
}

type inviteBody struct {
	Endpoint string   `json:"endpoint" maxLength:"200" doc:"Name or ID of an endpoint whose TLS ends at an agent."`
	Expires  string   `json:"expires,omitempty" maxLength:"20" example:"1h" doc:"How long it is good: from 1m to 720h. Absent: 1h."`
	Gateways []string `json:"gateways,omitempty" maxItems:"8" doc:"host:port under which the agent finds the gateway. Absent: as the configuration says."`
}

func (a *API) agents() {
	const tag = "Agents"
	register(a, operation{method: http.MethodGet, path: "/agents", summary: "List agents: those that are online first, then the last that joined", scope: store.ScopeRead, tag: tag}, a.listAgents)
	register(a, operation{method: http.MethodDelete, path: "/agents/{id}", summary: "Cut an agent off; it may not come back", scope: store.ScopeAdmin, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *byID) (*struct{}, error) {
			_, err := a.options.Change(ctx, func(tx *store.Tx) error { return tx.RemoveAgent(in.ID) })
			return nil, err
		})
	register(a, operation{method: http.MethodGet, path: "/invitations", summary: "List invitations of agents, newest first", scope: store.ScopeRead, tag: tag},
		func(ctx context.Context, _ *struct{}) (*list[Invitation], error) {
			stored, err := a.options.Store.Invitations(ctx)
			if err != nil {
				return nil, err
			}
			var items []Invitation
			for _, i := range stored {
				items = append(items, InvitationOf(i, a.options.Now()))
			}
			return listOf(a.options.Current().Revision, items), nil
		})
	register(a, operation{method: http.MethodPost, path: "/invitations", summary: "Invite an agent; the token is told once", scope: store.ScopeAdmin, body: smallBody, status: http.StatusCreated, tag: tag},
		func(ctx context.Context, in *struct{ Body inviteBody }) (*one[NewInvitation], error) {
			life, err := ParseLife(in.Body.Expires)
			if err != nil {
				return nil, err
			}
			made, err := a.options.Invite(ctx, InviteRequest{Endpoint: in.Body.Endpoint, Life: life, Gateways: in.Body.Gateways})
			if err != nil {
				return nil, err
			}
			return &one[NewInvitation]{made}, nil
		})
	register(a, operation{method: http.MethodDelete, path: "/invitations/{id}", summary: "Withdraw an invitation that was not used", scope: store.ScopeAdmin, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *byID) (*struct{}, error) {
			return nil, a.options.Store.WithdrawInvitation(ctx, a.options.Actor(ctx), in.ID)
		})
}

// ParseLife reads how long an invitation is to be good; nothing means the default, which is 0 here.
func ParseLife(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	life, err := time.ParseDuration(s)
	if err != nil || life < store.MinInvitation || life > store.MaxInvitation {
		return 0, termination.ValidationError{{Kind: store.KindInvitation, Field: "expires", Problem: "must be from a minute to 30 days", Advice: "write it as in 1h or 30m"}}
	}
	return life, nil
}

func (a *API) listAgents(ctx context.Context, in *agentsInput) (*one[Agents], error) {
	config := a.options.Current()
	endpointID := ""
	if in.Endpoint != "" {
		i := slices.IndexFunc(config.Endpoints, func(e termination.Endpoint) bool { return e.ID == in.Endpoint || e.Name == in.Endpoint })
		if i < 0 {
			return nil, store.NotFoundError{Kind: store.KindEndpoint, Name: in.Endpoint}
		}
		endpointID = config.Endpoints[i].ID
	}
	stored, err := a.options.Store.Agents(ctx, endpointID)
	if err != nil {
		return nil, err
	}
	out := Agents{Revision: config.Revision, Total: len(stored), Items: []Agent{}}
	var online []tunnel.AgentStatus
	if a.options.Status != nil {
		status := a.options.Status()
		online, out.Problem = status.Agents, status.AgentListener
	}
	all := DescribeAgents(config, stored, online)
	for i := range all {
		if all[i].Online != nil {
			out.Online++
		}
	}
	first := 0
	if in.After != "" {
		at := slices.IndexFunc(all, func(v Agent) bool { return v.ID == in.After })
		if at < 0 {
			return nil, termination.ValidationError{{Kind: "cursor", Field: "after", Problem: "there is no such agent any more", Advice: "begin again without it"}}
		}
		first = at + 1
	}
	out.Items = append(out.Items, all[first:min(first+in.Limit, len(all))]...)
	if first+in.Limit < len(all) {
		out.Cursor = out.Items[len(out.Items)-1].ID
	}
	return &one[Agents]{out}, nil
}

// DescribeAgents joins what is stored of agents with what is known of those that are online. These come first, by name;
// the others follow in the order in which they came.
func DescribeAgents(config *termination.Config, stored []termination.Agent, online []tunnel.AgentStatus) []Agent {
	names := make(map[string]string, len(config.Endpoints))
	for i := range config.Endpoints {
		names[config.Endpoints[i].ID] = config.Endpoints[i].Name
	}
	statuses := make(map[string]tunnel.AgentStatus, len(online))
	for _, s := range online {
		statuses[s.ID] = s
	}
	out := make([]Agent, 0, len(stored))
	for _, v := range stored {
		item := Agent{
			ID: v.ID, Name: v.Name, Endpoint: names[v.EndpointID], EndpointID: v.EndpointID, Key: v.Key, Joined: v.Created, Version: v.Version, Address: v.Address,
		}
		if !v.Seen.IsZero() {
			item.LastSeen = &v.Seen
		}
		if s, ok := statuses[v.ID]; ok {
			item.Name, item.Version, item.Address = s.Name, s.Version, s.Address
			item.Online = &Online{
				Since: s.Since, Ready: s.Ready(), Problem: s.Problem, Connections: s.Connections, Revision: s.Revision,
				RoundTripMS: float64(s.RoundTrip) / float64(time.Millisecond), Dropped: s.Dropped,
			}
		}
		out = append(out, item)
	}
	slices.SortStableFunc(out, func(a, b Agent) int {
		switch {
		case a.Online != nil && b.Online == nil:
			return -1
		case a.Online == nil && b.Online != nil:
			return 1
		case a.Online != nil:
			return strings.Compare(a.Endpoint+"\x00"+a.Name+"\x00"+a.ID, b.Endpoint+"\x00"+b.Name+"\x00"+b.ID)
		}
		return 0
	})
	return out
}
