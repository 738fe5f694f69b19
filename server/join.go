package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/localca"
)

// JoinRequest is the endpoint that a command such as `countersign http` asks for, for as long as it runs. Files are read
// by the command; only their contents come here.
type JoinRequest struct {
	Scheme      termination.Scheme        `json:"scheme"`
	URL         string                    `json:"url,omitempty"`    // empty: https://localhost, on the first port from 8443 on that is free
	Listen      string                    `json:"listen,omitempty"` // address of an interface; empty: 127.0.0.1
	TerminateAt termination.TerminateAt   `json:"terminate_at"`
	Upstream    string                    `json:"upstream"`
	UpstreamCA  []byte                    `json:"upstream_ca,omitempty"` // certificates that the upstream's is verified against
	SendProxy   termination.ProxyProtocol `json:"send_proxy,omitempty"`
	StartTLS    termination.StartTLS      `json:"starttls,omitempty"`
	ClientCAs   []byte                    `json:"client_cas,omitempty"` // a bundle; clients must have a certificate from one of them
	Certificate []byte                    `json:"certificate,omitempty"`
	Key         []byte                    `json:"key,omitempty"`
	// OwnKey says that the command, as the endpoint's agent, holds its certificate and key.
	OwnKey bool   `json:"own_key,omitempty"`
	By     string `json:"by"` // who asks, for the audit log
}

// Joined is what a command got.
type Joined struct {
	ID         string `json:"id"` // of the endpoint
	Name       string `json:"name"`
	URL        string `json:"url"`
	Endpoint   string `json:"endpoint_page"` // address of its page in the dashboard
	Listen     string `json:"listen"`        // host:port
	Host       string `json:"host"`          // to connect by; localhost where there is no name
	Resolves   bool   `json:"resolves"`      // the host leads here by itself
	CAName     string `json:"ca_name,omitempty"`
	CA         string `json:"ca,omitempty"`         // PEM of the local CA that signed its certificate; empty: another did
	MadeCA     bool   `json:"made_ca,omitempty"`    // the local CA was made for it, and stays
	ACME       bool   `json:"acme,omitempty"`       // its certificate is to come from ACME; until it is there, the local CA answers
	Client     string `json:"client,omitempty"`     // file with a client certificate that it lets in
	Anchors    int    `json:"anchors,omitempty"`    // CAs that clients' chains may end at
	Invitation string `json:"invitation,omitempty"` // token for its agent
}

// JoinError says that the endpoint of a command cannot be reached.
type JoinError struct {
	Address string
	Problem string
}

func (e JoinError) Error() string { return e.Problem }

// commandPorts is how many ports from [defaultPort] on are tried for a command that names none.
const commandPorts = 100

// join adds the endpoint of a command. What it returns is to be given to leave.
func (c *Control) join(ctx context.Context, ask *JoinRequest) (store.Command, *Joined, error) {
	wanted, err := ask.command(c.server.now())
	if err != nil {
		return store.Command{}, nil, err
	}
	if ask.URL != "" {
		return c.enter(ctx, ask, wanted)
	}
	first, err := strconv.ParseUint(defaultPort, 10, 16)
	if err != nil {
		return store.Command{}, nil, fmt.Errorf("read the default port: %w", err)
	}
	// Nobody wrote the port down, so it moves on when it is taken.
	for n := range uint16(commandPorts) {
		wanted.Endpoint.Port = uint16(first) + n
		if !c.server.mayListen(ctx, wanted.Endpoint.Address(), wanted.Endpoint.Host) {
			continue
		}
		made, joined, err := c.enter(ctx, ask, wanted)
		if _, taken := errors.AsType[JoinError](err); !taken {
			return made, joined, err
		}
	}
	if ip := wanted.Endpoint.Address().Addr(); !listenable(ctx, netip.AddrPortFrom(ip, 0)) {
		return store.Command{}, nil, JoinError{Problem: fmt.Sprintf("%s is no address of this machine; name one that is, with --listen", ip)}
	}
	return store.Command{}, nil, JoinError{Problem: fmt.Sprintf("no port from %s on is free for localhost; name one with --url https://localhost:PORT", defaultPort)}
}

