package metrics

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/revocation"
)

// mostIdentities bounds the gauges of clients' certificates, by identity and as seen: those that end first are told.
const mostIdentities = 1000

// state collects what is the case at the moment of a scrape.
type state struct {
	options Options
	named   map[string]*prometheus.Desc
	order   []string
}

func newState(o Options) *state {
	s := &state{options: o, named: map[string]*prometheus.Desc{}}
	s.describe("config_revision", "Number of the configuration in force.")
	s.describe("endpoint_up", "1: the endpoint can be reached; 0: it cannot. One that is switched off is left out.", "endpoint")
	s.describe("connections", "Connections that were let in and are open.", "endpoint")
	s.describe("half_open_connections", "Connections whose handshake is under way.")
	s.describe("turned_away_total", "Connections that were turned away at a limit.", "limit")
	s.describe("upstream_up", "1: no failure of the target is known that was not followed by a success.", "endpoint", "target")
	s.describe("agents_online", "Agents of an endpoint that are online and get its clients.", "endpoint")
	s.describe("agent_records_dropped", "Records that the agents which are online could not report.", "endpoint")
	s.describe("feed_missed_total", "Handshakes, and ends of connections, that were counted but neither shown nor stored.", "kind")
	s.describe("history_lost_total", "Handshakes, and ends of connections, that the history did not store.", "kind")
	s.describe("feed_subscribers", "Watchers of the live stream.")
	s.describe("feed_dropped_total", "Events that watchers of the live stream were not shown, all of them together.")
	s.describe("feed_queue_length", "Records that wait for the live stream.")
	s.describe("feed_lag_seconds", "How long a record waited at worst in the last second.")
	s.describe("telemetry_records_total", "Handshakes and lines of the log on their way to the OpenTelemetry collector: sent, failed (it did not take them), dropped (no room).", "signal", "result")
	s.describe("authority_certificate_expiry_timestamp_seconds", "When a CA certificate of an authority ends.", "authority", "fingerprint")
	s.describe("crl_expiry_timestamp_seconds", "When the first of an authority's revocation lists is past its time.", "authority")
	s.describe("crl_sources_failing", "Sources of an authority's revocation lists that cannot be read or fetched.", "authority")
	s.describe("server_certificate_expiry_timestamp_seconds", "When a certificate ends that an endpoint presents.", "endpoint", "fingerprint")
	s.describe("client_certificate_expiry_timestamp_seconds", "When the last registered certificate of an identity ends.", "identity")
	s.describe("seen_client_certificate_expiry_timestamp_seconds", "When a certificate ends with which a client came in within the last thirty days.", "fingerprint")
	return s
}

func (s *state) describe(name, help string, labels ...string) {
	s.named[name] = prometheus.NewDesc("countersign_"+name, help, labels, nil)
	s.order = append(s.order, name)
}

// Describe implements [prometheus.Collector].
func (s *state) Describe(to chan<- *prometheus.Desc) {
	for _, name := range s.order {
		to <- s.named[name]
	}
}

// Collect implements [prometheus.Collector].
func (s *state) Collect(to chan<- prometheus.Metric) {
	out := &sink{state: s, to: to}
	if s.options.Gateway != nil {
		out.gateway(s.options.Gateway())
	}
	if s.options.Revocation != nil {
		out.revocation(s.options.Revocation())
	}
	if s.options.Feed != nil {
		out.feed(s.options.Feed())
	}
	if s.options.Telemetry != nil {
		out.telemetry(s.options.Telemetry())
	}
	if s.options.Seen != nil {
		out.seen(s.options.Seen())
	}
	if s.options.Config != nil {
		if config := s.options.Config(); config != nil {
			out.authorities(config)
			out.identities(config)
		}
	}
}

// sink takes the values of one scrape.
type sink struct {
	state *state
	to    chan<- prometheus.Metric
}

// set tells a value. One that the library refuses is left out; so is one whose labels are no UTF-8.
func (o *sink) set(name string, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if strings.HasSuffix(name, "_total") {
		kind = prometheus.CounterValue
	}
	if m, err := prometheus.NewConstMetric(o.state.named[name], kind, value, labels...); err == nil {
		o.to <- m
	}
}

func (o *sink) gateway(s gateway.Status) {
	o.set("config_revision", float64(s.Revision))
	o.set("half_open_connections", float64(s.HalfOpen))
	for limit, n := range s.TurnedAway {
		o.set("turned_away_total", float64(n), string(limit))
	}
	dropped := map[string]uint64{}
	for _, a := range s.Agents {
		if a.Endpoint != "" {
			dropped[a.Endpoint] += a.Dropped
		}
	}
	for endpoint, n := range dropped {
		o.set("agent_records_dropped", float64(n), endpoint)
	}
	for i := range s.Endpoints {
		o.endpoint(&s.Endpoints[i])
	}
}

