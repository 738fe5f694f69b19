package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"countersign/server"
	"countersign/termination"
	"countersign/termination/agent"
	"countersign/termination/tunnel"
)

// agentElsewhere returns what an agent of a gateway elsewhere needs; nil: the endpoint is to be in a gateway here.
func (p *program) agentElsewhere(o *joinOptions, at termination.TerminateAt, address string) (*agentOptions, error) {
	named := len(o.gateways) > 0 || o.token != "" || o.tokenFile != ""
	switch {
	case named && at != termination.AtAgent:
		return nil, fmt.Errorf("%w: --gateway, --token and --token-file are for --terminate-at agent", errUsage)
	case !named && (at != termination.AtAgent || p.getenv("COUNTERSIGN_TOKEN") == "" || o.url != "" || o.domain != ""):
		return nil, nil //nolint:nilnil // nothing is said of a gateway elsewhere
	case o.url != "" || o.domain != "":
		return nil, fmt.Errorf("%w: a gateway elsewhere has the endpoint already, and its name with it; leave out --url and --domain", errUsage)
	case o.clientCAs != "":
		return nil, fmt.Errorf("%w: who may come in is said at the gateway, which sends its policy to the agent; leave out --mutual-tls-cas", errUsage)
	case o.listen != "" || o.startTLS != "" || o.asJSON:
		return nil, fmt.Errorf("%w: an agent of a gateway elsewhere takes no --starttls, --listen and --json", errUsage)
	}
	upstream, err := upstreamOf(termination.SchemeTLS, at, address)
	if err != nil {
		return nil, err
	}
	return &agentOptions{gateways: o.gateways, token: o.token, tokenFile: o.tokenFile, crt: o.crt, key: o.key, data: o.data, service: serviceOptions{targets: []string{upstream}, cas: o.upstreamCAs, proxy: o.sendProxy}}, nil
}

// ownAgent is the agent of the command's own endpoint, in this process.
type ownAgent struct {
	agent *agent.Agent
	state *agent.State
	dir   string // of its state, which ends with it
	ended chan error
}

// startAgent joins the command's own endpoint as its agent, and returns when it is given clients.
func (p *program) startAgent(ctx context.Context, o joinOptions, ask server.JoinRequest, m *server.Membership) (_ *ownAgent, err error) {
	a := &ownAgent{ended: make(chan error, 1)}
	defer func() {
		if err != nil {
			_ = a.close(ctx)
		}
	}()
	token, err := termination.ParseJoinToken(m.Invitation)
	if err != nil {
		return nil, err
	}
	upstream, err := termination.ParseUpstream(ask.Upstream)
	if err != nil {
		return nil, err
	}
	upstream.Policy.ProxyProtocol = ask.SendProxy
	if len(ask.UpstreamCA) > 0 {
		upload, err := termination.ReadUpload(ask.UpstreamCA)
		if err != nil {
			return nil, err
		}
		upstream.TLS.Roots = upload.Certificates() // the gateway has refused a file without any
	}
	if a.dir, err = os.MkdirTemp("", "countersign-agent-"); err != nil {
		return nil, fmt.Errorf("make the agent's directory: %w", err)
	}
	if a.state, err = agent.OpenState(a.dir); err != nil {
		return nil, err
	}
	log := newLogger(p.err, logWords{level: "warn"})
	options := agent.Options{State: a.state, Upstream: upstream, Name: "command", Version: p.version, Log: log, Now: time.Now}
	if o.crt != "" {
		options.Files = &agent.Files{Certificate: o.crt, Key: o.key, Now: time.Now, Log: log}
		if err := options.Files.Read(); err != nil {
			return nil, err
		}
	}
	options.Identity, err = tunnel.Join(ctx, tunnel.JoinOptions{
		Token: token, Endpoint: m.Name, Name: options.Name, Version: p.version, Now: time.Now, Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		return nil, err
	}
	if err := a.state.Keep(options.Identity); err != nil {
		return nil, err
	}
	a.agent = agent.New(options)
	go func() { a.ended <- a.agent.Run() }()
	return a, m.Ready(ctx)
}

// close lets the clients of the agent end within ctx, and removes its directory.
func (a *ownAgent) close(ctx context.Context) error {
	if a == nil {
		return nil
	}
	var errs []error
	if a.agent != nil {
		errs = append(errs, a.agent.Close(ctx))
	}
	if a.state != nil {
		errs = append(errs, a.state.Close())
	}
	if a.dir != "" {
		errs = append(errs, os.RemoveAll(a.dir))
	}
	return errors.Join(errs...)
}
