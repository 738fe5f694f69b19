package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"countersign/termination"
)

func (p *program) httpCommand() *cobra.Command {
	var o joinOptions
	c := &cobra.Command{
		Use: "http ADDR", Short: "Put an https endpoint in front of a service, for as long as this runs", Args: oneAddress,
		Long: `Put an https endpoint in front of a service, for as long as this runs. TLS ends here, in the gateway.

ADDR is 80, :80, host:port, http://…, https://…, h2c://…, unix:/path or whoami. Without --url and --domain the endpoint
is https://localhost:8443, or the next port that is free. A gateway that runs on the data directory is joined;
else one is started here.`,
		Example: `  countersign http 8080
  countersign http 8080 --mutual-tls-cas clients-ca.pem
  countersign http 8080 --url https://api.example.com:8443 --crt api.pem --key api.key`,
		RunE: func(c *cobra.Command, args []string) error {
			ask, err := o.request(termination.SchemeHTTPS, args[0], termination.AtEdge)
			if err != nil {
				return err
			}
			return p.joinGateway(c.Context(), o, ask)
		},
	}
	o.flags(c)
	return c
}

// oneAddress wants the address of the service, and nothing beside it.
func oneAddress(c *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return fmt.Errorf("%w: say where the service is, as in: %s 8080", errUsage, c.CommandPath())
}
