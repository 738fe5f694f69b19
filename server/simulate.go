package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/simulation"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// lookBudget and judgeBudget are how long the history is read and clients are judged before what there is is shown.
	lookBudget  = 2 * time.Second
	judgeBudget = 2 * time.Second
	// mostSimulations is how many run at once: each keeps a processor busy that clients need, too.
	mostSimulations = 2
	// namedClients is how many of those who gain or lose are named on a page.
	namedClients = 20
)

// errRehearsed undoes a change that was only tried.
var errRehearsed = errors.New("a change was only tried")

// rehearse returns the configuration that a change would lead to, refused by what would refuse it. Nothing is kept.
func (s *Server) rehearse(ctx context.Context, actor store.Actor, mutate func(*store.Tx) error) (*termination.Config, error) {
	var proposed *termination.Config
	_, _, err := s.store.Change(ctx, actor, mutate, func(config *termination.Config) error {
		if err := s.gateway.Prepare(config); err != nil {
			return err
		}
		proposed = config
		return errRehearsed
	})
	if !errors.Is(err, errRehearsed) {
		return nil, err
	}
	return proposed, nil
}

// simulated is what a proposal would do to the recorded clients.
type simulated struct {
	*simulation.Result
	looked int64     // handshakes
	down   time.Time // zero: all of the period were looked at
	more   bool      // the oldest clients were left out
	same   bool      // the proposal lets in the same clients
}

