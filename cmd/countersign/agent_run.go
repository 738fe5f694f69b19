package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"countersign/termination"
	"countersign/termination/agent"
	"countersign/termination/localca"
	"countersign/termination/tunnel"
)

// agentOptions are the flags of agent.
type agentOptions struct {
	gateways           []string
	token, tokenFile   string
	endpoint, crt, key string
	data, name         string
	service            serviceOptions
}

func (o *agentOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&o.gateways, "gateway", nil, "`HOST:PORT` of the gateway's listener for agents, instead of the token's; several are tried in order")
	f.StringVar(&o.token, "token", "", "the invitation's `token`; other users can see it while the command runs, so better:")
	f.StringVar(&o.tokenFile, "token-file", "", "`file` with the token (else $COUNTERSIGN_TOKEN)")
	f.StringVar(&o.endpoint, "endpoint", "", "`name` of the endpoint to serve (default: the invitation's)")
	o.service.flags(c)
	f.StringVar(&o.crt, "crt", "", "`file` with the endpoint's certificate; without one the gateway's local CA signs a key that is made here")
	f.StringVar(&o.key, "key", "", "`file` with its private key; it never leaves this machine")
	f.StringVar(&o.data, "data", "", "`directory` in which the agent keeps who it is (default ~/.countersign-agent/ENDPOINT)")
	f.StringVar(&o.name, "name", "", "what the gateway calls this agent (default: this machine's name)")
	_ = c.MarkFlagFilename("token-file") // they exist: see above
	_ = c.MarkFlagFilename("crt")
	_ = c.MarkFlagFilename("key")
	_ = c.MarkFlagDirname("data")
}

const agentHelp = `Run an agent beside a service: it connects to a gateway, ends TLS here for one endpoint with a key that stays here, and lets in
whom the gateway's policy lets in. It connects out, and needs no open port.

The first time, it joins with the token of an invitation (countersign agent invite, or the gateway's page of agents). After that its
directory says who it is, and the token is not needed any more. A gateway that cannot be reached is tried until it can.

SIGINT and SIGTERM take no more clients, let those that are here end within ten seconds, and then end.`

// runAgent runs an agent until a signal ends it, or the gateway does not want it any more.
func (p *program) runAgent(ctx context.Context, o agentOptions) error {
	upstream, err := o.check()
	if err != nil {
		return err
	}
	token, err := p.joinToken(o)
	if err != nil {
		return err
	}
	log := newLogger(p.err, logWords{})
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(stop)
	dir, err := agentDirectory(o, token)
	if err != nil {
		return err
	}
	state, err := agent.OpenState(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", errAgentDirectory, err)
	}
	defer func() { _ = state.Close() }()
	options := agent.Options{State: state, Upstream: upstream, Name: o.name, Version: p.version, Log: log, Now: time.Now}
	if o.crt != "" {
		options.Files = &agent.Files{Certificate: o.crt, Key: o.key, Now: time.Now, Log: log}
		if err := options.Files.Read(); err != nil {
			return err
		}
	}
	if options.Identity, err = p.identify(ctx, o, token, state); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "  agent     %s of %s\n  gateway   %s\n  service   %s\n  stop      Ctrl-C\n",
		options.Identity.ID, options.Identity.Endpoint, strings.Join(options.Identity.Gateways, ", "), strings.Join(upstream.Texts(), ", "))
	return p.serveAgent(agent.New(options), stop)
}

// serveAgent runs the agent, and ends it within the grace time.
func (p *program) serveAgent(a *agent.Agent, stop <-chan os.Signal) error {
	ended := make(chan error, 1)
	go func() { ended <- a.Run() }()
	ctx, cancel := context.WithTimeout(context.Background(), defaultGrace)
	defer cancel()
	select {
	case err := <-ended:
		_ = a.Close(ctx) // nothing is connected any more
		return err
	case <-stop:
	}
	fmt.Fprintln(p.err, "stopping; Ctrl-C again ends at once")
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return a.Close(ctx)
}

