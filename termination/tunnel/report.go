package tunnel

import (
	"crypto/x509"
	"errors"

	"countersign/termination"
)

// report is what an agent tells about a client's connection: the record of its handshake, or its end.
type report struct {
	Handshake *termination.CarriedHandshake `json:"handshake,omitempty"`
	End       *termination.CarriedEnd       `json:"end,omitempty"`
}

// maxReported bounds what an agent reports, beyond the size of a report as a whole: certificates in a list, and checks.
const maxReported = 100

// handshakeReport leaves out what is beyond the bounds. What stands in a record is a stranger's to choose, and a report
// that is too large for the gateway would end the tunnel, with everybody in it.
func handshakeReport(h *termination.Handshake) report {
	bounded := *h
	bounded.Presented, bounded.Path = first(h.Presented), first(h.Path)
	w := termination.Carry(&bounded)
	w.Error = clip(h.Error, maxText)
	w.Verdict.Checks = nil
	for _, c := range first(h.Verdict.Checks) {
		if c.Certificate < len(w.Presented) {
			c.Detail = clip(c.Detail, maxText)
			w.Verdict.Checks = append(w.Verdict.Checks, c)
		}
	}
	w.Upstream = clipUpstream(h.Upstream)
	return report{Handshake: w}
}

func endReport(e termination.ConnectionEnd) report {
	e.Detail, e.Upstream = clip(e.Detail, maxText), clipUpstream(e.Upstream)
	return report{End: termination.CarryEnd(e)}
}

func clipUpstream(u *termination.UpstreamResult) *termination.UpstreamResult {
	if u == nil {
		return nil
	}
	out := *u
	out.Address, out.Error = clip(u.Address, maxText), clip(u.Error, maxText)
	return &out
}

func first[T any](list []T) []T { return list[:min(len(list), maxReported)] }

func ders(certs []*x509.Certificate) [][]byte {
	var out [][]byte
	for _, c := range certs {
		out = append(out, c.Raw)
	}
	return out
}

// id is the handshake that a report is about.
func (r report) id() (string, error) {
	switch {
	case r.Handshake != nil && r.End == nil && r.Handshake.ID != "":
		return r.Handshake.ID, nil
	case r.End != nil && r.Handshake == nil && r.End.ID != "":
		return r.End.ID, nil
	default:
		return "", errors.New("a report is about one thing, and names it")
	}
}

// record returns the record of a report. What is beyond the bounds is left out, and so is what follows a certificate that
// cannot be read: what a client presented to an agent of another version must not end the tunnel of everybody else.
func (r report) record() *termination.Handshake {
	w := *r.Handshake
	w.Presented, w.Path = first(w.Presented), first(w.Path)
	h := w.Record()
	h.Verdict.Checks = first(h.Verdict.Checks)
	return h
}
