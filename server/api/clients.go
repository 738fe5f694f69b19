package api

import (
	"context"
	"net/http"
	"time"

	"countersign/store"
	"countersign/termination"
)

// SeenClient is a certificate that clients presented.
type SeenClient struct {
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 in hex."`
	Name        string    `json:"name,omitempty" doc:"Hostile text, as all names here."`
	Full        string    `json:"full,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	Authority   string    `json:"authority,omitempty"`
	Identity    string    `json:"identity,omitempty"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Notes       []string  `json:"notes" doc:"usage_ends, not_for_clients, weak_key, weak_signature, version_1, no_usage, is_ca, public_ca"`
	PostQuantum *bool     `json:"post_quantum,omitempty" doc:"Its last ClientHello offered a post-quantum key exchange."`

	First    time.Time           `json:"first"`
	Last     time.Time           `json:"last"`
	FirstIn  *time.Time          `json:"first_in,omitempty" doc:"When it was let in as verified; absent: never."`
	LastIn   *time.Time          `json:"last_in,omitempty"`
	Verified int64               `json:"verified"`
	Open     int64               `json:"open"`
	Passed   int64               `json:"passed" doc:"Sealed, to a service behind: whether the key was proven is not known here."`
	Failed   int64               `json:"failed"`
	Outcome  termination.Outcome `json:"outcome" doc:"Of the last handshake."`
	Reason   termination.Reason  `json:"reason,omitempty"`
	LastID   string              `json:"last_handshake"`
	Endpoint string              `json:"endpoint,omitempty" doc:"Where it came last."`
	Address  string              `json:"address,omitempty"`

	Software  []ClientTrait    `json:"software,omitempty" doc:"By JA4. This and what follows only for one client."`
	Addresses []ClientTrait    `json:"addresses,omitempty"`
	Endpoints []ClientTrait    `json:"endpoints,omitempty" doc:"By ID."`
	Reasons   []ClientTrait    `json:"reasons,omitempty" doc:"Why it failed."`
	Changes   []SoftwareChange `json:"software_changes,omitempty"`
	Hours     []TrendBar       `json:"hours,omitempty" doc:"The last 48."`
	Days      []TrendBar       `json:"days,omitempty" doc:"The last 30, in UTC."`
}

