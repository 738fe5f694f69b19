package views

import (
	"github.com/a-h/templ"

	"countersign/views/parts"
)

// agentPages is every page of agents in every state.
func agentPages() map[string]templ.Component {
	api := Link{Label: "api", Href: "/endpoints/api"}
	online := AgentItem{
		ID: "agt_01", Short: "agt_…01", Name: hostile, Endpoint: api, Tone: parts.OK, Mark: "●", State: "online", Since: "for 3 hours", Exact: "since 2026-11-22 11:58:07.912 UTC",
		Now: "12 connections · 1.5 ms away", Policy: "revision 42, in force", Version: hostile, Address: "192.0.2.7:40000", Remove: "/agents/agt_01/remove",
	}
	behind, broken, away := online, online, online
	behind.ID, behind.Lagging, behind.Policy = "agt_02", true, "revision 41, 42 is on its way"
	broken.ID, broken.Tone, broken.Mark, broken.State, broken.Problem = "agt_03", parts.Bad, "✕", "cannot serve", `open "<b>": no such file`
	away.ID, away.Tone, away.Mark, away.State, away.Since, away.Now, away.Policy = "agt_04", parts.Plain, "○", "offline", "seen 2 days ago", "", "joined 3 Sep"
	states := []StateChip{{Label: "All", Count: "10 000", Href: "/agents", Current: true}, {Label: "Online", Count: "3", Href: "/agents?state=online"}, {Label: "Offline", Count: "9 997", Href: "/agents?state=offline"}}
	invitations := []InvitationItem{
		{ID: "inv_1", Endpoint: api, Tone: parts.Sealed, Mark: "○", State: "open", When: "in 59 minutes", Made: "1 minute ago", By: hostile, Withdraw: "/agents/invitations/inv_1/withdraw"},
		{ID: "inv_2", Endpoint: api, Mark: "✓", State: "used", When: "2 hours ago", Made: "3 hours ago", By: "rhea"},
	}
	example := &AgentExample{Host: "beside.localhost", Port: "8443", Upstream: "http://127.0.0.1:3000"}
	form := AgentInvite{
		Endpoint: parts.Input{Name: "endpoint", Label: "To serve"}, Endpoints: []parts.Option{{Value: "api", Label: "api, https://api.localhost", Selected: true}},
		Expires: parts.Input{Name: "expires", Label: "Good for"}, Lives: []parts.Option{{Value: "1h", Label: "an hour", Selected: true}}, Gateways: parts.Input{Name: "gateways", Label: "Addresses"},
	}
	failed := form
	failed.Problems, failed.Open = []string{hostile}, true
	failed.Endpoint.Error, failed.Expires.Error, failed.Gateways.Error, failed.Gateways.Value = hostile, hostile, hostile, "<b>\"7"
	invited := AgentInvited{
		Endpoint: "api", Href: "/endpoints/api", Command: "COUNTERSIGN_TOKEN=csjoin1_abc \\\n  countersign agent --endpoint api --upstream http://127.0.0.1:3000", Upstream: "http://127.0.0.1:3000",
		Facts: []parts.Fact{{Name: "Serves", Value: "api"}, {Name: "Made by", Value: hostile}}, Note: "Only here.", NoCA: hostile,
		Waiting: AgentWaiting{Tone: parts.Sealed, Mark: "○", State: "waiting for the agent", Text: "The invitation ends in 59 minutes.", Refresh: "/agents/invitations/inv_1"},
	}
	later := invited
	later.Command, later.Note, later.NoCA = "", "", ""
	later.Waiting = AgentWaiting{Tone: parts.OK, Mark: "●", State: hostile, Text: hostile, Done: true, Refresh: "/agents/invitations/inv_1"}
	p := examplePage("Agents")
	p.Keys = []Key{{Keys: []string{"n"}, Does: "invite an agent"}}
	return map[string]templ.Component{
		"agents-example": AgentsPage(p, Agents{Example: example, Refresh: "/agents"}),
		"agents-empty":   AgentsPage(p, Agents{CanInvite: true, Of: "my api", Refresh: "/agents", Invitations: invitations}),
		"agents":         AgentsPage(p, Agents{CanInvite: true, States: states, Items: []AgentItem{online, behind, broken, away}, Rows: Rows{Shown: "1 to 100 of 10 000", Later: "/agents?from=100", Earlier: "/agents?from=0"}, Invitations: invitations, Refresh: "/agents"}),
		"agents-failed": AgentsPage(p, Agents{
			CanInvite: true, Problem: hostile, Alone: []AlonePlace{{Name: "api", Href: "/endpoints/api", Invite: "/agents/invite?endpoint=api"}, {Name: "db", Href: "/endpoints/db", Invite: "/agents/invite?endpoint=db"}},
			AloneMore: 3, States: states, None: "None is online right now.", Refresh: "/agents?state=online",
		}),
		"agent-remove":         AgentRemovePage(p, AgentRemove{Agent: online, Facts: []parts.Fact{{Name: "Comes from", Value: hostile}}, Affected: []string{"7 connections go through it now."}}),
		"agent-invite":         AgentInvitePage(p, form),
		"agent-invite-failed":  AgentInvitePage(p, failed),
		"agent-invite-example": AgentInvitePage(p, AgentInvite{Example: example}),
		"agent-invited":        AgentInvitedPage(p, invited),
		"agent-invited-later":  AgentInvitedPage(p, later),
		"endpoint-agents":      endpointAgents(&EndpointAgents{Online: []AgentItem{online, broken}, More: 4, Offline: 1, All: "/agents?endpoint=api", Invite: "/agents/invite?endpoint=api", Command: "countersign agent invite api", Running: true}),
		"endpoint-agents-none": endpointAgents(&EndpointAgents{All: "/agents?endpoint=api", Invite: "/agents/invite?endpoint=api", Command: "countersign agent invite api", Running: true, Problem: hostile}),
		"endpoint-agents-else": endpointAgents(nil),
	}
}
