package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"countersign/server"
	"countersign/store"
)

func (p *program) tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "token", Short: "Tokens for the API", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(p.tokenCreateCommand())
	return c
}

func (p *program) tokenCreateCommand() *cobra.Command {
	var data, scope string
	var asJSON bool
	scopes := []string{string(store.ScopeRead), string(store.ScopeOperate), string(store.ScopeAdmin)}
	c := &cobra.Command{
		Use: "create NAME --scope read|operate|admin", Short: "Make a token for the API and print it, once",
		Long: `Make a token for the API and print it. It is not kept, so it cannot be printed again. It is revoked in the dashboard,
under Settings.

  read      look at everything but secrets; metrics
  operate   also enable, disable, issue
  admin     everything`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%w: give the token one name, as in: %s reports --scope read", errUsage, c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(scopes, scope) {
				return fmt.Errorf("%w: --scope must be read, operate or admin, not %q", errUsage, scope)
			}
			dir, err := p.dataDirectory(data)
			if err != nil {
				return err
			}
			token, err := p.createToken(c.Context(), dir, args[0], store.Scope(scope))
			if err != nil {
				return err
			}
			if asJSON {
				return p.printJSON(token)
			}
			fmt.Fprintln(p.out, token.Secret)
			return nil
		},
	}
	dataFlag(c, &data)
	c.Flags().StringVar(&scope, "scope", "", "what the token may do: read, operate or admin")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = c.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions(scopes, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	return c
}

// createToken asks the running gateway; if there is none, it opens the store itself.
func (p *program) createToken(ctx context.Context, dir, name string, scope store.Scope) (server.NewToken, error) {
	client, err := server.NewControlClient(dir)
	if err != nil {
		return server.NewToken{}, err
	}
	token, err := client.CreateToken(ctx, name, scope, userName())
	if !errors.Is(err, server.ErrNoGateway) {
		return token, err
	}
	if has, err := hasStore(dir); err != nil {
		return server.NewToken{}, err
	} else if !has {
		return server.NewToken{}, fmt.Errorf("there is no store in %s; start the gateway once with countersign serve, or name its data directory with --data", dir)
	}
	s, err := store.Open(ctx, dir, store.Options{Passphrase: p.passphrase(), Log: newLogger(p.err, logWords{level: "warn"})})
	if err != nil {
		return server.NewToken{}, err
	}
	token, err = server.CreateToken(ctx, s, name, scope, userName())
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return token, err
}

// hasStore reports whether a gateway has ever begun a store in dir.
func hasStore(dir string) (bool, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into the data directory: %w", err)
	}
	return slices.ContainsFunc(list, func(e os.DirEntry) bool { return filepath.Ext(e.Name()) == ".db" }), nil
}
