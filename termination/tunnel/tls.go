package tunnel

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"countersign/termination"
	"countersign/termination/localca"
)

// Protocols of the listener for agents, by ALPN name (RFC 7301). Their digit is the version of what follows.
const (
	protocolJoin   = "countersign-join/1"
	protocolTunnel = "countersign-tunnel/1"
)

// renewalGrace is how long after its certificate has ended an agent may come back to renew it: one that was switched
// off over a holiday needs no new invitation. Whether it may come at all is for the registry to say.
const renewalGrace = 30 * 24 * time.Hour

// listenerTLS is the gateway's side of TLS: one configuration for both protocols, without tickets, so that nothing but
// a full handshake lets anybody in.
func listenerTLS(certificate func() (*tls.Certificate, error), ca *x509.Certificate, now func() time.Time) *tls.Config {
	return &tls.Config{
		Time:           now,
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{protocolTunnel, protocolJoin},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate() },
		// crypto/tls only asks, since it would refuse one that comes to renew; VerifyConnection decides.
		ClientAuth:             tls.RequestClientCert,
		ClientCAs:              poolOf(ca), // announced; never nil, which would mean the system's
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			switch cs.NegotiatedProtocol {
			case protocolJoin:
				return nil
			case protocolTunnel:
				_, err := agentOf(cs, ca, now())
				return err
			default:
				return errors.New("the client is no agent of ours")
			}
		},
	}
}

// agentOf verifies an agent's certificate and returns the ID in it. The certificate may have ended lately: see
// renewalGrace.
func agentOf(cs tls.ConnectionState, ca *x509.Certificate, now time.Time) (string, error) {
	if len(cs.PeerCertificates) != 1 {
		return "", errors.New("an agent shows its one certificate")
	}
	leaf := cs.PeerCertificates[0]
	at := now
	if late := now.Sub(leaf.NotAfter); late > 0 && late < renewalGrace {
		at = leaf.NotAfter
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: poolOf(ca), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", fmt.Errorf("verify the agent's certificate: %w", err)
	}
	id := localca.AgentID(leaf)
	if id == "" {
		return "", errors.New("the certificate names no agent")
	}
	return id, nil
}

func poolOf(ca *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return pool
}

// PinError says that something else than the gateway of the invitation answers at its address.
type PinError struct{ Address string }

// Error says what to do.
func (e *PinError) Error() string {
	return fmt.Sprintf("what answers at %s is not the gateway of this invitation: its CA is another. Check the address, and that nothing between opens TLS; if the gateway was set up anew, make a new invitation", e.Address)
}

// joinTLS is the side of an agent that knows no more of the gateway than the pin of its CA.
func joinTLS(address string, pin termination.Fingerprint, now func() time.Time) *tls.Config {
	return &tls.Config{
		Time:                   now,
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocolJoin},
		ServerName:             localca.AgentListenerName,
		InsecureSkipVerify:     true, //nolint:gosec // VerifyConnection verifies the chain, against the pinned CA alone
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := pinnedCA(cs, address, pin, now())
			return err
		},
	}
}

// pinnedCA finds the CA with that pin among what the gateway sent, and verifies the gateway's certificate against it
// and nothing else.
func pinnedCA(cs tls.ConnectionState, address string, pin termination.Fingerprint, now time.Time) (*x509.Certificate, error) {
	if cs.NegotiatedProtocol != protocolJoin || len(cs.PeerCertificates) < 2 {
		return nil, &PinError{Address: address}
	}
	for _, ca := range cs.PeerCertificates[1:] {
		if termination.FingerprintOf(ca) != pin {
			continue
		}
		if !ca.IsCA || !ca.BasicConstraintsValid {
			return nil, &PinError{Address: address}
		}
		return ca, verifyListener(cs.PeerCertificates[0], ca, now)
	}
	return nil, &PinError{Address: address}
}

func verifyListener(leaf, ca *x509.Certificate, now time.Time) error {
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: poolOf(ca), DNSName: localca.AgentListenerName, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("verify the gateway's certificate: %w", err)
	}
	return nil
}

// tunnelTLS is the side of an agent that has joined.
func tunnelTLS(id *Identity, now func() time.Time) *tls.Config {
	return &tls.Config{
		Time:                   now,
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocolTunnel},
		ServerName:             localca.AgentListenerName,
		RootCAs:                poolOf(id.CA),
		SessionTicketsDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{id.Certificate.Raw}, PrivateKey: id.Key, Leaf: id.Certificate}, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.NegotiatedProtocol != protocolTunnel {
				return errors.New("what answers does not speak to agents")
			}
			return nil
		},
	}
}

// listenerCertificate issues the listener's certificate, and another one when it is due. Its key lives in memory only.
type listenerCertificate struct {
	now func() time.Time

	mu      sync.Mutex
	ca      *termination.AgentCA
	current *tls.Certificate
}

// use changes the CA.
func (l *listenerCertificate) use(ca *termination.AgentCA) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ca == nil || ca == nil || !bytes.Equal(l.ca.Certificate.Raw, ca.Certificate.Raw) {
		l.current = nil
	}
	l.ca = ca
}

func (l *listenerCertificate) get() (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ca == nil {
		return nil, errors.New("there is no CA for agents")
	}
	if l.current != nil && l.now().Before(localca.DueAt(l.current.Leaf)) {
		return l.current, nil
	}
	issued, err := localca.IssueAgentListener(l.ca, l.now())
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{PrivateKey: issued.Key, Leaf: issued.Leaf()}
	for _, cert := range issued.Chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	l.current = c
	return c, nil
}
