package termination

import (
	"crypto/x509"
	"time"
)

// Passed is what was seen from outside of a handshake between a client and a service, which passed through sealed. What
// it does not hold was not to be seen, or was never sent; SealedFrom tells which. None of it is proven: it decides
// nothing here, and only explains.
type Passed struct {
	SealedFrom         SealedFrom        `json:"sealed_from"`
	Service            []SeenCertificate `json:"service_chain,omitempty"`        // what the service presented, its own first
	AsksForCertificate bool              `json:"asks_for_certificate,omitempty"` // the service asked the client for one
	ClientWentOn       bool              `json:"client_went_on"`                 // the client answered the service's certificate in cipher: it accepted it, or said in secret why not
	ProbablyRefused    bool              `json:"probably_refused,omitempty"`     // what it said first in secret is as short as an alert
}

// SealedFrom says from where on a handshake is encrypted.
type SealedFrom string

// Where it begins.
const (
	SealedFromServerHello SealedFrom = "server_hello" // TLS 1.3: certificates, ALPN and alerts are sealed
	SealedFromFinished    SealedFrom = "finished"     // before: certificates and the alerts about them are not
	SealedFromUnknown     SealedFrom = ""             // the service chose nothing
)

// SeenCertificate is a certificate as it passed by. Its texts are hostile.
type SeenCertificate struct {
	Fingerprint Fingerprint `json:"fingerprint"`
	Subject     string      `json:"subject"`
	Issuer      string      `json:"issuer"`
	Names       []string    `json:"names,omitempty"` // DNS names and IP addresses
	NotBefore   time.Time   `json:"not_before"`
	NotAfter    time.Time   `json:"not_after"`
}

const (
	maxSeenText  = 256 // bytes of a text
	maxSeenNames = 20  // names of a certificate
)

// SeenCertificateOf takes from a certificate what is kept of it.
func SeenCertificateOf(c *x509.Certificate) SeenCertificate {
	s := SeenCertificate{
		Fingerprint: FingerprintOf(c), Subject: clipSeen(NameText(c.Subject)), Issuer: clipSeen(NameText(c.Issuer)),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, n := range names[:min(len(names), maxSeenNames)] {
		s.Names = append(s.Names, clipSeen(n))
	}
	return s
}

func clipSeen(s string) string { return s[:min(len(s), maxSeenText)] }