// check refuses flags that do not fit together, and returns the upstream.
func (o *agentOptions) check() (termination.Upstream, error) {
	upstream, err := o.service.upstream()
	if err != nil {
		return upstream, err
	}
	if o.key != "" && o.crt == "" {
		return upstream, fmt.Errorf("%w: --key needs --crt, the certificate that the key belongs to", errUsage)
	}
	for _, g := range o.gateways {
		if host, port, err := net.SplitHostPort(g); err != nil || host == "" || port == "" {
			return upstream, fmt.Errorf("%w: --gateway must be host:port, as in gw.example.com:7444, not %q", errUsage, g)
		}
	}
	if o.name == "" {
		o.name, _ = os.Hostname() // a machine without a name has an agent without one
	}
	return upstream, nil
}

// joinToken returns the invitation, or nil where none is given.
func (p *program) joinToken(o agentOptions) (*termination.JoinToken, error) {
	text := o.token
	switch {
	case o.token != "" && o.tokenFile != "":
		return nil, fmt.Errorf("%w: give the token once, with --token or with --token-file", errUsage)
	case o.tokenFile != "":
		b, err := readBounded(o.tokenFile, maxSecret)
		if err != nil {
			return nil, fmt.Errorf("read --token-file: %w", err)
		}
		text = string(b)
	case text == "":
		text = p.getenv("COUNTERSIGN_TOKEN")
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil //nolint:nilnil // an agent that has joined needs none
	}
	token, err := termination.ParseJoinToken(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return &token, nil
}

// agentDirectory is where the agent keeps who it is: one for each endpoint, unless another is named.
func agentDirectory(o agentOptions, token *termination.JoinToken) (string, error) {
	if o.data != "" {
		return filepath.Abs(o.data)
	}
	endpoint := o.endpoint
	if endpoint == "" && token != nil {
		endpoint = token.Endpoint
	}
	if endpoint == "" {
		return "", fmt.Errorf("%w: give the token of an invitation, or the endpoint's name with --endpoint, or the agent's directory with --data", errUsage)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the agent's directory: %w; name one with --data", err)
	}
	return filepath.Join(home, ".countersign-agent", localca.FileName(endpoint)), nil
}

// identify returns who the agent is: what its directory says, else what joining makes it.
func (p *program) identify(ctx context.Context, o agentOptions, token *termination.JoinToken, state *agent.State) (*tunnel.Identity, error) {
	id, err := state.Identity()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAgentDirectory, err)
	}
	if id == nil {
		return p.join(ctx, o, token, state)
	}
	if token != nil && token.CA != termination.FingerprintOf(id.CA) {
		return nil, fmt.Errorf("%w: %s is the directory of an agent of another gateway than the token's; give this one its own with --data", errAgentDirectory, state.Dir())
	}
	wanted := o.endpoint
	if wanted == "" && token != nil {
		wanted = token.Endpoint
	}
	if wanted != "" && id.Endpoint != "" && wanted != id.Endpoint { // else the clients of one name would get the service of another
		return nil, fmt.Errorf("%w: %s is the directory of an agent of the endpoint %q, not of %q; give this one its own with --data", errAgentDirectory, state.Dir(), id.Endpoint, wanted)
	}
	if len(o.gateways) > 0 {
		moved := *id
		moved.Gateways = o.gateways
		return &moved, state.Keep(&moved)
	}
	return id, nil
}

func (p *program) join(ctx context.Context, o agentOptions, token *termination.JoinToken, state *agent.State) (*tunnel.Identity, error) {
	if token == nil {
		return nil, fmt.Errorf("%w: this agent has not joined a gateway yet, and needs the token of an invitation: make one on the gateway with `countersign agent invite ENDPOINT`, and give it with --token-file, $COUNTERSIGN_TOKEN or --token", errUsage)
	}
	id, err := tunnel.Join(ctx, tunnel.JoinOptions{
		Token: *token, Gateways: o.gateways, Endpoint: o.endpoint, Name: o.name, Version: p.version, Now: time.Now,
		Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		var no *tunnel.RefusedError
		if errors.As(err, &no) {
			return nil, fmt.Errorf("the gateway does not let this agent in: %w", no)
		}
		return nil, fmt.Errorf("%w\nstart the agent again when the gateway can be reached; the invitation is still good", err)
	}
	if err := state.Keep(id); err != nil {
		return nil, fmt.Errorf("%w: the agent has joined and cannot keep who it is, so that the invitation is used up: %w", errAgentDirectory, err)
	}
	return id, nil
}
