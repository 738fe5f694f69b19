package termination

import "crypto/x509"

// CarriedHandshake is a record on its way from one process to another, with the certificates that its JSON leaves out.
type CarriedHandshake struct {
	Handshake

	Presented [][]byte `json:"presented,omitempty"` // DER
	Path      [][]byte `json:"path,omitempty"`      // DER
}

// Carry makes a record ready for another process.
func Carry(h *Handshake) *CarriedHandshake {
	return &CarriedHandshake{Handshake: *h, Presented: ders(h.Presented), Path: ders(h.Path)}
}

// Record returns the record with its certificates. What follows one that cannot be read is left out: another version has
// read it once, and a record must not get lost by that.
func (c *CarriedHandshake) Record() *Handshake {
	h := c.Handshake
	h.Presented, h.Path = readable(c.Presented), readable(c.Path)
	return &h
}

// CarriedEnd is the end of a connection on its way from one process to another, with what its JSON leaves out.
type CarriedEnd struct {
	ConnectionEnd

	ID       string `json:"id"` // of the handshake
	Endpoint string `json:"endpoint,omitempty"`
}

// CarryEnd makes an end ready for another process.
func CarryEnd(e ConnectionEnd) *CarriedEnd {
	return &CarriedEnd{ConnectionEnd: e, ID: e.ID, Endpoint: e.Endpoint}
}

// End returns the end whole.
func (c *CarriedEnd) End() ConnectionEnd {
	e := c.ConnectionEnd
	e.ID, e.Endpoint = c.ID, c.Endpoint
	return e
}

func ders(certs []*x509.Certificate) [][]byte {
	var out [][]byte
	for _, c := range certs {
		out = append(out, c.Raw)
	}
	return out
}

func readable(ders [][]byte) (out []*x509.Certificate) {
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			break
		}
		out = append(out, c)
	}
	return out
}
