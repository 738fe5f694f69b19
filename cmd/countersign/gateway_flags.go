package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"countersign/server"
	"countersign/server/client"
)

// gatewayFlags say which gateway a command asks: the one that runs on a data directory, through its control socket, or any
// other through its dashboard, with a token.
type gatewayFlags struct {
	flag      string // name of the flag for the URL
	data      string
	url       string
	token     string
	tokenFile string
}

func (g *gatewayFlags) flags(c *cobra.Command, flag string) {
	g.flag = flag
	dataFlag(c, &g.data)
	c.Flags().StringVar(&g.url, flag, "", "`URL` of the dashboard of a gateway elsewhere, in place of --data")
	c.Flags().StringVar(&g.token, "token", "", "API `token` of the scope read, for --"+flag+" (else $COUNTERSIGN_TOKEN)")
	c.Flags().StringVar(&g.tokenFile, "token-file", "", "`file` that holds it, which keeps it out of the list of processes")
	_ = c.MarkFlagFilename("token-file") // it exists: see above
}

// chosen reports whether the command line or the environment names a gateway.
func (p *program) chosen(g *gatewayFlags) bool {
	return g.data != "" || g.url != "" || p.getenv("COUNTERSIGN_DATA") != ""
}

// client returns a client for the gateway that was chosen, and what to call the gateway.
func (p *program) client(g *gatewayFlags) (*client.Client, error) {
	if g.url == "" {
		if g.token != "" || g.tokenFile != "" {
			return nil, fmt.Errorf("%w: --token is for a gateway elsewhere; name it with --%s URL", errUsage, g.flag)
		}
		dir, err := p.dataDirectory(g.data)
		if err != nil {
			return nil, err
		}
		return client.New(client.Options{URL: "http://countersign", Dial: func(ctx context.Context) (net.Conn, error) { return server.DialControl(ctx, dir) }})
	}
	if g.data != "" {
		return nil, fmt.Errorf("%w: --data and --%s name two gateways; give one of them", errUsage, g.flag)
	}
	token, err := p.gatewayToken(g)
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Options{URL: g.url, Token: token})
	if err != nil {
		return nil, fmt.Errorf("%w: --%s: %w", errUsage, g.flag, err)
	}
	return c, nil
}

func (p *program) gatewayToken(g *gatewayFlags) (string, error) {
	token := g.token
	if token != "" && g.tokenFile != "" {
		return "", fmt.Errorf("%w: --token and --token-file are two tokens; give one of them", errUsage)
	}
	if g.tokenFile != "" {
		text, err := readBounded(g.tokenFile, maxSecret)
		if err != nil {
			return "", fmt.Errorf("read --token-file: %w", err)
		}
		token = string(text)
	}
	if token == "" {
		token = p.getenv("COUNTERSIGN_TOKEN")
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", fmt.Errorf("%w: --%s needs a token; on the gateway's machine, run: countersign token create NAME --scope read; give it with --token-file, or in $COUNTERSIGN_TOKEN", errUsage, g.flag)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%w: that is no token: it holds characters that no token has; give the whole line that countersign token create printed, and nothing else", errUsage)
	}
	return token, nil
}

// away says what to do when no gateway answers.
func (p *program) away(g *gatewayFlags, err error) error {
	if !errors.Is(err, client.ErrAway) {
		return err
	}
	if g.url != "" {
		return fmt.Errorf("no gateway answers at %s; is it running, and is its dashboard there? A dashboard listens on its own machine alone: from elsewhere it is reached through a tunnel (%w)", g.url, err)
	}
	dir, dirErr := p.dataDirectory(g.data)
	if dirErr != nil {
		return dirErr
	}
	return fmt.Errorf("no gateway runs on %s; start one with countersign serve, name its data directory with --data, or a gateway elsewhere with --%s URL", dir, g.flag)
}
