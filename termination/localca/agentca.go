package localca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"time"

	"countersign/termination"
)

const (
	// agentCADays is long: the CA's pin is in every agent's invitation, and only joining again brings a new one.
	agentCADays = MaxCADays
	// AgentLife is how long an agent's certificate is good. It renews itself long before.
	AgentLife = day
	// AgentListenerName is the name in the certificate of the listener for agents. It is the same everywhere: what an
	// agent trusts is the CA that signed it, wherever the gateway is.
	AgentListenerName = "agents.countersign.internal"
)

// CreateAgentCA makes the CA that signs the certificates of agents and of the listener that they connect to. It signs
// for nobody else, and nobody else trusts it.
func CreateAgentCA(now time.Time) (*termination.AgentCA, error) {
	ca, err := Create(Options{Name: "Countersign agents", Days: agentCADays, Now: now})
	if err != nil {
		return nil, fmt.Errorf("create the agents' CA: %w", err)
	}
	return &termination.AgentCA{Certificate: ca.Certificate, Key: ca.Key}, nil
}

// AgentURI is the subject alternative name by which an agent's certificate tells its ID.
func AgentURI(id string) *url.URL {
	return &url.URL{Scheme: "countersign", Host: "agent", Path: "/" + id}
}

// AgentID reads the ID of an agent's certificate; empty where it is none.
func AgentID(cert *x509.Certificate) string {
	if len(cert.URIs) != 1 {
		return ""
	}
	u := cert.URIs[0]
	if u.Scheme != "countersign" || u.Host != "agent" || len(u.Path) < 2 || *u != *AgentURI(u.Path[1:]) {
		return ""
	}
	return u.Path[1:]
}

// SignAgent issues the certificate by which an agent is known, for the key of its request.
func SignAgent(ca *termination.AgentCA, id string, csr *x509.CertificateRequest, now time.Time) (*x509.Certificate, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: id},
		URIs:        []*url.URL{AgentURI(id)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	cert, err := signLeaf(asLocal(ca), template, csr.PublicKey, now, AgentLife)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of agent %s: %w", id, err)
	}
	return cert, nil
}

// IssueAgentListener issues the certificate of the listener for agents.
func IssueAgentListener(ca *termination.AgentCA, now time.Time) (*Issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the listener for agents: %w", err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: AgentListenerName},
		DNSNames:    []string{AgentListenerName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := signLeaf(asLocal(ca), template, key.Public(), now, AgentLife)
	if err != nil {
		return nil, fmt.Errorf("issue the certificate of the listener for agents: %w", err)
	}
	// The CA goes along, since an agent that joins knows no more than its pin.
	return &Issued{Chain: []*x509.Certificate{cert, ca.Certificate}, Key: key, CA: ca.Certificate}, nil
}

func asLocal(ca *termination.AgentCA) *termination.LocalCA {
	return &termination.LocalCA{Name: "the agents' CA", Certificate: ca.Certificate, Key: ca.Key}
}
