package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"countersign/server"
)

func (p *program) loginCommand() *cobra.Command {
	var data string
	var asJSON bool
	c := &cobra.Command{
		Use: "login", Short: "Print a fresh one-time sign-in link for the dashboard", Args: noArguments,
		Long: `Print a fresh one-time sign-in link for the dashboard of the gateway that runs on the data directory.
The link is good for ten minutes, and once.`,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := p.dataDirectory(data)
			if err != nil {
				return err
			}
			link, err := signInLink(c.Context(), dir)
			if err != nil {
				return err
			}
			if asJSON {
				return p.printJSON(map[string]string{"link": link})
			}
			fmt.Fprintln(p.out, link)
			return nil
		},
	}
	dataFlag(c, &data)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func signInLink(ctx context.Context, dir string) (string, error) {
	client, err := server.NewControlClient(dir)
	if err != nil {
		return "", err
	}
	link, err := client.SignInLink(ctx)
	if errors.Is(err, server.ErrNoGateway) {
		return "", fmt.Errorf("no gateway runs on %s; start one with countersign serve, or name its data directory with --data", dir)
	}
	return link, err
}