// enter puts the endpoint into force and takes it back if it cannot be reached.
func (c *Control) enter(ctx context.Context, ask *JoinRequest, wanted store.Command) (store.Command, *Joined, error) {
	s := c.server
	s.nameCommand(&wanted)
	s.chooseACME(&wanted)
	offer := s.offerFor(ask, &wanted)
	var made store.Command
	_, err := s.Change(ctx, store.Actor{Name: ask.By, Via: viaCommand}, func(tx *store.Tx) (err error) {
		if offer != nil {
			if err := offer.create(tx); err != nil {
				return err
			}
		}
		made, err = tx.CreateCommand(wanted)
		return err
	})
	if err != nil {
		return store.Command{}, nil, err
	}
	invitation := ""
	if wanted.Endpoint.TerminateAt == termination.AtAgent {
		if invitation, err = s.inviteCommand(ctx, &made, ask.By); err != nil {
			c.leave(made, ask.By)
			return store.Command{}, nil, err
		}
	}
	e := s.current().Endpoint(made.Endpoint.Name)
	status := s.endpointStatuses()[made.Endpoint.ID]
	if e == nil || s.gateway != nil && status.State == gateway.StateFailed {
		c.leave(made, ask.By)
		return store.Command{}, nil, JoinError{Address: wanted.Endpoint.Address().String(), Problem: status.Problem}
	}
	joined := s.joined(e, status)
	joined.MadeCA, joined.Invitation = offer != nil, invitation
	joined.ACME = slices.Contains(e.Certificates, termination.CertificateACME)
	if ca := s.agentsIssuer(ask, e); ca != nil {
		joined.CAName, joined.CA = ca.Name, string(localca.EncodePEM(ca.Certificate))
	}
	if made.Authority != nil {
		joined.Anchors = len(made.Authority.Anchors())
	}
	return made, joined, nil
}

// chooseACME has ACME get the certificate of an endpoint that brings none, where it is set up and may get one: a name
// below localhost belongs to nobody whom a CA could ask (RFC 6761, section 6.3).
func (s *Server) chooseACME(c *store.Command) {
	e := &c.Endpoint
	if e.TerminateAt == termination.AtEdge && len(e.Certificates) == 0 && s.current().ACME.Directory != "" && !e.Fallback() && !isLocalhost(e.Host) {
		e.Certificates = []string{termination.CertificateACME}
	}
}

// offerFor is the local CA that has to be made for the endpoint's certificate; nil: none has to.
func (s *Server) offerFor(ask *JoinRequest, wanted *store.Command) *caOffer {
	e := wanted.Endpoint
	switch {
	case e.TerminateAt == termination.AtUpstream, ask.OwnKey, wanted.Certificate != nil:
		return nil
	case e.Fallback() && len(s.current().LocalCAs) == 0:
		return &caOffer{name: freeAuthorityName(s.current(), "Local CA"), constrained: true}
	}
	e.Certificates = nil               // until that of ACME is there, the local CA answers
	e.TerminateAt = termination.AtEdge // an agent that holds no certificate has its key signed like this
	return s.localCAFor(&e)
}

// inviteCommand makes the token by which the command joins its own endpoint as its agent.
func (s *Server) inviteCommand(ctx context.Context, made *store.Command, by string) (string, error) {
	invitation, err := s.Invite(ctx, store.Actor{Name: by, Via: viaCommand}, api.InviteRequest{Endpoint: made.Endpoint.ID, Life: commandInvitation})
	return invitation.Token, err
}

// commandInvitation is how long a command may take to join its own endpoint.
const commandInvitation = 10 * time.Minute

// agentsIssuer is the local CA that signs for an agent that brings no certificate; nil: none does.
func (s *Server) agentsIssuer(ask *JoinRequest, e *termination.Endpoint) *termination.LocalCA {
	if e.TerminateAt != termination.AtAgent || ask.OwnKey {
		return nil
	}
	config := s.current()
	for i := range config.LocalCAs {
		if localca.MayIssue(&config.LocalCAs[i], e.ServerNames()) == nil {
			return &config.LocalCAs[i]
		}
	}
	return nil
}

// mayListen reports whether an endpoint of that name can have an address: its port is ours already and the name is free
// there, or nobody listens on it.
func (s *Server) mayListen(ctx context.Context, address netip.AddrPort, host string) bool {
	ours := false
	for i := range s.current().Endpoints {
		e := &s.current().Endpoints[i]
		if e.Port != address.Port() {
			continue
		}
		if slices.Contains(e.ServerNames(), host) {
			return false
		}
		ours = ours || e.Enabled
	}
	return ours || listenable(ctx, address)
}

// listenable reports whether an address can be listened on at this moment.
func listenable(ctx context.Context, address netip.AddrPort) bool {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address.String())
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// nameCommand gives what a command has names that are free.
func (s *Server) nameCommand(c *store.Command) {
	config, host := s.current(), c.Endpoint.Host
	if host == "" {
		host = "any"
	}
	const room = 40 // leaves some for what is added
	base := strings.TrimRight(host[:min(len(host), room)], "-.") + "-" + strconv.Itoa(int(c.Endpoint.Port))
	taken := func(name string) bool {
		return config.Endpoint(name) != nil || config.Authority(name+" clients") != nil || config.Certificate(name) != nil
	}
	name := base
	for n := 2; taken(name); n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	c.Endpoint.Name = name
	if c.Authority != nil {
		c.Authority.Name = name + " clients"
		c.Endpoint.ClientAuth.Authorities = []string{c.Authority.Name}
	}
	if c.Certificate != nil {
		c.Certificate.Name = name
		c.Endpoint.Certificates = []string{name}
	}
}

