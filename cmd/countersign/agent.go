package main

import "github.com/spf13/cobra"

func (p *program) agentCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "agent", Short: "Agents that end TLS beside a service", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(p.agentInviteCommand())
	return c
}
