package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"countersign/termination"
)

// serviceOptions are the flags of agent that say what stands behind it. An endpoint at an agent has no say in this: the
// agent alone knows what is beside it.
type serviceOptions struct {
	targets                    []string
	cas, name, crt, key, proxy string
}

func (o *serviceOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&o.targets, "upstream", nil, "the `service`, as in http://127.0.0.1:8080, tcp://127.0.0.1:5432 or unix:/run/app.sock; several of one kind are taken in turn")
	f.StringVar(&o.cas, "upstream-tls-verify-cas", "", "`file` of CA certificates that the service's own is verified against (default: the system's)")
	f.StringVar(&o.name, "upstream-tls-server-name", "", "`name` that the service's certificate has to prove (default: its host)")
	f.StringVar(&o.crt, "upstream-crt", "", "`file` with the certificate that the agent shows to the service")
	f.StringVar(&o.key, "upstream-key", "", "`file` with its private key")
	f.StringVar(&o.proxy, "upstream-proxy-protocol", "", "`version` of the PROXY protocol that is spoken to the service: 1 or 2")
	for _, name := range []string{"upstream-tls-verify-cas", "upstream-crt", "upstream-key"} {
		_ = c.MarkFlagFilename(name) // it exists: see above
	}
}

// upstream reads the flags, and the files that they name.
func (o *serviceOptions) upstream() (termination.Upstream, error) {
	if len(o.targets) == 0 {
		return termination.Upstream{}, fmt.Errorf("%w: name the service with --upstream, as in --upstream http://127.0.0.1:8080", errUsage)
	}
	u, err := termination.ParseUpstreams(o.targets)
	if err != nil {
		return u, fmt.Errorf("%w: --upstream: %w", errUsage, err)
	}
	secure := u.Scheme == termination.UpstreamHTTPS || u.Scheme == termination.UpstreamTLS
	switch {
	case u.Scheme == termination.UpstreamBuiltin:
		return u, fmt.Errorf("%w: --upstream: the built-in %s runs in the gateway, not in an agent; name a service", errUsage, u)
	case !secure && (o.cas != "" || o.name != "" || o.crt != ""):
		return u, fmt.Errorf("%w: no TLS is spoken to %s; the flags about it need https:// or tls:// in --upstream", errUsage, u)
	case o.key != "" && o.crt == "":
		return u, fmt.Errorf("%w: --upstream-key needs --upstream-crt, the certificate that the key belongs to", errUsage)
	}
	switch o.proxy {
	case "":
	case "1", "2":
		u.Policy.ProxyProtocol = termination.ProxyProtocol("v" + o.proxy)
	default:
		return u, fmt.Errorf("%w: --upstream-proxy-protocol must be 1 or 2, not %q", errUsage, o.proxy)
	}
	u.TLS.ServerName = o.name
	if u.TLS.Roots, err = o.roots(); err != nil {
		return u, err
	}
	u.TLS.Client, err = o.client()
	return u, err
}

// roots reads what the service's certificate is verified against. None means the system's, so a file without any is an
// error.
func (o *serviceOptions) roots() (roots []*x509.Certificate, err error) {
	if o.cas == "" {
		return nil, nil
	}
	data, err := readSmall(o.cas)
	if err != nil {
		return nil, fmt.Errorf("--upstream-tls-verify-cas: %w", err)
	}
	upload, err := termination.ReadUpload(data)
	if err == nil && len(upload.Certificates()) == 0 {
		err = errors.New("there is no certificate in it")
	}
	if err != nil {
		return nil, fmt.Errorf("--upstream-tls-verify-cas: %s: %w; give the certificate of the CA that signed the service's", o.cas, err)
	}
	return upload.Certificates(), nil
}

// client reads what the agent shows to the service.
func (o *serviceOptions) client() (*termination.KeyPair, error) {
	if o.crt == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	crt, err := readSmall(o.crt)
	if err != nil {
		return nil, fmt.Errorf("--upstream-crt: %w", err)
	}
	var key []byte
	if o.key != "" {
		if key, err = readSmall(o.key); err != nil {
			return nil, fmt.Errorf("--upstream-key: %w", err)
		}
	}
	defer clear(crt) // a key may be in either
	defer clear(key)
	read, err := termination.ReadServerCertificate(crt, key, time.Now())
	if err != nil {
		return nil, fmt.Errorf("--upstream-crt: %w", err)
	}
	c := read.Certificate("", "upstream", termination.OriginFile)
	return &termination.KeyPair{Chain: c.Chain, Key: c.Key}, nil
}
