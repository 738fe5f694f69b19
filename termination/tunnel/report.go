package tunnel

import (
	"crypto/x509"
	"errors"
	"fmt"

	"countersign/termination"
)

// report is what an agent tells about a client's connection: the record of its handshake, or its end.
type report struct {
	Handshake *wireHandshake `json:"handshake,omitempty"`
	End       *wireEnd       `json:"end,omitempty"`
}

// wireHandshake is a record with the certificates that its JSON leaves out.
type wireHandshake struct {
	termination.Handshake

	Presented [][]byte `json:"presented,omitempty"`
	Path      [][]byte `json:"path,omitempty"`
}

type wireEnd struct {
	termination.ConnectionEnd

	ID string `json:"id"`
}

// Bounds of what an agent may report, beyond the size of a report as a whole.
const (
	maxReported = 100 // certificates in a list, and checks
)

func handshakeReport(h *termination.Handshake) report {
	return report{Handshake: &wireHandshake{Handshake: *h, Presented: ders(h.Presented), Path: ders(h.Path)}}
}

func endReport(e termination.ConnectionEnd) report {
	return report{End: &wireEnd{ConnectionEnd: e, ID: e.ID}}
}

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

// record returns the record of a report, with the certificates in it.
func (w *wireHandshake) record() (*termination.Handshake, error) {
	h := w.Handshake
	var err error
	if h.Presented, err = certificates(w.Presented); err != nil {
		return nil, err
	}
	if h.Path, err = certificates(w.Path); err != nil {
		return nil, err
	}
	if len(h.Verdict.Checks) > maxReported {
		return nil, fmt.Errorf("a report has %d checks, at most %d are allowed", len(h.Verdict.Checks), maxReported)
	}
	return &h, nil
}

func certificates(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) > maxReported {
		return nil, fmt.Errorf("a report has %d certificates, at most %d are allowed", len(ders), maxReported)
	}
	var out []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read a reported certificate: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// end returns the end of a report.
func (w *wireEnd) end() termination.ConnectionEnd {
	e := w.ConnectionEnd
	e.ID = w.ID
	return e
}
