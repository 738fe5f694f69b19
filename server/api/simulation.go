package api

import (
	"context"
	"net/http"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/simulation"
)

// Simulated is what another configuration would do to recorded clients.
type Simulated struct {
	*simulation.Result
	Looked int64     // handshakes that were looked at
	Down   time.Time // zero: all of the period were looked at
	More   bool      // the oldest clients were left out
}

// maxSimulated is how many clients are listed; the counts are of all.
const maxSimulated = 1000

// Simulation is what a change would do to the clients of late.
type Simulation struct {
	Period     string            `json:"period"`
	Loses      int               `json:"loses" doc:"Clients that have entry and would be refused."`
	Gains      int               `json:"gains" doc:"Clients that are refused and would come in."`
	StaysIn    int               `json:"stays_in"`
	StaysOut   int               `json:"stays_out"`
	Unknown    int               `json:"unknown" doc:"Clients of whom nothing can be said; each tells why."`
	Handshakes int64             `json:"handshakes" doc:"Recorded handshakes that the clients stand for."`
	Complete   bool              `json:"complete" doc:"Everything of the period was looked at; else the newest."`
	Until      *time.Time        `json:"looked_until,omitempty" doc:"The time down to which was looked; absent: to the beginning of the period."`
	Clients    []SimulatedClient `json:"clients" doc:"At most 1,000, those who lose first, then those who gain; each newest first."`
}

// SimulatedClient is one client at one endpoint: a certificate, or an address with its JA4 where it showed none.
type SimulatedClient struct {
	Endpoint    string    `json:"endpoint"`
	Name        string    `json:"name,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty" doc:"Absent: it never showed a certificate."`
	Address     string    `json:"address,omitempty"`
	JA4         string    `json:"ja4,omitempty"`
	Handshake   string    `json:"handshake" doc:"ID of the handshake that was judged."`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	Handshakes  int64     `json:"handshakes"`
	Change      string    `json:"change" enum:"loses,gains,stays_in,stays_out,unknown"`
	Why         string    `json:"why,omitempty" enum:"sealed,broken,no_chain,not_asked,request,time" doc:"Why nothing can be said."`
	Had         string    `json:"had" enum:"out,partly,in" doc:"As it was recorded; partly: in through TLS, but refused in HTTP but for some routes."`
	Would       string    `json:"would,omitempty" enum:"out,partly,in"`
	Reason      string    `json:"reason,omitempty" doc:"Why it would be refused."`
	Detail      string    `json:"detail,omitempty"`
}

// Readiness is what would become of an endpoint's clients were its policy enforced.
type Readiness struct {
	ReportOnly bool           `json:"report_only"`
	In         int            `json:"in" doc:"Clients that would get in."`
	Refused    int            `json:"refused" doc:"Clients that show a certificate and would be refused."`
	Never      int            `json:"never_showed_a_certificate"`
	Reasons    map[string]int `json:"reasons" doc:"Why clients would be refused, those without a certificate among them."`
	Simulation
}

// SimulateBody is a proposal.
type SimulateBody struct {
	Period     string      `json:"period,omitempty" enum:"1h,24h,7d" default:"24h"`
	ClientAuth *ClientAuth `json:"client_auth" doc:"The policy that would be the endpoint's; its routes stay as they are."`
}

// PeriodQuery is how far back is looked.
type PeriodQuery struct {
	Period string `query:"period" enum:"1h,24h,7d" default:"24h"`
}

