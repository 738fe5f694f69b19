package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"countersign/store"
	"countersign/termination"
)

// Pulse sums up a period, as the head of the Live page does.
type Pulse struct {
	Since        time.Time                     `json:"since"`
	Until        time.Time                     `json:"until"`
	StepSeconds  int                           `json:"step_seconds" doc:"The length of a bar."`
	Bars         []Bar                         `json:"bars" doc:"Oldest first; those in which nothing happened are left out."`
	Total        Bar                           `json:"total"`
	Reasons      map[termination.Reason]uint64 `json:"reasons" doc:"Why they failed, from reasons_since on. The filter holds, apart from its terms about outcome and reason."`
	ReasonsSince time.Time                     `json:"reasons_since"`
	Failing      int                           `json:"failing_clients" doc:"Clients whose last handshake of the period failed."`
	P50MS        float64                       `json:"p50_ms" doc:"Without handshakes that broke off; 0: nothing was measured."`
	P95MS        float64                       `json:"p95_ms"`
	KeyExchanges uint64                        `json:"key_exchanges" doc:"Handshakes whose key exchange is known."`
	PostQuantum  uint64                        `json:"post_quantum" doc:"Of these."`
	Counted      *time.Time                    `json:"counted_until,omitempty" doc:"There were too many records to look at in time: bars and total are complete down to this time only."`
	Looked       *time.Time                    `json:"looked_until,omitempty" doc:"Likewise for failing_clients, percentiles and key exchanges."`
}

// Bar counts the handshakes of one step.
type Bar struct {
	Time     time.Time `json:"time"`
	Verified uint64    `json:"verified"`
	Open     uint64    `json:"open"`
	Passed   uint64    `json:"passed"`
	Failed   uint64    `json:"failed"`
}

// All is how many there were.
func (b Bar) All() uint64 { return b.Verified + b.Open + b.Passed + b.Failed }

// SeenValues are completions of a filter's term.
type SeenValues struct {
	Items []SeenValue `json:"items"`
}

// SeenValue is a value, and the text of the term that asks for it.
type SeenValue struct {
	Value string `json:"value" doc:"As it came from the wire: a text from a stranger."`
	Term  string `json:"term" doc:"As the filter writes it, with quotes where they are needed."`
	Count int64  `json:"count" doc:"Among the newest 50,000 records; 0: not seen there."`
	About string `json:"about,omitempty" doc:"What a key or code means."`
}

const mostValues = 12

func (a *API) pulses() {
	const tag = "Handshakes"
	register(a, operation{method: http.MethodGet, path: "/handshakes/pulse", summary: "Sum up a period: bars, why handshakes failed, how long they took", scope: store.ScopeRead, tag: tag},
		func(ctx context.Context, in *struct {
			Filter string `query:"f" maxLength:"1024" doc:"As on the page. With until: the period is that between since: and until:."`
			Period string `query:"period" enum:"2m,15m,1h,24h,7d" default:"2m"`
		},
		) (*one[Pulse], error) {
			p, err := a.options.Pulse(ctx, in.Filter, in.Period)
			return &one[Pulse]{p}, filterProblem(err)
		})
	register(a, operation{method: http.MethodGet, path: "/handshakes/values", summary: "List the keys of the filter, or the values of one that were seen lately", scope: store.ScopeRead, tag: tag},
		func(ctx context.Context, in *struct {
			Key  string `query:"key" maxLength:"20" doc:"Empty: the keys themselves."`
			Held string `query:"prefix" maxLength:"200" doc:"What a value begins with, or holds."`
		},
		) (*one[SeenValues], error) {
			items, err := a.seenValues(ctx, termination.FilterKey(strings.ToLower(in.Key)), in.Held)
			return &one[SeenValues]{SeenValues{Items: items}}, err
		})
}

// filterProblem says of a filter that was not understood at which field it stands.
func filterProblem(err error) error {
	if wrong, ok := err.(*termination.FilterError); ok { //nolint:errorlint // as ParseFilter returns it
		return termination.ValidationError{{Kind: "filter", Field: "f", Problem: wrong.Error()}}
	}
	return err
}

func (a *API) seenValues(ctx context.Context, key termination.FilterKey, held string) ([]SeenValue, error) {
	out := []SeenValue{}
	if key == termination.FilterText {
		for _, k := range termination.FilterKeys() {
			if strings.HasPrefix(string(k), strings.ToLower(held)) {
				out = append(out, SeenValue{Value: string(k) + ":", Term: string(k) + ":", About: keyMeans(k)})
			}
		}
		return out, nil
	}
	seen, err := a.options.Store.Values(ctx, key, held, mostValues)
	if err != nil {
		return nil, err
	}
	listed := map[string]bool{}
	for _, v := range seen {
		term := termination.FormatFilterTerm(key, v.Value, false)
		f, err := termination.ParseFilter(term, a.options.Now())
		if err != nil || len(f.Terms) != 1 {
			continue // such as a text with control characters, which no filter can hold
		}
		listed[v.Value] = true
		out = append(out, SeenValue{Value: v.Value, Term: f.Terms[0].String(), Count: v.Count, About: valueMeans(key, v.Value)})
	}
	for _, v := range fixedValues(key) {
		term := termination.FormatFilterTerm(key, v, false)
		_, err := termination.ParseFilter(term, a.options.Now())
		if err == nil && len(out) < mostValues && !listed[v] && strings.HasPrefix(v, strings.ToLower(held)) {
			out = append(out, SeenValue{Value: v, Term: term, About: valueMeans(key, v)})
		}
	}
	return out, nil
}

func keyMeans(k termination.FilterKey) string {
	return map[termination.FilterKey]string{
		termination.FilterOutcome: "how it ended", termination.FilterReason: "why it failed", termination.FilterBeat: "where it broke, 1 to 5",
		termination.FilterEndpoint: "endpoint", termination.FilterSNI: "name that was asked for", termination.FilterClient: "name in the certificate",
		termination.FilterIdentity: "client that is known here", termination.FilterCA: "authority or issuer", termination.FilterFP: "fingerprint",
		termination.FilterIP: "address or network", termination.FilterTLS: "version", termination.FilterKX: "key exchange",
		termination.FilterIs: "what it is", termination.FilterALPN: "application protocol", termination.FilterJA4: "software by its ClientHello",
		termination.FilterMS: "how long it took, such as >50", termination.FilterSince: "from a time on, such as 15m", termination.FilterUntil: "up to a time",
	}[k]
}

func valueMeans(key termination.FilterKey, value string) string {
	if key != termination.FilterReason {
		return ""
	}
	info, _ := termination.Reason(value).Info()
	return info.Title
}

// fixedValues are the values that can be named before they were seen.
func fixedValues(key termination.FilterKey) []string {
	var out []string
	switch key {
	case termination.FilterOutcome:
		for _, o := range termination.Outcomes() {
			out = append(out, string(o))
		}
		return append(out, termination.FilterFailed)
	case termination.FilterReason:
		for _, r := range termination.Reasons() {
			out = append(out, string(r.Code))
		}
		return out
	case termination.FilterIs:
		return []string{termination.FilterPQ, termination.FilterWouldRefuse, termination.FilterNoise, "new", "marked"}
	case termination.FilterBeat:
		return []string{"1", "2", "3", "4", "5"}
	case termination.FilterTLS:
		return []string{"1.2", "1.3"}
	case termination.FilterSince:
		return []string{"15m", "1h", "24h", "7d"}
	default:
		return nil
	}
}
