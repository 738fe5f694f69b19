package server

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign/server/api"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const whyShown = 6 // reasons at most

// pulse puts the pulse of a page into words and shapes.
func (s *Server) pulse(ctx context.Context, clock format.Clock, at liveAddress) (views.Pulse, error) {
	p, err := s.pulseOf(ctx, strings.Join(at.terms, " "), at.period.name)
	if err != nil {
		return views.Pulse{}, fmt.Errorf("sum up the handshakes for the page: %w", err)
	}
	_, _, fixed := window(at.parsed)
	filtered := len(at.terms) > 0
	young := 0
	if age := clock.Now.Sub(s.started); !filtered && at.period.length <= liveCounted && age < at.period.length {
		young = int((at.period.length - age).Seconds()) + 1 // counters begin with the process
	}
	v := views.Pulse{
		Total: p.Total.All(), Demands: s.demandsCertificates(), Fixed: fixed,
		Live:  !fixed && p.StepSeconds == 1,
		Since: p.Since.Unix(), Step: p.StepSeconds, Count: int(p.Until.Sub(p.Since).Seconds()+float64(p.StepSeconds)-1) / max(p.StepSeconds, 1),
		From: "−" + at.period.name, To: "now", Span: "last " + at.period.words,
		Say: pulseSentence(p, at.period, filtered, fixed, young > 0), Facts: pulseFacts(clock, p, at.period, fixed),
	}
	if at.period.length == 2*time.Minute {
		v.From = "−2 min"
	}
	if fixed {
		v.From, v.To, v.Span = clock.Moment(p.Since), clock.Moment(p.Until), clock.Moment(p.Since)+" to "+clock.Moment(p.Until)
	}
	if v.Series, err = series(p.Bars); err != nil {
		return v, err
	}
	v.Drawn = drawn(p, v.Count)
	for _, b := range slices.Backward(p.Bars) {
		v.Numbers = append(v.Numbers, views.Number{
			Time: clock.Minute(b.Time), In: format.Int(b.Verified + b.Open), Passed: format.Int(b.Passed), Failed: format.Int(b.Failed),
		})
		if p.StepSeconds < 60 {
			v.Numbers[len(v.Numbers)-1].Time = clock.Time(b.Time)[:len("15:04:05")]
		}
	}
	for _, choice := range pulsePeriods() {
		link := liveAddress{period: choice}
		v.Periods = append(v.Periods, views.Segment{Label: shortPeriod(choice), Href: link.link(at.terms), Current: choice.name == at.period.name && !fixed})
	}
	v.WhySince = whyWords(clock, p, at, fixed)
	if !filtered && at.period.length <= liveCounted && clock.Now.Sub(s.started) < whyPeriod {
		v.WhySince = "since the start"
	}
	v.Why, v.Failed = why(p.Reasons, at)
	return v, nil
}

func shortPeriod(p pulsePeriod) string {
	return map[string]string{"2m": "2 min", "15m": "15 min", "1h": "1 h", "24h": "24 h", "7d": "7 d"}[p.name]
}

func whyWords(clock format.Clock, p api.Pulse, at liveAddress, fixed bool) string {
	switch {
	case fixed || p.ReasonsSince.After(p.Since.Add(2*time.Second)):
		return "since " + clock.Minute(p.ReasonsSince)
	case at.period.length <= whyPeriod:
		return "15 min"
	}
	return shortPeriod(at.period)
}

// pulseSentence says in words what the bars show.
func pulseSentence(p api.Pulse, period pulsePeriod, filtered, fixed, young bool) []views.Word {
	when := "in the last " + strings.Replace(period.words, "2 minutes", "two minutes", 1)
	switch {
	case fixed:
		when = "in this period"
	case young:
		when = "since the start"
	}
	t := p.Total
	all := t.All()
	what := " of handshakes end verified."
	if filtered {
		what = " of those that match end verified."
	}
	var out []views.Word
	switch {
	case all == 0 && filtered:
		return []views.Word{{Text: "Nothing " + when + " matches the filter."}}
	case all == 0:
		return []views.Word{{Text: "Quiet. Nobody has knocked " + when + "."}}
	case t.Failed == all && all > 1:
		out = append(out, views.Word{Text: "All " + format.Int(all), Tone: parts.Bad}, views.Word{Text: map[bool]string{true: " that match failed.", false: " handshakes failed."}[filtered]})
	case t.Verified == 0 && t.Failed == 0 && t.Passed == 0:
		out = append(out, views.Word{Text: "Everybody", Tone: parts.OK}, views.Word{Text: " comes in, and nobody has to show a certificate."})
	case t.Passed == all:
		out = append(out, views.Word{Text: "All " + format.Int(all), Tone: parts.Sealed}, views.Word{Text: " passed through, sealed for us."})
	default:
		out = append(out, views.Word{Text: format.Percent(t.Verified, all), Tone: parts.OK}, views.Word{Text: what})
	}
	if p.Failing > 0 {
		clients := format.Count(p.Failing, "client", "clients")
		if p.Looked != nil {
			clients = "At least " + clients
		}
		out = append(out, views.Word{Text: " "}, views.Word{Text: clients, Tone: parts.Bad}, views.Word{Text: " cannot get in."})
	}
	return out
}

