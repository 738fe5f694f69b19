package termination

import (
	"crypto/x509"
	"net/netip"
	"time"
)

// Visits are recorded handshakes that are alike: the same client came to the same endpoint by the same name, and the same
// became of it. Of a million handshakes of two hundred clients there are a few hundred.
type Visits struct {
	EndpointID string
	ServerName string // of the ClientHello; hostile text
	Outcome    Outcome
	Reason     Reason
	Count      int64
	First      time.Time
	Last       time.Time

	// The rest is that of the newest of them.

	Handshake   string     // its ID
	Endpoint    string     // name at that time
	Client      ClientName // without a fingerprint where no certificate was shown
	Address     netip.Addr
	JA4         string
	Mode        Mode
	Version     uint16 // of TLS; 0: none was agreed upon
	WouldRefuse bool
	ReportOnly  bool
	Presented   []*x509.Certificate
	// Cut says that the client presented certificates which are not kept any more, so that Presented is not the whole list.
	Cut bool
}

// ClientKey names the client of visits: its certificate, or where it showed none its address and JA4. It is text for a map,
// not for people.
func (v *Visits) ClientKey() string {
	if f := v.Client.Fingerprint; f != (Fingerprint{}) {
		return string(f[:])
	}
	return v.Address.String() + " " + v.JA4
}
