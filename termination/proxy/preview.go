package proxy

import (
	"net/http"
	"time"

	"countersign/termination"
	"countersign/termination/verify"
)

// Told is a header that tells a service who a client is.
type Told struct{ Name, Value string }

// Preview returns what the service behind an endpoint would be told of a client whose handshake is on record, in a request
// for / at the time now. Of a client that was not verified it tells nothing. The error is that of an expression that does
// not compile.
func Preview(e *termination.Endpoint, rec *termination.Handshake, limits termination.Limits, now time.Time) ([]Told, error) {
	if rec.Verdict.Outcome != termination.OutcomeVerified || len(rec.Presented) == 0 {
		return nil, nil
	}
	s := &Site{Endpoint: e}
	var err error
	if s.headers, err = compileHeaders(e, limits); err != nil {
		return nil, err
	}
	j := verify.Judgement{
		In: true, Verified: true, ReportOnly: e.ClientAuth.ReportOnly, Path: rec.Path,
		Authority: rec.Client.Authority, Pin: rec.Client.Pin,
	}
	if rec.Client.Identity != "" {
		j.Identity = &termination.Identity{ID: rec.Client.IdentityID, Name: rec.Client.Identity}
	}
	x := &exchange{
		proxy: &Proxy{options: Options{Now: func() time.Time { return now }}}, site: s, conn: NewConn(ConnOptions{Handshake: rec}), client: j,
		incoming: &http.Request{Method: http.MethodGet, Host: e.Host}, target: target{path: "/"},
	}
	t := x.tell()
	x.tellOwn(t, func(own *ownHeader) bool { return !own.lasting() })
	out := make([]Told, 0, len(t.headers)+1)
	for _, h := range t.headers {
		out = append(out, Told{h.name, h.value[0]})
	}
	if len(t.leftOut) > 0 {
		out = append(out, Told{leftOutHeader, t.leftOutText()})
	}
	return out, nil
}
