package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"countersign/server"
)

func (p *program) agentInviteCommand() *cobra.Command {
	var data string
	var life time.Duration
	var gateways []string
	var asJSON bool
	c := &cobra.Command{
		Use: "invite ENDPOINT", Short: "Invite an agent to serve an endpoint, and print the command that starts it, once",
		Long: `Invite an agent to serve an endpoint whose TLS ends at an agent, and print the command that starts it. The token in it
lets one agent in, once, until it expires. It is not kept, so it cannot be printed again. The gateway must be running.

The token carries where the gateway is: what --gateway says, else agents.hosts of the configuration file and the address that
agents are listened for on.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%w: name one endpoint, as in: %s api", errUsage, c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := p.dataDirectory(data)
			if err != nil {
				return err
			}
			client, err := server.NewControlClient(dir)
			if err != nil {
				return err
			}
			made, err := client.Invite(c.Context(), args[0], life.String(), gateways, userName())
			if errors.Is(err, server.ErrNoGateway) {
				return fmt.Errorf("no gateway runs on %s; start one with countersign serve, or name its data directory with --data", dir)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return p.printJSON(made)
			}
			fmt.Fprintln(p.out, made.Command)
			fmt.Fprintf(p.err, "One agent can join %s with it, until %s.\n", made.Endpoint, made.Expires.Local().Format("2 Jan 15:04"))
			if made.Note != "" {
				fmt.Fprintln(p.err, made.Note)
			}
			return nil
		},
	}
	dataFlag(c, &data)
	c.Flags().DurationVar(&life, "expires", server.DefaultInvitation, "how long the token is good, from 1m to 720h")
	c.Flags().StringArrayVar(&gateways, "gateway", nil, "`HOST:PORT` under which the agent reaches this gateway; may be given several times")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