func pulseFacts(clock format.Clock, p api.Pulse, period pulsePeriod, fixed bool) string {
	all := p.Total.All()
	if all == 0 {
		return ""
	}
	facts := []string{"last " + period.words}
	if fixed {
		facts[0] = clock.Moment(p.Since) + " to " + clock.Moment(p.Until)
	}
	if rate := float64(all) / p.Until.Sub(p.Since).Seconds(); rate >= 1 {
		facts = append(facts, format.Int(uint64(math.Round(rate)))+" per second")
	} else {
		facts = append(facts, format.Int(all)+map[bool]string{true: " handshake", false: " handshakes"}[all == 1])
	}
	if p.P50MS > 0 {
		facts = append(facts, "p50 "+duration(p.P50MS), "p95 "+duration(p.P95MS))
	}
	if p.KeyExchanges > 0 {
		facts = append(facts, format.Percent(p.PostQuantum, p.KeyExchanges)+" post-quantum key exchange")
	}
	switch {
	case p.Counted != nil:
		facts = append(facts, "counted back to "+clock.Moment(*p.Counted))
	case p.Looked != nil:
		facts = append(facts, "times and keys since "+clock.Moment(*p.Looked))
	}
	return strings.Join(facts, " · ")
}

func duration(ms float64) string {
	return format.Duration(time.Duration(ms * float64(time.Millisecond)))
}

// series is what the script paints: for each bar its beginning, how many were let in, passed through, failed.
func series(bars []api.Bar) (string, error) {
	rows := make([][4]uint64, 0, len(bars))
	for _, b := range bars {
		rows = append(rows, [4]uint64{uint64(max(b.Time.Unix(), 0)), b.Verified + b.Open, b.Passed, b.Failed})
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return "", fmt.Errorf("write the bars: %w", err)
	}
	return string(text), nil
}

// drawn are the bars as paths in a box of 720 by 92: let in, passed through, failed. static/pulse.js draws by the same
// rule.
func drawn(p api.Pulse, count int) [3]string {
	const width, zero, height = 720.0, 60.0, 92.0
	up, down := 1.0, 1.0
	for _, b := range p.Bars {
		up, down = max(up, float64(b.Verified+b.Open+b.Passed)), max(down, float64(b.Failed))
	}
	scale := max(up/(zero-4), down/(height-zero-4))
	step := width / float64(max(count, 1))
	var out [3]strings.Builder
	for _, b := range p.Bars {
		i := math.Floor(b.Time.Sub(p.Since).Seconds() / float64(max(p.StepSeconds, 1)))
		bar := func(n int, y float64, count uint64) float64 {
			if count == 0 {
				return 0
			}
			h := max(float64(count)/scale, 1.5)
			if y < zero+1 {
				y -= h
			}
			fmt.Fprintf(&out[n], "M%.1f %.1fh%.1fv%.1fh-%.1f", i*step, y, step*.75, h, step*.75)
			return h
		}
		in := bar(0, zero, b.Verified+b.Open)
		bar(1, zero-in, b.Passed)
		bar(2, zero+1.5, b.Failed)
	}
	return [3]string{out[0].String(), out[1].String(), out[2].String()}
}

func (s *Server) demandsCertificates() bool {
	return slices.ContainsFunc(s.current().Endpoints, func(e termination.Endpoint) bool { return e.ClientAuth.Mode.DemandsCertificate() })
}

// why lists the most frequent reasons, each a toggle of the filter, and how many failed for any.
func why(counts map[termination.Reason]uint64, at liveAddress) (out []views.Why, failed string) {
	var most, all uint64
	for reason, n := range counts {
		most, all = max(most, n), all+n
		out = append(out, views.Why{Reason: reason, Title: views.FailureTitle(reason), Count: n})
	}
	slices.SortFunc(out, func(a, b views.Why) int {
		if a.Count != b.Count {
			return int(b.Count) - int(a.Count) //nolint:gosec // counts of a week
		}
		return strings.Compare(string(a.Reason), string(b.Reason))
	})
	out = out[:min(len(out), whyShown)]
	for i := range out {
		term := "reason:" + string(out[i].Reason)
		out[i].Share = strconv.FormatFloat(float64(out[i].Count)*100/float64(most), 'f', 1, 64) + "%"
		out[i].On = slices.Contains(at.terms, term)
		out[i].Href = at.link(at.toggled(term, "reason:"))
	}
	if all > 0 {
		failed = format.Int(all)
	}
	return out, failed
}