func (o *sink) endpoint(e *gateway.EndpointStatus) {
	o.set("connections", float64(e.Connections), e.Name)
	if e.State == gateway.StateStopped {
		return
	}
	up := 1.0
	if e.State == gateway.StateFailed {
		up = 0
	}
	o.set("endpoint_up", up, e.Name)
	o.set("agents_online", float64(e.Agents), e.Name)
	told := map[string]bool{}
	for _, t := range e.Upstreams {
		if told[t.Target] {
			continue // two routes lead to it
		}
		told[t.Target] = true
		healthy := 0.0
		if t.Healthy {
			healthy = 1
		}
		o.set("upstream_up", healthy, e.Name, t.Target)
	}
	o.certificates("server_certificate_expiry_timestamp_seconds", e.Name, e.Leaves)
}

// certificates tells when each of the certificates of an object ends.
func (o *sink) certificates(name, of string, all []*x509.Certificate) {
	told := map[string]bool{}
	for _, c := range all {
		short := shortFingerprint(c)
		if told[short] {
			continue
		}
		told[short] = true
		o.set(name, seconds(c.NotAfter), of, short)
	}
}

// shortFingerprint is as much of a fingerprint as pages show.
func shortFingerprint(c *x509.Certificate) string {
	const shown = 6 // bytes
	f := termination.FingerprintOf(c)
	return hex.EncodeToString(f[:shown])
}

func (o *sink) authorities(config *termination.Config) {
	for i := range config.Authorities {
		a := &config.Authorities[i]
		all := make([]*x509.Certificate, 0, len(a.Certificates))
		for _, c := range a.Certificates {
			all = append(all, c.Certificate)
		}
		o.certificates("authority_certificate_expiry_timestamp_seconds", a.Name, all)
	}
}

func (o *sink) identities(config *termination.Config) {
	type end struct {
		name string
		at   time.Time
	}
	var ends []end
	for i := range config.Identities {
		identity := &config.Identities[i]
		var last time.Time
		for _, c := range identity.Certificates {
			if c.NotAfter.After(last) {
				last = c.NotAfter
			}
		}
		if !last.IsZero() && !identity.Blocked {
			ends = append(ends, end{identity.Name, last})
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.name, b.name)) })
	for _, e := range ends[:min(len(ends), mostIdentities)] {
		o.set("client_certificate_expiry_timestamp_seconds", seconds(e.at), e.name)
	}
}

// seen has no names as labels: a name in a certificate is the client's own word.
func (o *sink) seen(clients []SeenClient) {
	for _, c := range clients[:min(len(clients), mostIdentities)] {
		o.set("seen_client_certificate_expiry_timestamp_seconds", seconds(c.Ends), c.Fingerprint.String())
	}
}

func (o *sink) revocation(all []revocation.Status) {
	for _, a := range all {
		var first time.Time
		failing := 0
		for _, source := range a.Sources {
			if source.Problem != "" {
				failing++
			}
			for _, l := range source.Lists {
				if l.InForce && !l.FreshUntil.IsZero() && (first.IsZero() || l.FreshUntil.Before(first)) {
					first = l.FreshUntil
				}
			}
		}
		if !first.IsZero() {
			o.set("crl_expiry_timestamp_seconds", seconds(first), a.Authority)
		}
		o.set("crl_sources_failing", float64(failing), a.Authority)
	}
}

func (o *sink) feed(s live.Status) {
	const handshake, end = "handshake", "end"
	o.set("feed_missed_total", float64(s.Missed), handshake)
	o.set("feed_missed_total", float64(s.MissedEnds), end)
	o.set("history_lost_total", float64(s.Lost), handshake)
	o.set("history_lost_total", float64(s.LostEnds), end)
	o.set("feed_subscribers", float64(s.Subscribers))
	o.set("feed_dropped_total", float64(s.Dropped))
	o.set("feed_queue_length", float64(s.Queue))
	o.set("feed_lag_seconds", s.Lag.Seconds())
}

func (o *sink) telemetry(all []Signal) {
	for _, s := range all {
		o.set("telemetry_records_total", float64(s.Sent), s.Name, "sent")
		o.set("telemetry_records_total", float64(s.Failed), s.Name, "failed")
		o.set("telemetry_records_total", float64(s.Dropped), s.Name, "dropped")
	}
}

func seconds(t time.Time) float64 { return float64(t.Unix()) }
