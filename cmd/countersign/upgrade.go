package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"countersign/server"
)

func (p *program) upgradeCommand() *cobra.Command {
	var data string
	var asJSON bool
	var patience time.Duration
	c := &cobra.Command{
		Use: "upgrade", Short: "Replace the running gateway by the program that lies in its place now", Args: noArguments,
		Long: `Replace the gateway that runs on the data directory by the program that lies in its place now, without refusing or
resetting a connection, and wait until that is done. Put the new program in the place of the old one first; the gateway
starts it with the arguments that it was started with itself.

The new process takes the listening sockets and the store over. What is connected may stay with the old one for its grace
time. When the new one cannot run, the old one goes on, and this command says why. SIGUSR2 does the same, and says it in
the log.`,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := p.dataDirectory(data)
			if err != nil {
				return err
			}
			done, err := upgradeAt(c.Context(), dir, patience)
			if err != nil {
				return err
			}
			if asJSON {
				return p.printJSON(done)
			}
			fmt.Fprintf(p.out, "countersign %s runs as process %d; it was %s\n", done.To, done.Process, done.From)
			return nil
		},
	}
	dataFlag(c, &data)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().DurationVar(&patience, "patience", upgradePatience, "`duration` that each step may take before the old program goes on")
	return c
}

func upgradeAt(ctx context.Context, dir string, patience time.Duration) (server.Upgraded, error) {
	client, err := server.NewControlClient(dir)
	if err != nil {
		return server.Upgraded{}, err
	}
	done, err := client.Upgrade(ctx, patience)
	if errors.Is(err, server.ErrNoGateway) {
		return done, fmt.Errorf("no gateway runs on %s; start one with countersign serve, or name its data directory with --data", dir)
	}
	return done, err
}
