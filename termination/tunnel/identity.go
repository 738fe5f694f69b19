package tunnel

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"countersign/termination"
	"countersign/termination/localca"
)

// Identity is what an agent is known by once it has joined. It is never changed after it was handed over.
type Identity struct {
	ID          string
	EndpointID  string
	Endpoint    string // its name when the agent joined
	Key         crypto.Signer
	Certificate *x509.Certificate
	CA          *x509.Certificate // of the gateway's agents
	Gateways    []string          // host:port, in the order in which they are tried
}

// Check refuses an identity whose parts do not belong together.
func (id *Identity) Check() error {
	public, ok := id.Key.Public().(interface{ Equal(x crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(id.Certificate.PublicKey):
		return errors.New("the agent's key does not belong to its certificate")
	case localca.AgentID(id.Certificate) != id.ID || id.ID == "":
		return errors.New("the agent's certificate is another agent's")
	case id.Certificate.CheckSignatureFrom(id.CA) != nil:
		return errors.New("the agent's certificate is not from the gateway's CA")
	case len(id.Gateways) == 0:
		return errors.New("the agent knows no gateway's address")
	}
	return nil
}

// JoinOptions are what an agent needs to join.
type JoinOptions struct {
	Token    termination.JoinToken
	Gateways []string // instead of the token's; empty: those
	Endpoint string   // name; empty: whichever the invitation names
	Name     string   // of the agent
	Version  string   // of its program
	Now      func() time.Time
	Dial     DialFunc
}

// DialFunc opens a connection to a gateway.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Join makes a key and gets an agent's certificate for it, by the secret of an invitation. The gateways are tried in
// their order until one answers. A [RefusedError] is the gateway's own word; a [PinError] means that somebody else
// answered.
func Join(ctx context.Context, o JoinOptions) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the agent's key: %w", err)
	}
	csr, err := request(key)
	if err != nil {
		return nil, err
	}
	gateways := o.Gateways
	if len(gateways) == 0 {
		gateways = o.Token.Gateways
	}
	var errs []error
	for _, address := range gateways {
		id, err := joinAt(ctx, o, address, key, csr)
		if err == nil {
			id.Gateways = gateways
			return id, nil
		}
		var no *RefusedError
		if errors.As(err, &no) {
			return nil, err // the others would say the same
		}
		errs = append(errs, fmt.Errorf("join the gateway at %s: %w", address, err))
	}
	return nil, errors.Join(errs...)
}

// request makes a certificate request. It names nothing: what the certificate says is the gateway's to decide.
func request(key crypto.Signer) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return csr, nil
}

func joinAt(ctx context.Context, o JoinOptions, address string, key crypto.Signer, csr []byte) (*Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := dialTLS(ctx, o.Dial, address, joinTLS(address, o.Token.CA, o.Now))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(connectTime)) // fails only on a closed connection
	err = writeFrame(conn, joinRequest{Secret: o.Token.Secret[:], CSR: csr, Endpoint: o.Endpoint, Name: o.Name, Version: o.Version})
	if err != nil {
		return nil, err
	}
	var answer joinAnswer
	if err := readFrame(conn, maxJoin, &answer); err != nil {
		return nil, err
	}
	if answer.Refused != nil {
		return nil, answer.Refused.asError()
	}
	cert, err := x509.ParseCertificate(answer.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read the agent's certificate: %w", err)
	}
	ca, err := pinnedCA(conn.ConnectionState(), address, o.Token.CA, o.Now())
	if err != nil {
		return nil, err
	}
	id := &Identity{
		ID: answer.ID, EndpointID: answer.EndpointID, Endpoint: answer.Endpoint, Key: key, Certificate: cert, CA: ca,
		Gateways: []string{address},
	}
	return id, id.Check()
}

// dialTLS connects to a gateway and finishes the TLS handshake.
func dialTLS(ctx context.Context, dial DialFunc, address string, config *tls.Config) (*tls.Conn, error) {
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the gateway: %w", err)
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("open TLS to the gateway: %w", err)
	}
	return conn, nil
}