// ClientTrait is with what, from where or to where a client came.
type ClientTrait struct {
	Value  string    `json:"value"`
	Label  string    `json:"label,omitempty"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	In     int64     `json:"in"`
	Failed int64     `json:"failed"`
}

// SoftwareChange is when a client came with other software than it had used for long.
type SoftwareChange struct {
	Time      time.Time `json:"time"`
	Handshake string    `json:"handshake"`
	Before    string    `json:"before" doc:"JA4."`
	After     string    `json:"after"`
	Times     int64     `json:"times" doc:"How often it had come in with the software before."`
	Address   string    `json:"address"`
	Endpoint  string    `json:"endpoint"`
}

// TrendBar is how often something came within an hour or a day.
type TrendBar struct {
	Time   time.Time `json:"time" doc:"Its beginning."`
	In     int64     `json:"in"`
	Failed int64     `json:"failed"`
}

// Trends are those of one endpoint.
type Trends struct {
	Hours []TrendBar `json:"hours" doc:"The last 48."`
	Days  []TrendBar `json:"days" doc:"The last 30, in UTC."`
}

// SeenClients is a page of the register.
type SeenClients struct {
	Items  []SeenClient     `json:"items"`
	Total  int64            `json:"total" doc:"Of the chosen state."`
	Counts map[string]int64 `json:"counts" doc:"By state, of those that the text fits."`
	Since  time.Time        `json:"since" doc:"From when on the register is kept."`
	Next   int              `json:"next,omitempty" doc:"Give it as from to go on; absent: there is nothing more."`
}

// ClientAlert is something about an active client that somebody should act on.
type ClientAlert struct {
	Key      string          `json:"key" doc:"The same for the same alert until it is over."`
	Kind     string          `json:"kind" enum:"ended,ends_soon,usage_ends,software_changed"`
	Urgent   bool            `json:"urgent"`
	Since    time.Time       `json:"since"`
	Sentence string          `json:"sentence"`
	ToOwner  string          `json:"to_owner" doc:"A text to send to the client's owner."`
	Client   SeenClient      `json:"client"`
	Change   *SoftwareChange `json:"change,omitempty"`
}

// ClientAlerts are all of them.
type ClientAlerts struct {
	Items []ClientAlert `json:"items"`
}

type seenClientsInput struct {
	Query string `query:"q" maxLength:"200" doc:"Part of a name, issuer or identity; an endpoint, an address or a JA4; the beginning of a fingerprint."`
	State string `query:"state" enum:",in,refused,strangers,new,ends_soon,ended,weak,public_ca,usage_note,no_pq"`
	From  int    `query:"from" minimum:"0" maximum:"100000"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

func (a *API) clients() {
	const tag = "Clients"
	register(a, operation{method: http.MethodGet, path: "/clients", summary: "List the client certificates that were seen, the last that came first", scope: store.ScopeRead, tag: tag}, a.listClients)
	register(a, operation{method: http.MethodGet, path: "/clients/alerts", summary: "List clients whose certificates end, cannot be renewed, or whose software changed", scope: store.ScopeRead, tag: tag}, a.clientAlerts)
	register(a, operation{method: http.MethodGet, path: "/clients/{ref}", summary: "Show a client certificate by the beginning of its fingerprint, with software, addresses and trends", scope: store.ScopeRead, tag: tag}, a.showClient)
	register(a, operation{method: http.MethodGet, path: "/endpoints/{ref}/trend", summary: "Show how often clients came to an endpoint, by hour and by day", scope: store.ScopeRead, tag: "Endpoints"},
		func(ctx context.Context, in *Named) (*one[Trends], error) {
			config := a.options.Current()
			for i := range config.Endpoints {
				if e := &config.Endpoints[i]; e.ID == in.Ref || e.Name == in.Ref {
					hours, days, err := a.trends(func(step store.TrendStep) ([]store.TrendBar, error) {
						return a.options.Store.EndpointTrend(ctx, e.ID, step)
					})
					return &one[Trends]{Trends{hours, days}}, err
				}
			}
			return nil, store.NotFoundError{Kind: store.KindEndpoint, Name: in.Ref}
		})
}

func (a *API) listClients(ctx context.Context, in *seenClientsInput) (*one[SeenClients], error) {
	page, err := a.options.Store.Clients(ctx, store.ClientQuery{Text: in.Query, State: store.ClientState(in.State), From: in.From, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := SeenClients{Items: []SeenClient{}, Total: page.Total, Counts: map[string]int64{}, Since: page.Since}
	for state, n := range page.Counts {
		if state != store.ClientsAll {
			out.Counts[string(state)] = n
		}
	}
	for _, c := range page.Clients {
		out.Items = append(out.Items, seenClientOf(c))
	}
	if next := in.From + len(page.Clients); int64(next) < page.Total && len(page.Clients) > 0 {
		out.Next = next
	}
	return &one[SeenClients]{out}, nil
}

func (a *API) showClient(ctx context.Context, in *Named) (*one[SeenClient], error) {
	c, err := a.options.Store.Client(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	out := seenClientOf(c)
	traits, err := a.options.Store.ClientTraits(ctx, c.Fingerprint)
	if err != nil {
		return nil, err
	}
	out.Software, out.Addresses = traitsOf(traits.Software), traitsOf(traits.Addresses)
	out.Endpoints, out.Reasons = traitsOf(traits.Endpoints), traitsOf(traits.Reasons)
	changes, err := a.options.Store.SoftwareChanges(ctx, c.Fingerprint)
	if err != nil {
		return nil, err
	}
	for _, change := range changes {
		out.Changes = append(out.Changes, SoftwareChange(change))
	}
	out.Hours, out.Days, err = a.trends(func(step store.TrendStep) ([]store.TrendBar, error) {
		return a.options.Store.ClientTrend(ctx, c.Fingerprint, step)
	})
	return &one[SeenClient]{out}, err
}

func (a *API) clientAlerts(ctx context.Context, _ *struct{}) (*one[ClientAlerts], error) {
	now := a.options.Now()
	alerts, err := a.options.Store.ClientAlerts(ctx, now)
	if err != nil {
		return nil, err
	}
	out := ClientAlerts{Items: []ClientAlert{}}
	for _, alert := range alerts {
		item := ClientAlert{
			Key: alert.Key(), Kind: string(alert.Kind), Urgent: alert.Urgent, Since: alert.Since.UTC(), Client: seenClientOf(alert.Client),
			Sentence: alert.Sentence(now), ToOwner: alert.OwnerText(now),
		}
		if alert.Change != nil {
			change := SoftwareChange(*alert.Change)
			item.Change = &change
		}
		out.Items = append(out.Items, item)
	}
	return &one[ClientAlerts]{out}, nil
}

func (a *API) trends(read func(store.TrendStep) ([]store.TrendBar, error)) (hours, days []TrendBar, err error) {
	for step, into := range map[store.TrendStep]*[]TrendBar{store.TrendHours: &hours, store.TrendDays: &days} {
		bars, err := read(step)
		if err != nil {
			return nil, nil, err
		}
		for _, b := range bars {
			*into = append(*into, TrendBar{b.Time, b.LetIn, b.Failed})
		}
	}
	return hours, days, nil
}

func seenClientOf(c store.Client) SeenClient {
	out := SeenClient{
		Fingerprint: c.Fingerprint.String(), Name: c.Name, Full: c.Full, Issuer: c.Issuer, Authority: c.Authority, Identity: c.Identity,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Notes: c.Notes.Codes(), First: c.First, Last: c.Last,
		Verified: c.Verified, Open: c.Open, Passed: c.Passed, Failed: c.Failed, Outcome: c.Outcome, Reason: c.Reason,
		LastID: c.Handshake, Endpoint: c.Endpoint, Address: c.Address,
	}
	if c.HelloKnown {
		out.PostQuantum = &c.PostQuantum
	}
	if !c.FirstIn.IsZero() {
		out.FirstIn, out.LastIn = &c.FirstIn, &c.LastIn
	}
	return out
}

func traitsOf(traits []store.ClientTrait) []ClientTrait {
	var out []ClientTrait
	for _, t := range traits {
		out = append(out, ClientTrait{Value: t.Value, Label: t.Label, First: t.First, Last: t.Last, In: t.LetIn, Failed: t.Failed})
	}
	return out
}
