package proof

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"

	"countersign/termination"
)

// passthrough proves what can be proven where the service behind ends TLS: that its own certificate is what clients
// get, and that no key for it is here.
func (r *run) passthrough(ctx context.Context) {
	line := Line{Try: TrySame, Tried: "Through the gateway, and straight to the service", Expected: "one certificate"}
	through := r.meet(ctx, &attempt{endpoint: r.Endpoint}, &line)
	switch {
	case through.leaf == nil:
		line.Result, line.Detail = Failed, "no certificate was seen: "+through.detail
	default:
		r.sameAsDirect(ctx, through.leaf, &line)
	}
	r.add(line)
	if through.leaf != nil {
		r.noKey()
	}
	r.notShown(TryPolicy, "Who may come in", "decided by the service behind; nothing is checked that is not opened here")
}

// sameAsDirect compares with what the services behind present by themselves.
func (r *run) sameAsDirect(ctx context.Context, leaf *x509.Certificate, line *Line) {
	u := r.Endpoint.Upstream
	var failures []string
	reached := 0
	for _, target := range u.Targets() {
		direct, err := r.direct(ctx, u, target)
		if err != nil {
			failures = append(failures, err.Error())
			continue
		}
		reached++
		if bytes.Equal(direct.Raw, leaf.Raw) {
			line.Result, line.Happened = Holds, "one certificate"
			line.Detail = termination.FingerprintOf(leaf).Short() + ", also from " + target
			return
		}
	}
	if reached == 0 {
		line.Result, line.Detail = Failed, fmt.Sprintf("the service could not be reached directly: %s", failures[0])
		return
	}
	line.Result, line.Happened = Contradicts, "two certificates"
	line.Detail = "clients get " + termination.FingerprintOf(leaf).Short() + ", which the service does not present by itself"
}

// direct returns the certificate that a service presents.
func (r *run) direct(ctx context.Context, u termination.Upstream, target string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, lineTime)
	defer cancel()
	network := "tcp"
	if u.Scheme == termination.UpstreamUnix {
		network = "unix"
	}
	conn, err := r.Direct(ctx, network, target)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo()) })
	defer stop()
	switch u.Policy.ProxyProtocol {
	case termination.ProxyProtocolV1:
		_, err = conn.Write([]byte("PROXY UNKNOWN\r\n"))
	case termination.ProxyProtocolV2:
		_, err = conn.Write([]byte(proxyLocal))
	case termination.ProxyProtocolNone:
	}
	if err != nil {
		return nil, fmt.Errorf("send a PROXY header to %s: %w", target, err)
	}
	plain := *r.Endpoint
	plain.ProxyProtocol, plain.StartTLS = nil, termination.StartTLSNone
	s := (&attempt{endpoint: &plain}).meet(ctx, conn, r.Patience)
	if s.leaf == nil {
		return nil, fmt.Errorf("no certificate from %s: %s", target, s.detail)
	}
	return s.leaf, nil
}

// noKey looks among the keys that are held here for that of the certificate that clients get.
func (r *run) noKey() {
	line := Line{Try: TryNoKey, Tried: "A key for the certificate, among those held here", Expected: "none", Happened: "none", Result: Holds}
	if r.leaf == nil {
		r.notShown(TryNoKey, line.Tried, "cannot be shown: no certificate was seen")
		return
	}
	line.Detail = "the key of " + termination.FingerprintOf(r.leaf).Short() + " is not here"
	held := func(c *x509.Certificate, name string) {
		if bytes.Equal(c.RawSubjectPublicKeyInfo, r.leaf.RawSubjectPublicKeyInfo) {
			line.Result, line.Happened, line.Detail = Contradicts, "held", "the key is held here, under "+name
		}
	}
	for i := range r.Config.Certificates {
		held(r.Config.Certificates[i].Leaf(), "the certificate "+r.Config.Certificates[i].Name)
	}
	for i := range r.Config.LocalCAs {
		held(r.Config.LocalCAs[i].Certificate, "the local CA "+r.Config.LocalCAs[i].Name)
	}
	for _, leaf := range r.Held {
		held(leaf, "what another endpoint presents")
	}
	r.add(line)
}