// joined says how the endpoint is reached.
func (s *Server) joined(e *termination.Endpoint, status gateway.EndpointStatus) *Joined {
	out := &Joined{ID: e.ID, Name: e.Name, URL: e.URL(), Endpoint: s.URL() + endpointPath(e), Listen: e.Address().String(), Host: e.Host}
	if out.Host == "" {
		out.Host = "localhost"
	}
	out.Resolves = isLocalhost(out.Host) && e.Listen.IsLoopback()
	for _, leaf := range status.Leaves {
		if ca := s.localIssuer(leaf); ca != nil {
			out.CAName, out.CA = ca.Name, string(localca.EncodePEM(ca.Certificate))
		}
	}
	if f := s.filesFor(e, status); f.client != "" && !f.needsClient {
		out.Client = filepath.Join(f.dir, f.client)
	}
	return out
}

// command reads the request into the words of the domain. What is wrong with them together, Validate says later.
func (j *JoinRequest) command(now time.Time) (store.Command, error) {
	e := termination.Endpoint{
		Enabled: true, Scheme: j.Scheme, Host: "localhost", Listen: netip.AddrFrom4([4]byte{127, 0, 0, 1}), TerminateAt: j.TerminateAt,
		ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, Announce: true, OnLoss: termination.OnLossClose},
	}
	var err error
	if j.URL != "" {
		if e.Scheme, e.Host, e.Port, err = termination.ParseEndpointURL(j.URL); err != nil {
			return store.Command{}, invalidJoin("url", err)
		}
	}
	if j.Listen != "" {
		if e.Listen, err = netip.ParseAddr(j.Listen); err != nil {
			return store.Command{}, invalidJoin("listen", err)
		}
	}
	if e.Upstream, err = termination.ParseUpstream(j.Upstream); err != nil {
		return store.Command{}, invalidJoin("upstream", err)
	}
	e.Upstream.Policy.ProxyProtocol, e.StartTLS = j.SendProxy, j.StartTLS
	if len(j.UpstreamCA) > 0 {
		if e.Upstream.TLS.Roots, err = certificatesIn(j.UpstreamCA); err != nil {
			return store.Command{}, invalidJoin("upstream-tls-verify-cas", err)
		}
	}
	out := store.Command{Endpoint: e}
	if len(j.ClientCAs) > 0 {
		if out.Authority, err = authorityIn(j.ClientCAs, now); err != nil {
			return out, invalidJoin("mutual-tls-cas", err)
		}
		out.Endpoint.ClientAuth.Mode = termination.ModeRequire
	}
	if len(j.Certificate) > 0 {
		read, err := termination.ReadServerCertificate(j.Certificate, j.Key, now)
		if err != nil {
			return out, err
		}
		cert := read.Certificate("", "", termination.OriginCommand)
		out.Certificate = &cert
	}
	return out, nil
}

func invalidJoin(field string, err error) error {
	return termination.ValidationError{{Kind: "--" + field, Problem: err.Error()}}
}

// authorityIn reads a bundle of CA certificates. Chains may end at its roots, or, where there are none in it, at any of
// its certificates: whoever gives only intermediates means those.
func authorityIn(bundle []byte, now time.Time) (*termination.Authority, error) {
	upload, err := termination.ReadUpload(bundle)
	if err != nil {
		return nil, err
	}
	options := termination.PlanOptions{Anchors: termination.AnchorsRoots, Declared: true, Now: now}
	if !upload.Has(termination.UploadRoot) {
		options.Anchors = termination.AnchorsAll
	}
	plan := termination.PlanAuthority(upload, options)
	for _, i := range plan.Items {
		if i.Use == termination.UseRefuse || i.Use == termination.UseAsk {
			return nil, fmt.Errorf("%s: %s", i.Title, i.Message)
		}
	}
	if err := plan.Err(); err != nil {
		return nil, err
	}
	return &termination.Authority{Certificates: plan.Certificates()}, nil
}

// certificatesIn reads certificates that something is verified against; none would mean the system's, which nobody asked
// for.
func certificatesIn(bundle []byte) ([]*x509.Certificate, error) {
	upload, err := termination.ReadUpload(bundle)
	if err != nil {
		return nil, err
	}
	if certs := upload.Certificates(); len(certs) > 0 {
		return certs, nil
	}
	return nil, errors.New("there is no certificate in it; give the CA that signed the upstream's certificate")
}
