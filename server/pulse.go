package server

import (
	"context"
	"slices"
	"time"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/live"
)

// pulsePeriod is a span that the head of the Live page can show.
type pulsePeriod struct {
	name         string // in the address
	words        string // after "last"
	length, step time.Duration
}

// pulsePeriods are the choices, the usual one first.
func pulsePeriods() []pulsePeriod {
	const day = 24 * time.Hour
	return []pulsePeriod{
		{"2m", "2 minutes", 2 * time.Minute, time.Second},
		{"15m", "15 minutes", 15 * time.Minute, 10 * time.Second},
		{"1h", "hour", time.Hour, time.Minute},
		{"24h", "24 hours", day, 15 * time.Minute},
		{"7d", "7 days", 7 * day, 2 * time.Hour},
	}
}

func periodNamed(name string) pulsePeriod {
	all := pulsePeriods()
	if i := slices.IndexFunc(all, func(p pulsePeriod) bool { return p.name == name }); i >= 0 {
		return all[i]
	}
	return all[0]
}

const (
	liveCounted    = 15 * time.Minute       // the hub counts single seconds for so long
	whyPeriod      = 15 * time.Minute       // the shortest over which reasons are counted
	rowsPatience   = 400 * time.Millisecond // with the three below at most a second, however little a filter selects
	pulsePatience  = 300 * time.Millisecond
	factsPatience  = 150 * time.Millisecond // for the reasons, and for how many are hidden
	narrowestPulse = 10 * time.Second
	widestPulse    = 370 * 24 * time.Hour
)

// pulseOf sums up the handshakes that a filter selects in a period. Without a filter every number is a counter's: the
// hub's for the last minutes, the stored ones for longer. Under a filter the records are looked at.
func (s *Server) pulseOf(ctx context.Context, text, name string) (api.Pulse, error) {
	now := s.now()
	filter, err := termination.ParseFilter(text, now)
	if err != nil {
		return api.Pulse{}, err
	}
	p := periodNamed(name)
	if len(filter.Terms) > 0 {
		return s.filteredPulse(ctx, filter, p, now)
	}
	if p.length <= liveCounted {
		return s.hubPulse(p, now), nil
	}
	return s.storedPulse(ctx, p, now)
}

// hubPulse is that of the last minutes, from the counters of the running process.
func (s *Server) hubPulse(p pulsePeriod, now time.Time) api.Pulse {
	counts := s.hub.Counts(p.length, live.AllEndpoints)
	seconds := s.hub.Series(int(p.length/time.Second), live.AllEndpoints)
	out := api.Pulse{StepSeconds: int(p.step / time.Second), Bars: []api.Bar{}}
	if len(seconds) > 0 {
		out.Since, out.Until = time.Unix(seconds[0].Time, 0).UTC(), time.Unix(seconds[len(seconds)-1].Time+1, 0).UTC()
	}
	per := int64(p.step / time.Second)
	for _, x := range seconds {
		at := time.Unix(out.Since.Unix()+(x.Time-out.Since.Unix())/per*per, 0).UTC()
		if n := len(out.Bars); n == 0 || !out.Bars[n-1].Time.Equal(at) {
			out.Bars = append(out.Bars, api.Bar{Time: at})
		}
		bar := &out.Bars[len(out.Bars)-1]
		bar.Verified, bar.Open = bar.Verified+x.OK-x.Open, bar.Open+x.Open
		bar.Passed, bar.Failed = bar.Passed+x.Passed, bar.Failed+x.Failed
	}
	out.Bars = withoutEmpty(out.Bars)
	out.Total = api.Bar{Time: out.Since, Verified: counts.Verified, Open: counts.Open, Passed: counts.Passed, Failed: counts.Failed()}
	out.Failing = s.hub.FailingClients(p.length, live.AllEndpoints)
	out.P50MS, out.P95MS = inMilliseconds(counts.P50), inMilliseconds(counts.P95)
	out.KeyExchanges, out.PostQuantum = counts.KeyExchanges, counts.PostQuantum
	out.Reasons, out.ReasonsSince = s.hub.Counts(whyPeriod, live.AllEndpoints).Reasons, now.Add(-whyPeriod)
	return out
}

func withoutEmpty(bars []api.Bar) []api.Bar {
	return slices.DeleteFunc(bars, func(b api.Bar) bool { return b.All() == 0 })
}

func inMilliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// storedPulse is that of a longer period, from the counters that are stored for each minute. How long handshakes took and
// which clients fail is not counted there: that is looked up in the records, as far back as a moment allows.
func (s *Server) storedPulse(ctx context.Context, p pulsePeriod, now time.Time) (api.Pulse, error) {
	until := now.Truncate(time.Minute).Add(time.Minute)
	since := until.Add(-p.length)
	counts, err := s.store.Counts(ctx, store.CountQuery{Since: since, Until: now, Step: p.step})
	if err != nil {
		return api.Pulse{}, err
	}
	steps := store.PulseSteps(since, until, p.step)
	reasons := map[termination.Reason]uint64{}
	for _, c := range counts {
		n := uint64(max(c.N, 0))
		if i := int(c.Time.Sub(since) / p.step); i >= 0 && i < len(steps) {
			steps[i].Add(c.Outcome, n)
		}
		if !c.Outcome.In() {
			reasons[c.Reason] += n
		}
	}
	looked, err := s.store.Pulse(ctx, store.PulseQuery{Since: since, Step: p.step, Patience: factsPatience})
	if err != nil {
		return api.Pulse{}, err
	}
	out := pulseFrom(since, until, p.step, steps)
	out.Reasons, out.ReasonsSince = reasons, since
	addFacts(&out, looked)
	return out, nil
}

// filteredPulse looks at the records. A filter with an end fixes the period.
func (s *Server) filteredPulse(ctx context.Context, filter termination.Filter, p pulsePeriod, now time.Time) (api.Pulse, error) {
	until := now.Truncate(time.Second).Add(time.Second)
	since, step := until.Add(-p.length), p.step
	if from, to, fixed := window(filter); fixed {
		until = to
		since = to.Add(-p.length)
		if !from.IsZero() {
			since = from
		}
		since = clampTime(since, until.Add(-widestPulse), until.Add(-narrowestPulse))
		step = max(until.Sub(since)/120, time.Second).Round(time.Second)
	}
	sum, err := s.store.Pulse(ctx, store.PulseQuery{Filter: filter, Since: since, Until: until, Step: step, Patience: pulsePatience})
	if err != nil {
		return api.Pulse{}, err
	}
	out := pulseFrom(since, until, step, sum.Steps)
	addFacts(&out, sum)
	out.Counted = out.Looked
	why := termination.Filter{Terms: slices.DeleteFunc(slices.Clone(filter.Terms), func(t termination.FilterTerm) bool {
		return t.Key == termination.FilterReason || t.Key == termination.FilterOutcome
	})}
	out.Reasons, out.ReasonsSince = sum.Reasons, since
	if len(why.Terms) < len(filter.Terms) || until.Sub(since) < whyPeriod {
		from := since
		if until.Sub(since) < whyPeriod {
			from = until.Add(-whyPeriod)
		}
		longer, err := s.store.Pulse(ctx, store.PulseQuery{Filter: why, Since: from, Until: until, Step: whyPeriod, Patience: factsPatience})
		if err != nil {
			return api.Pulse{}, err
		}
		out.Reasons, out.ReasonsSince = longer.Reasons, from
		if !longer.Searched.IsZero() {
			out.ReasonsSince = longer.Searched
		}
	}
	return out, nil
}

// window returns the period that a filter fixes by its end.
func window(filter termination.Filter) (since, until time.Time, fixed bool) {
	for _, t := range filter.Terms {
		switch {
		case t.Negate || len(t.Values) != 1:
		case t.Key == termination.FilterSince && t.Values[0].Time.After(since):
			since = t.Values[0].Time
		case t.Key == termination.FilterUntil && (until.IsZero() || t.Values[0].Time.Before(until)):
			until, fixed = t.Values[0].Time, true
		}
	}
	return since, until, fixed
}

func clampTime(t, low, high time.Time) time.Time {
	switch {
	case t.Before(low):
		return low
	case t.After(high):
		return high
	}
	return t
}

func pulseFrom(since, until time.Time, step time.Duration, steps []store.PulseStep) api.Pulse {
	out := api.Pulse{Since: since.UTC(), Until: until.UTC(), StepSeconds: int(step / time.Second), Bars: []api.Bar{}, Total: api.Bar{Time: since.UTC()}}
	for _, x := range steps {
		out.Bars = append(out.Bars, api.Bar{Time: x.Time.UTC(), Verified: x.Verified, Open: x.Open, Passed: x.Passed, Failed: x.Failed})
		out.Total.Verified += x.Verified
		out.Total.Open += x.Open
		out.Total.Passed += x.Passed
		out.Total.Failed += x.Failed
	}
	out.Bars = withoutEmpty(out.Bars)
	return out
}

func addFacts(out *api.Pulse, sum store.Pulse) {
	out.Failing, out.P50MS, out.P95MS = sum.Failing, inMilliseconds(sum.P50), inMilliseconds(sum.P95)
	out.KeyExchanges, out.PostQuantum = sum.KeyExchanges, sum.PostQuantum
	if !sum.Searched.IsZero() {
		out.Looked = &sum.Searched
	}
}
