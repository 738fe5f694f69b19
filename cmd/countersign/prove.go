package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"countersign/server"
	"countersign/termination/proof"
	"countersign/views/format"
)

// Exit codes of prove, for scripts.
const (
	exitContradicts = 1
	exitNotProven   = 2
)

var (
	errContradicts = errors.New("the endpoint does not do what its policy says")
	errNotProven   = errors.New("it could not be proven")
)

func (p *program) proveCommand() *cobra.Command {
	var data string
	var asJSON bool
	c := &cobra.Command{
		Use: "prove ENDPOINT", Short: "Prove with real handshakes that an endpoint's policy holds",
		Long: `Prove with real handshakes that an endpoint's policy holds. The gateway that runs on the data directory connects to the
endpoint as clients do, with certificates made for the purpose, good and bad, and compares what happens with what the
policy says. What cannot be shown from there is said.

Exit codes of this command: 0 it holds; 1 something contradicts the policy; 2 there was no gateway or no endpoint, or a
try broke. What cannot be shown from there leaves the code as it is.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%w: name one endpoint, as in: %s api", errUsage, c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := p.dataDirectory(data)
			if err != nil {
				return fmt.Errorf("%w: %w", errNotProven, err)
			}
			client, err := server.NewControlClient(dir)
			if err != nil {
				return fmt.Errorf("%w: %w", errNotProven, err)
			}
			report, err := client.Prove(c.Context(), args[0])
			if errors.Is(err, server.ErrNoGateway) {
				return fmt.Errorf("%w: no gateway runs on %s; start one with countersign serve, or name its data directory with --data", errNotProven, dir)
			}
			if err != nil {
				return fmt.Errorf("%w: %w", errNotProven, err)
			}
			if asJSON {
				err = p.printJSON(report)
			} else {
				p.printProof(report)
			}
			return errors.Join(err, proofError(report))
		},
	}
	dataFlag(c, &data)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// proofError is the exit code of a report.
func proofError(r *proof.Report) error {
	switch r.Result {
	case proof.Holds:
		return nil
	case proof.Contradicts:
		return fmt.Errorf("%w: %s of %s", errContradicts, format.Count(r.Count(proof.Contradicts), "line", "lines"), r.Endpoint)
	default:
		return fmt.Errorf("%w: not everything of %s could be tried", errNotProven, r.Endpoint)
	}
}

func (p *program) printProof(r *proof.Report) {
	fmt.Fprintf(p.out, "%s  %s  revision %d\n", r.Endpoint, r.URL, r.Revision)
	for _, l := range r.Lines {
		happened := l.Happened
		switch l.Result {
		case proof.Contradicts:
			happened += ", should be " + l.Expected
		case proof.Failed:
			happened = "broke, should be " + l.Expected
		case proof.NotShown:
			happened = "not shown"
		case proof.Holds:
		}
		mark := map[proof.Result]string{proof.Holds: "ok  ", proof.Contradicts: "BAD ", proof.Failed: "?   ", proof.NotShown: "-   "}[l.Result]
		// What a service presents, or says, is not ours.
		fmt.Fprintf(p.out, "%s%-50s  %-12s  %s\n", mark, l.Tried, happened, format.Cut(l.Detail, 200))
	}
}
