package main

import "github.com/spf13/cobra"

func (p *program) agentCommand() *cobra.Command {
	var o agentOptions
	c := &cobra.Command{
		Use: "agent --token-file F --upstream URL [--crt F --key F]", Short: "Run an agent that ends TLS beside a service", Args: noArguments,
		Long: agentHelp,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().NFlag() == 0 {
				return c.Help()
			}
			return p.runAgent(c.Context(), o)
		},
	}
	o.flags(c)
	c.AddCommand(p.agentInviteCommand())
	return c
}