// simulate judges the clients of some endpoints, as they came since a time, under the configuration of now and under
// another. Without IDs it takes the endpoints that the difference affects.
func (s *Server) simulate(ctx context.Context, proposed *termination.Config, ids []string, since time.Time) (*simulated, error) {
	current := s.current()
	if ids == nil {
		ids = simulation.Affected(current, proposed)
	}
	if len(ids) == 0 {
		return &simulated{same: true, Result: &simulation.Result{Counts: map[simulation.Change]int{}}}, nil
	}
	select {
	case s.simulations <- struct{}{}:
		defer func() { <-s.simulations }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	page, err := s.store.Visits(ctx, store.VisitQuery{Endpoints: ids, Since: since, Patience: lookBudget})
	if err != nil {
		return nil, err
	}
	options := simulation.Options{Current: simulation.Side{Config: current}, Proposed: simulation.Side{Config: proposed}, Budget: judgeBudget}
	if s.opts.Gateway != nil && reflect.DeepEqual(current.Blocked, proposed.Blocked) && reflect.DeepEqual(current.Identities, proposed.Identities) {
		known := s.opts.Gateway.Revocation()
		options.Current.Revocation, options.Proposed.Revocation = known, known
	}
	return &simulated{Result: simulation.Run(ctx, page.Visits, options), looked: page.Looked, down: page.Down, more: page.More}, nil
}

// lookBack are the periods that a person can choose from.
func lookBack() []struct {
	value, words string
	span         time.Duration
} {
	return []struct {
		value, words string
		span         time.Duration
	}{{"1h", "hour", time.Hour}, {"24h", "24 hours", 24 * time.Hour}, {"7d", "7 days", 7 * 24 * time.Hour}}
}

// periodOf reads a chosen period; anything else is a day.
func periodOf(value string) (name, words string, span time.Duration) {
	all := lookBack()
	i := slices.IndexFunc(all, func(p struct {
		value, words string
		span         time.Duration
	},
	) bool {
		return p.value == value
	})
	if i < 0 {
		i = 1
	}
	return all[i].value, all[i].words, all[i].span
}

func periodOptions(chosen string) []parts.Option {
	chosen, _, _ = periodOf(chosen)
	var out []parts.Option
	for _, p := range lookBack() {
		out = append(out, parts.Option{Value: p.value, Label: p.words, Selected: p.value == chosen})
	}
	return out
}

// rehearsal puts what a proposal would do into words.
func (s *Server) rehearsal(ctx context.Context, p views.Page, proposed *termination.Config, period string) (*views.Rehearsal, error) {
	_, words, span := periodOf(period)
	r, err := s.simulate(ctx, proposed, nil, s.now().Add(-span))
	if err != nil {
		return nil, err
	}
	v := &views.Rehearsal{Sentence: changeSentence(r, words), Notes: r.notes(p)}
	loses, gains := r.Counts[simulation.Loses], r.Counts[simulation.Gains]
	if loses+gains > 0 {
		v.Tone = parts.Warn
	}
	for _, g := range []struct {
		change simulation.Change
		title  string
		tone   parts.Tone
		count  int
	}{
		{simulation.Loses, format.Count(loses, "loses", "lose") + " entry", parts.Bad, loses},
		{simulation.Gains, format.Count(gains, "gains", "gain") + " entry", parts.OK, gains},
	} {
		if g.count == 0 {
			continue
		}
		group := views.RehearsalGroup{Title: g.title, Tone: g.tone}
		for i := range r.Clients {
			if c := &r.Clients[i]; c.Change == g.change && len(group.Clients) < namedClients {
				group.Clients = append(group.Clients, rehearsed(p, c))
			}
		}
		group.More = g.count - len(group.Clients)
		v.Groups = append(v.Groups, group)
	}
	v.Causes = r.causes()
	return v, nil
}

// changeSentence sums up in one sentence.
func changeSentence(r *simulated, period string) string {
	n := len(r.Clients)
	loses, gains := r.Counts[simulation.Loses], r.Counts[simulation.Gains]
	switch {
	case r.same:
		return "It would change nothing about who may come in."
	case n == 0 && r.looked == 0:
		return "Nobody came in the last " + period + " whom it could concern."
	case loses+gains == 0:
		return fmt.Sprintf("Of %s in the last %s, nobody would gain or lose entry.", format.Count(n, "client", "clients"), period)
	}
	var changes []string
	for _, part := range []struct {
		count int
		words string
	}{
		{loses, "would lose entry"}, {gains, "would gain entry"}, {r.Counts[simulation.StaysIn], "would come in as before"}, {r.Counts[simulation.StaysOut], "would stay outside"},
	} {
		if part.count > 0 {
			changes = append(changes, format.Int(part.count)+" "+part.words)
		}
	}
	return fmt.Sprintf("Of %s in the last %s, %s.", format.Count(n, "client", "clients"), period, strings.Join(changes, ", "))
}

func rehearsed(p views.Page, c *simulation.Client) views.RehearsalClient {
	v := views.RehearsalClient{
		Name: c.Label(), Href: "/handshakes/" + url.PathEscape(c.Handshake), Where: c.Endpoint, Seen: p.Relative(c.Last), Exact: p.Exact(c.Last),
	}
	switch {
	case c.Change == simulation.Loses:
		v.Why = lowerFirst(views.FailureTitle(c.Reason))
		if c.Reason == termination.ReasonPolicyUnreadable {
			v.Why = "nothing would be trusted there any more, so nobody could come in; choose another authority first"
		}
		if c.Would == simulation.Partly {
			v.Why += ", with HTTP 403 where no route lets it in"
		}
	case c.Was != "":
		v.Why = "until now: " + lowerFirst(views.FailureTitle(c.Was))
	default:
		v.Why = "refused until now"
	}
	return v
}

// causes counts why nothing can be said of clients, in a fixed order.
func (r *simulated) causes() []views.RehearsalCause {
	count := map[simulation.Why]int{}
	for i := range r.Clients {
		if c := &r.Clients[i]; c.Change == simulation.Unknown {
			count[c.Why]++
		}
	}
	var out []views.RehearsalCause
	for _, why := range []simulation.Why{
		simulation.WhyNotAsked, simulation.WhyBroken, simulation.WhySealed, simulation.WhyNoChain, simulation.WhyRequest, simulation.WhyTime,
	} {
		if count[why] > 0 {
			out = append(out, views.RehearsalCause{Count: count[why], Words: why.Words()})
		}
	}
	return out
}

// notes say what the result does not cover.
func (r *simulated) notes(p views.Page) []string {
	var out []string
	if !r.down.IsZero() {
		out = append(out, fmt.Sprintf("Looked at the newest %s handshakes, down to %s; older ones would have taken too long.", format.Int(r.looked), p.Moment(r.down)))
	}
	if r.more {
		out = append(out, "There were more clients than could be looked at; the oldest are left out.")
	}
	if r.Partial {
		out = append(out, "Time was up before every client was judged.")
	}
	silent := 0
	for i := range r.Clients {
		if r.Clients[i].Silent {
			silent++
		}
	}
	if silent > 0 {
		out = append(out, fmt.Sprintf("%s showed no certificate, but may have one: many stay silent when their CA is not among those that we name.", format.Count(silent, "client", "clients")))
	}
	return out
}

// wouldChange says what a change of a form would do to the clients of the period that the form chose.
func (s *Server) wouldChange(c echo.Context, mutate func(*store.Tx) error) (*views.Rehearsal, error) {
	ctx := c.Request().Context()
	proposed, err := s.rehearse(ctx, actorOf(c), mutate)
	if err != nil {
		return nil, err
	}
	return s.rehearsal(ctx, s.view(c, ""), proposed, c.FormValue("period"))
}