func (a *API) simulations() {
	const tag = "Endpoints"
	register(a, operation{method: http.MethodPost, path: "/endpoints/{ref}/simulate", summary: "See what a client policy would have done to the clients of late", scope: store.ScopeOperate, body: smallBody, tag: tag},
		func(ctx context.Context, in *struct {
			Named
			Body SimulateBody
		},
		) (*one[Simulation], error) {
			r := &bodyReader{name: in.Ref}
			policy := r.clientAuth("client_auth", in.Body.ClientAuth)
			if len(r.wrong) > 0 {
				return nil, r.wrong
			}
			return a.simulate(ctx, in.Body.Period, func(tx *store.Tx) error {
				e, err := tx.Endpoint(in.Ref)
				if err != nil {
					return err
				}
				e.ClientAuth = policy
				return tx.UpdateEndpoint(e)
			})
		})
	register(a, operation{method: http.MethodGet, path: "/endpoints/{ref}/readiness", summary: "See who would get in were the policy of an endpoint enforced", scope: store.ScopeRead, tag: tag},
		func(ctx context.Context, in *struct {
			Named
			PeriodQuery
		},
		) (*one[Readiness], error) {
			config := a.options.Current()
			for i := range config.Endpoints {
				e := &config.Endpoints[i]
				if e.ID != in.Ref && e.Name != in.Ref {
					continue
				}
				found, err := a.options.Simulate(ctx, simulation.ReportOnly(config, e.ID, false), []string{e.ID}, a.since(in.Period))
				if err != nil {
					return nil, err
				}
				return &one[Readiness]{readinessOf(found, e, in.Period)}, nil
			}
			return nil, store.NotFoundError{Kind: store.KindEndpoint, Name: in.Ref}
		})
	register(a, operation{method: http.MethodGet, path: "/authorities/{ref}/removal", summary: "See who would lose entry were an authority not trusted any more", scope: store.ScopeRead, tag: "Authorities"},
		func(ctx context.Context, in *struct {
			Named
			PeriodQuery
		},
		) (*one[Simulation], error) {
			config := a.options.Current()
			for i := range config.Authorities {
				if known := &config.Authorities[i]; known.ID != in.Ref && known.Name != in.Ref {
					continue
				}
				found, err := a.options.Simulate(ctx, simulation.Without(config, config.Authorities[i].Name), nil, a.since(in.Period))
				if err != nil {
					return nil, err
				}
				return &one[Simulation]{simulationOf(found, in.Period)}, nil
			}
			return nil, store.NotFoundError{Kind: store.KindAuthority, Name: in.Ref}
		})
}

// since is the beginning of a period, whose spelling the schema has checked.
func (a *API) since(period string) time.Time {
	span, known := map[string]time.Duration{"1h": time.Hour, "7d": 7 * 24 * time.Hour}[period]
	if !known {
		span = 24 * time.Hour
	}
	return a.options.Now().Add(-span)
}

// simulate tries a change, of which nothing is kept, and simulates what it would lead to.
func (a *API) simulate(ctx context.Context, period string, mutate func(*store.Tx) error) (*one[Simulation], error) {
	proposed, err := a.options.Rehearse(ctx, mutate)
	if err != nil {
		return nil, err
	}
	found, err := a.options.Simulate(ctx, proposed, nil, a.since(period))
	if err != nil {
		return nil, err
	}
	return &one[Simulation]{simulationOf(found, period)}, nil
}

func simulationOf(r *Simulated, period string) Simulation {
	if period == "" {
		period = "24h"
	}
	out := Simulation{
		Period: period, Loses: r.Counts[simulation.Loses], Gains: r.Counts[simulation.Gains], StaysIn: r.Counts[simulation.StaysIn],
		StaysOut: r.Counts[simulation.StaysOut], Unknown: r.Counts[simulation.Unknown], Handshakes: r.Handshakes,
		Complete: r.Down.IsZero() && !r.More && !r.Partial, Clients: []SimulatedClient{},
	}
	if !r.Down.IsZero() {
		out.Until = &r.Down
	}
	for i := range r.Clients[:min(len(r.Clients), maxSimulated)] {
		out.Clients = append(out.Clients, simulatedClientOf(&r.Clients[i]))
	}
	return out
}

func simulatedClientOf(c *simulation.Client) SimulatedClient {
	words := func(e simulation.Entry) string { return [...]string{"out", "partly", "in"}[e] }
	out := SimulatedClient{
		Endpoint: c.Endpoint, Name: c.Name.Name, JA4: c.JA4, Handshake: c.Handshake, First: c.First, Last: c.Last, Handshakes: c.Handshakes,
		Change: string(c.Change), Why: string(c.Why), Had: words(c.Had), Reason: string(c.Reason), Detail: c.Detail,
	}
	if c.Change != simulation.Unknown {
		out.Would = words(c.Would)
	}
	if c.Shown() {
		out.Fingerprint = c.Name.Fingerprint.String()
	}
	if c.Address.IsValid() {
		out.Address = c.Address.String()
	}
	return out
}

func readinessOf(r *Simulated, e *termination.Endpoint, period string) Readiness {
	out := Readiness{ReportOnly: e.ClientAuth.ReportOnly, Reasons: map[string]int{}, Simulation: simulationOf(r, period)}
	for i := range r.Clients {
		switch c := &r.Clients[i]; {
		case c.Change == simulation.Unknown:
		case c.Would == simulation.Inside:
			out.In++
		case c.Shown():
			out.Refused++
			out.Reasons[string(c.Reason)]++
		default:
			out.Never++
			out.Reasons[string(c.Reason)]++
		}
	}
	return out
}
