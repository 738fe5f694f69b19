package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"countersign/server"
	"countersign/termination"
	"countersign/termination/agent"
)

// joinOptions are the flags of http and tls.
type joinOptions struct {
	data, url, domain, listen       string
	crt, key, clientCAs             string
	upstreamCAs, sendProxy, traffic string
	terminateAt, startTLS           string
	gateways                        []string // of agents
	token, tokenFile                string   // likewise
	asJSON                          bool
}

func (o *joinOptions) flags(c *cobra.Command) {
	f := c.Flags()
	dataFlag(c, &o.data)
	f.StringVar(&o.url, "url", "", "public `URL` of the endpoint; its port does not move when it is taken")
	f.StringVar(&o.domain, "domain", "", "public `name` of the endpoint, on port 8443")
	f.StringVar(&o.listen, "listen", "", "`address` of the interface to listen on (default 127.0.0.1)")
	f.StringVar(&o.clientCAs, "mutual-tls-cas", "", "`file` of CA certificates; clients must have a certificate from one of them")
	f.StringVar(&o.crt, "crt", "", "`file` with the server certificate and its chain")
	f.StringVar(&o.key, "key", "", "`file` with its private key")
	f.StringVar(&o.upstreamCAs, "upstream-tls-verify-cas", "", "`file` of CA certificates that the service's own is verified against")
	f.StringVar(&o.sendProxy, "upstream-proxy-protocol", "", "`version` of the PROXY protocol that is spoken to the service: 1 or 2")
	f.StringVar(&o.traffic, "traffic-policy-file", "", "not in this version")
	f.BoolVar(&o.asJSON, "json", false, "print JSON, a line each")
	for _, name := range []string{"mutual-tls-cas", "crt", "key", "upstream-tls-verify-cas"} {
		_ = c.MarkFlagFilename(name) // it exists: see above
	}
	_ = f.MarkHidden("traffic-policy-file") // likewise
}

// request reads the flags and files into what a gateway is asked for.
func (o *joinOptions) request(scheme termination.Scheme, address string, at termination.TerminateAt) (server.JoinRequest, error) {
	ask := server.JoinRequest{Scheme: scheme, TerminateAt: at, Listen: o.listen, StartTLS: termination.StartTLS(o.startTLS), By: userName()}
	if o.traffic != "" {
		return ask, fmt.Errorf("%w: traffic policies are not in this version; say with --mutual-tls-cas who may come in, or write a configuration file for countersign serve --config", errUsage)
	}
	if o.key != "" && o.crt == "" {
		return ask, fmt.Errorf("%w: --key is given without --crt; give the certificate that belongs to it too", errUsage)
	}
	if err := errors.Join(o.checkPlace(at), o.checkStartTLS()); err != nil {
		return ask, err
	}
	var err error
	if ask.URL, err = o.publicURL(scheme); err != nil {
		return ask, err
	}
	if ask.Upstream, err = upstreamOf(scheme, at, address); err != nil {
		return ask, err
	}
	switch o.sendProxy {
	case "":
	case "1":
		ask.SendProxy = termination.ProxyProtocolV1
	case "2":
		ask.SendProxy = termination.ProxyProtocolV2
	default:
		return ask, fmt.Errorf("%w: --upstream-proxy-protocol must be 1 or 2, not %q", errUsage, o.sendProxy)
	}
	if ask.OwnKey = at == termination.AtAgent && o.crt != ""; ask.OwnKey {
		files := agent.Files{Certificate: o.crt, Key: o.key, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		if err := files.Read(); err != nil {
			return ask, err
		}
	}
	for _, f := range []struct {
		path string
		into *[]byte
	}{{o.clientCAs, &ask.ClientCAs}, {o.crt, &ask.Certificate}, {o.key, &ask.Key}, {o.upstreamCAs, &ask.UpstreamCA}} {
		if f.path == "" || ask.OwnKey && (f.into == &ask.Certificate || f.into == &ask.Key) {
			continue // what the agent holds, the gateway never sees
		}
		if *f.into, err = readSmall(f.path); err != nil {
			return ask, err
		}
	}
	return ask, nil
}

// publicURL is the endpoint's, from --url or --domain; empty: the gateway chooses.
func (o *joinOptions) publicURL(scheme termination.Scheme) (string, error) {
	switch {
	case o.url != "" && o.domain != "":
		return "", fmt.Errorf("%w: --url and --domain both name the endpoint; keep one of them", errUsage)
	case o.domain != "":
		if strings.ContainsAny(o.domain, ":/") {
			return "", fmt.Errorf("%w: --domain is a name alone, as in app.example.com; a port belongs into --url %s://NAME:PORT", errUsage, scheme)
		}
		return fmt.Sprintf("%s://%s:%d", scheme, o.domain, defaultDemoPort), nil
	case o.url == "":
		return "", nil
	}
	s := o.url
	given, _, found := strings.Cut(s, "://")
	switch {
	case !found:
		s = string(scheme) + "://" + s
	case given == "http":
		return "", fmt.Errorf("%w: --url %s would be without TLS, and this gateway speaks nothing else; use %s://", errUsage, o.url, scheme)
	case given != string(scheme):
		return "", fmt.Errorf("%w: the URL of this endpoint begins with %s://, and %s does not", errUsage, scheme, o.url)
	}
	if u, err := url.Parse(s); err == nil && u.Port() == "" && u.Host != "" {
		u.Host += ":443"
		s = u.String()
	}
	if _, _, _, err := termination.ParseEndpointURL(s); err != nil {
		return "", fmt.Errorf("%w: %w", errUsage, err)
	}
	return s, nil
}

// upstreamOf reads the address of a service as ngrok takes it: a port, host:port, a URL, or the path of a socket.
func upstreamOf(scheme termination.Scheme, at termination.TerminateAt, address string) (string, error) {
	s := strings.TrimSpace(address)
	plain := "http"
	if scheme == termination.SchemeTLS {
		plain = "tcp"
	}
	switch {
	case isPort(strings.TrimPrefix(s, ":")):
		s = plain + "://localhost:" + strings.TrimPrefix(s, ":")
	case s == termination.BuiltinWhoami, strings.HasPrefix(s, "unix:"):
	case !strings.Contains(s, "://"):
		host, port, err := net.SplitHostPort(s)
		if err != nil || host == "" || !isPort(port) {
			return "", fmt.Errorf("%w: %q is no address of a service; write 8080, host:8080, %s://host:8080 or unix:/path/of/a.sock", errUsage, address, plain)
		}
		s = plain + "://" + s
	case scheme == termination.SchemeTLS:
		s = withoutHTTP(s, at)
	}
	if _, err := termination.ParseUpstream(s); err != nil {
		return "", fmt.Errorf("%w: %w", errUsage, err)
	}
	return s, nil
}

// withoutHTTP is the address of a service for which bytes are just bytes.
func withoutHTTP(s string, at termination.TerminateAt) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	secure, ports := "tls", map[string]string{"http": "80", "https": "443"}
	if at == termination.AtUpstream {
		secure = "tcp" // the client's own TLS goes through
	}
	if port, http := ports[u.Scheme]; http && u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "tcp"
	case "https", "tls":
		u.Scheme = secure
	}
	return u.String()
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}
