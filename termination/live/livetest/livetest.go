// Package livetest makes synthetic handshakes, to load the live stream with.
package livetest

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"

	"countersign/termination"
)

// Handshake returns the n-th of a fixed sequence of handshakes, as a busy gateway would record it at that time: of ten,
// seven are verified, one each is passed through, refused for an expired certificate, and refused for none. Twenty
// clients come from twenty addresses to three endpoints.
func Handshake(n int, at time.Time) *termination.Handshake {
	who := n % 20
	h := &termination.Handshake{
		ID:          "hs_" + strconv.Itoa(n),
		Node:        "node_test",
		Time:        at,
		Duration:    time.Duration(1000+n%9000) * time.Microsecond,
		Peer:        netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 20, 0, byte(who)}), 40000), //nolint:gosec // below 20
		Local:       netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 8443),
		EndpointID:  "ep_" + strconv.Itoa(n%3),
		Endpoint:    [...]string{"payments", "ledger", "erp"}[n%3],
		Scheme:      termination.SchemeHTTPS,
		TerminateAt: termination.AtEdge,
		Mode:        termination.ModeRequire,
		Hello: &termination.ClientHello{
			ServerName: [...]string{"payments.localhost", "ledger.localhost", "erp.localhost"}[n%3],
			ALPN:       []string{"h2", "http/1.1"}, JA4: "t13d1516h2_8daaf6152771_02713d6af862",
		},
		Chosen: &termination.Negotiated{
			Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, Group: uint16(tls.X25519MLKEM768), ALPN: "h2", PostQuantum: true,
		},
		Client: termination.ClientName{
			Name: "client-" + strconv.Itoa(who), Full: "spiffe://acme/client-" + strconv.Itoa(who), Issuer: "Acme Issuing CA 2", Authority: "acme",
		},
		Verdict: termination.Verdict{Outcome: termination.OutcomeVerified, Beat: termination.BeatEstablished},
	}
	binary.BigEndian.PutUint32(h.Client.Fingerprint[:], uint32(who+1)) //nolint:gosec // small
	switch n % 10 {
	case 7:
		h.Client, h.Chosen = termination.ClientName{}, nil
		h.Verdict = termination.Verdict{Outcome: termination.OutcomePassed, Beat: termination.BeatAgreement}
	case 8:
		h.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonCertExpired, Beat: termination.BeatClientCert}
	case 9:
		h.Client = termination.ClientName{}
		h.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonCertMissing, Beat: termination.BeatClientCert}
	}
	return h
}

// Run publishes perSecond handshakes a second, spread evenly in steps of a millisecond, until ctx ends. It returns how
// many there were.
func Run(ctx context.Context, perSecond int, publish func(*termination.Handshake)) int {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start, n := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return n
		case now := <-tick.C:
			for due := int(now.Sub(start).Seconds() * float64(perSecond)); n < due; n++ {
				publish(Handshake(n, now))
			}
		}
	}
}
