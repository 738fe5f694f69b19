package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"countersign/views/format"
)

// program is the command line with what it works on.
type program struct {
	out, err io.Writer
	getenv   func(string) string
	version  string
	path     string   // that this process was started from
	args     []string // that it was started with
}

// run carries out one command line and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	root.SetOut(p.out)
	root.SetErr(p.err)
	err := root.ExecuteContext(ctx)
	if err != nil {
		lines := strings.Split(err.Error(), "\n")
		for i, line := range lines {
			lines[i] = format.Visible(line) // a file's name can hold what a terminal obeys
		}
		fmt.Fprintln(p.err, "countersign: "+strings.Join(lines, "\n  "))
	}
	return exitCode(err)
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "countersign",
		Short: "Mutual TLS in front of any service, with every handshake live on one page",
		Long: `Mutual TLS in front of any service, with every handshake live on one page.

To begin, run: countersign serve
It prints a link to the dashboard and a curl command that makes the first handshake.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w; see: %s --help", errUsage, err, c.CommandPath())
	})
	root.AddCommand(p.serveCommand(), p.httpCommand(), p.tlsCommand(), p.proveCommand(), p.explainCommand(), p.tailCommand(), p.doctorCommand(), p.loginCommand(), p.tokenCommand(), p.agentCommand(), p.upgradeCommand(), p.versionCommand())
	root.SetHelpTemplate(root.HelpTemplate() + exitCodesHelp)
	return root
}

// noArguments refuses what is neither a flag nor a subcommand.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("%q is no command of %s", args[0], c.CommandPath())
	if !c.HasAvailableSubCommands() {
		message = fmt.Sprintf("%s takes no arguments, and %q is one", c.CommandPath(), args[0])
	}
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		message += ", did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("%w: %s; see: %s --help", errUsage, message, c.CommandPath())
}

// dataFlag adds the flag for the data directory.
func dataFlag(c *cobra.Command, into *string) {
	c.Flags().StringVar(into, "data", "", "data `directory` (else $COUNTERSIGN_DATA, else ~/.countersign)")
	_ = c.MarkFlagDirname("data") // it exists: the line before made it
}

// dataDirectory returns the absolute path of the data directory.
func (p *program) dataDirectory(flag string) (string, error) {
	dir := flag
	if dir == "" {
		dir = p.getenv("COUNTERSIGN_DATA")
	}
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the data directory: %w; name one with --data", err)
		}
		dir = filepath.Join(home, ".countersign")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the data directory: %w", err)
	}
	return dir, nil
}

// untilInterrupted returns a context that Ctrl-C and SIGTERM end. A second one ends the program at once, whatever it waits for.
func untilInterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// passphrase protects the store's key file; it comes from the environment, because arguments can be seen by others.
func (p *program) passphrase() string { return p.getenv("COUNTERSIGN_PASSPHRASE") }

// printLine prints one line of JSON.
func (p *program) printLine(v any) error {
	e := json.NewEncoder(p.out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// printJSON prints the answer to --json.
func (p *program) printJSON(v any) error {
	e := json.NewEncoder(p.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}
