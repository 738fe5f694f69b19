package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"countersign/termination"
)

func (p *program) tlsCommand() *cobra.Command {
	var o joinOptions
	c := &cobra.Command{
		Use: "tls ADDR", Short: "Put a tls endpoint in front of a service, for as long as this runs", Args: oneAddress,
		Long: `Put an endpoint for any bytes inside TLS in front of a service, for as long as this runs.

--terminate-at says where TLS ends:

  upstream   in the service itself, which holds its own key; only the server name is read here. Needs --url or --domain
  edge       in the gateway: with --crt and --key, else with a certificate of ACME, where that is set up, or of the
             local CA
  agent      in this process, which becomes an agent of the gateway: the key of --crt and --key stays here; without
             them a key is made here and the gateway's local CA signs it. Needs --url or --domain; or, for a gateway
             elsewhere, the token of an invitation with --token-file, $COUNTERSIGN_TOKEN or --token: then the endpoint,
             its name and its policy are that gateway's, and --data is the agent's own directory

ADDR is 443, :443, host:port, tcp://…, tls://… or unix:/path. A gateway that runs on the data directory is joined; else
one is started here.`,
		Example: `  countersign tls 443 --domain app.localhost
  countersign tls 5432 --terminate-at edge --starttls postgres --mutual-tls-cas clients-ca.pem
  countersign tls 5432 --terminate-at edge --url tls://db.example.com:8443 --crt db.pem --key db.key
  countersign tls 5432 --terminate-at agent --domain db.example.com --crt db.pem --key db.key
  countersign tls 5432 --terminate-at agent --gateway gw.example.com:7444 --token-file invitation.txt`,
		RunE: func(c *cobra.Command, args []string) error {
			at := termination.TerminateAt(o.terminateAt)
			if elsewhere, err := p.agentElsewhere(&o, at, args[0]); elsewhere != nil || err != nil {
				if err != nil {
					return err
				}
				return p.runAgent(c.Context(), *elsewhere)
			}
			ask, err := o.request(termination.SchemeTLS, args[0], at)
			if err != nil {
				return err
			}
			return p.joinGateway(c.Context(), o, ask)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&o.terminateAt, "terminate-at", string(termination.AtUpstream), "where TLS ends: upstream, edge or agent")
	c.Flags().StringVar(&o.startTLS, "starttls", "", "`protocol` that asks for TLS before it speaks it: postgres")
	c.Flags().StringArrayVar(&o.gateways, "gateway", nil, "`HOST:PORT` where a gateway elsewhere listens for agents, instead of the token's")
	c.Flags().StringVar(&o.token, "token", "", "the invitation's `token`; other users can see it while the command runs, so better:")
	c.Flags().StringVar(&o.tokenFile, "token-file", "", "`file` with the token (else $COUNTERSIGN_TOKEN)")
	places := []string{string(termination.AtUpstream), string(termination.AtEdge), string(termination.AtAgent)}
	_ = c.RegisterFlagCompletionFunc("terminate-at", cobra.FixedCompletions(places, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	return c
}

// checkStartTLS refuses what is not known.
func (o *joinOptions) checkStartTLS() error {
	if o.startTLS == "" || o.startTLS == string(termination.StartTLSPostgres) {
		return nil
	}
	return fmt.Errorf("%w: --starttls must be postgres, not %q", errUsage, o.startTLS)
}

// checkPlace refuses what has no place where TLS is to end. ngrok has the number 224 for the first, 1694 for the second.
func (o *joinOptions) checkPlace(at termination.TerminateAt) error {
	switch at {
	case termination.AtEdge:
		return nil
	case termination.AtAgent:
		if o.url == "" && o.domain == "" {
			return fmt.Errorf("%w: an agent answers for a name; name it with --domain app.example.com, or --url tls://app.example.com:8443; or join a gateway elsewhere with --token-file", errUsage)
		}
		return nil
	case termination.AtUpstream:
	default:
		return fmt.Errorf("%w: --terminate-at must be upstream, edge or agent, not %q", errUsage, at)
	}
	switch {
	case o.clientCAs != "":
		return fmt.Errorf("%w: client certificates can be checked only where TLS ends, and with --terminate-at upstream that is the service itself "+
			"(ngrok calls this ERR_NGROK_1694); add --terminate-at edge, or have the service check them and leave out --mutual-tls-cas", errUsage)
	case o.crt != "" || o.key != "":
		return fmt.Errorf("%w: with --terminate-at upstream the service holds the certificate and key, and no key for the name is here; "+
			"leave out --crt and --key, or add --terminate-at edge", errUsage)
	case o.startTLS != "":
		return fmt.Errorf("%w: with --terminate-at upstream the service answers --starttls itself; leave it out", errUsage)
	case o.upstreamCAs != "":
		return fmt.Errorf("%w: with --terminate-at upstream the bytes pass unopened, so there is nothing to verify with --upstream-tls-verify-cas; leave it out", errUsage)
	case o.url == "" && o.domain == "":
		return fmt.Errorf("%w: with --terminate-at upstream only the server name tells where a connection goes; name it with --domain app.example.com, or --url tls://app.example.com:8443", errUsage)
	}
	return nil
}
