package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"countersign/server"
	answers "countersign/server/api"
	"countersign/termination"
	"countersign/termination/explain"
	"countersign/views/format"
)

var (
	// errDoesNotPass says that what was explained does not pass.
	errDoesNotPass = errors.New("it does not pass")
	// errUnreadable says that nothing could be explained.
	errUnreadable = errors.New("cannot explain")
)

func (p *program) explainCommand() *cobra.Command {
	var data, endpoint, passwordFile string
	var asJSON bool
	c := &cobra.Command{
		Use: "explain FILE…", Short: "Say what a certificate, header, error line or recording is, and whether it would pass",
		Long: `Say what is in files, or with - what comes in: certificates in any encoding, requests, revocation lists, headers of
proxies, an openssl s_client transcript, an error line, an alert number, a fingerprint, a recording with a ClientHello.
Nothing is sent anywhere and nothing is kept; a private key is recognised and not read. When a gateway runs on the data
directory, it judges certificates at its endpoints.

Exit codes of this command: 0 it passes at an endpoint, or nothing is wrong with it; 1 it does not; 2 it cannot be read,
or there is no gateway or no endpoint where one is named.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%w: name a file, or - for what comes in, as in: %s client.crt", errUsage, c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			password, err := p.p12Password(passwordFile)
			if err != nil {
				return fmt.Errorf("%w: %w", errUnreadable, err)
			}
			explained, err := readExplained(args, password)
			if err != nil {
				return fmt.Errorf("%w: %w", errUnreadable, err)
			}
			verdicts, err := p.verdicts(c.Context(), explained, data, endpoint)
			if err != nil {
				return fmt.Errorf("%w: %w", errUnreadable, err)
			}
			if asJSON {
				err = p.printJSON(answers.ExplainAnswer{Explained: explained, Endpoints: verdicts})
			} else {
				p.printExplained(explained, verdicts)
			}
			return errors.Join(err, passes(explained, verdicts))
		},
	}
	dataFlag(c, &data)
	c.Flags().StringVar(&endpoint, "endpoint", "", "judge at this endpoint alone, by `name`; a gateway must run")
	c.Flags().StringVar(&passwordFile, "password-file", "", "`file` with the password of a PKCS#12 file (else $COUNTERSIGN_P12_PASSWORD)")
	_ = c.MarkFlagFilename("password-file") // it exists: see above
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// readExplained reads files, each by itself: their encodings may differ.
func readExplained(files []string, password string) (*explain.Explained, error) {
	var all []*explain.Explained
	for _, name := range files {
		var text []byte
		var err error
		if name == "-" {
			text, err = io.ReadAll(io.LimitReader(os.Stdin, termination.MaxUpload+1))
		} else {
			text, err = readBounded(name, termination.MaxUpload)
		}
		if err != nil {
			return nil, err
		}
		e, err := explain.Read(text, password, time.Now())
		if errors.Is(err, explain.ErrUnknown) {
			return nil, fmt.Errorf("%s: %w; give PEM, DER, PKCS#7 or PKCS#12, a header, an error line as a client printed it, a fingerprint, an alert number or a recording", format.Cut(name, 200), err)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", format.Cut(name, 200), err)
		}
		if len(files) > 1 {
			for i := range e.Findings {
				e.Findings[i].File = name
			}
		}
		all = append(all, e)
	}
	return explain.Join(all...), nil
}

// verdicts asks the gateway that runs on the data directory; none runs: nothing is judged, unless an endpoint is named.
func (p *program) verdicts(ctx context.Context, e *explain.Explained, data, endpoint string) ([]answers.EndpointVerdict, error) {
	chain := e.ClientChain()
	switch {
	case len(chain) == 0 && endpoint != "":
		return nil, fmt.Errorf("there is no certificate of a client in it that could be judged at %s", endpoint)
	case len(chain) == 0:
		return nil, nil
	}
	dir, err := p.dataDirectory(data)
	if err != nil {
		return nil, err
	}
	client, err := server.NewControlClient(dir)
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, c := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	out, err := client.Verdicts(ctx, text, endpoint)
	if errors.Is(err, server.ErrNoGateway) {
		if endpoint == "" {
			return nil, nil
		}
		return nil, fmt.Errorf("no gateway runs on %s; start one with countersign serve, or name its data directory with --data", dir)
	}
	return out, err
}

// passes is the exit code: by the verdicts, or where nothing was judged by the faults.
func passes(e *explain.Explained, verdicts []answers.EndpointVerdict) error {
	if e.Has(explain.KindLocked) {
		return fmt.Errorf("%w: the file could not be opened; give its password with --password-file FILE, or in $COUNTERSIGN_P12_PASSWORD", errUnreadable)
	}
	for _, v := range verdicts {
		if v.In {
			return nil
		}
	}
	if len(verdicts) > 0 {
		return errDoesNotPass
	}
	for i := range e.Findings {
		if len(e.Findings[i].Faults) > 0 {
			return errDoesNotPass
		}
	}
	if e.Has(explain.KindUnreadable) {
		return fmt.Errorf("%w: something in it is of no known kind, or broken", errUnreadable)
	}
	return nil
}

func (p *program) printExplained(e *explain.Explained, verdicts []answers.EndpointVerdict) {
	line := func(mark, text string) { fmt.Fprintln(p.out, mark+format.Cut(text, 1000)) }
	file := ""
	for i := range e.Findings {
		f := &e.Findings[i]
		if f.File != file {
			file = f.File
			line("", file+":")
		}
		line("", f.Title)
		if f.Text != "" {
			line("  ", f.Text)
		}
		for _, s := range f.Faults {
			line("  BAD ", s)
		}
		for _, s := range f.Notes {
			line("  note ", s)
		}
		for _, s := range f.Do {
			line("  do ", s)
		}
		for _, g := range f.Groups {
			line("  ", g.Title)
			for _, fact := range g.Facts {
				line("    ", fact.Name+": "+fact.Value)
			}
		}
	}
	for _, d := range e.Compared {
		if d.Same {
			line("same  ", d.Name+": "+d.One)
		} else {
			line("other ", d.Name+": "+d.One+" | "+d.Other)
		}
	}
	for _, v := range verdicts {
		mark := map[bool]string{true: "ok   ", false: "BAD  "}[v.In]
		if v.Sealed {
			mark = "-    "
		}
		line(mark, v.Endpoint+": "+v.Sentence)
		for _, c := range v.Checks {
			line("       ", c)
		}
	}
}
