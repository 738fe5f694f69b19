package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"countersign/server/client"
	"countersign/termination"
	"countersign/termination/doctor"
	"countersign/termination/unlock"
	"countersign/views/format"
)

// Exit codes of doctor, for scripts.
const (
	exitNotLetIn = 1
	exitNotTried = 2
)

var (
	errNotLetIn = errors.New("this client is not let in")
	errNotTried = errors.New("it could not be tried")
)

// maxDoctorFile bounds a file of certificates or keys, in bytes.
const maxDoctorFile = 1 << 20

// doctorOptions are the flags of doctor.
type doctorOptions struct {
	gateway                  gatewayFlags
	cert, key, cacert        string
	p12, passwordFile, named string
	alpn                     []string
	head, asJSON             bool
}

func (p *program) doctorCommand() *cobra.Command {
	var o doctorOptions
	c := &cobra.Command{
		Use: "doctor URL", Short: "Say why a client is not let in, from the client's side",
		Long: `Say why a client is not let in. Run on the client's machine with the client's own files, it makes the handshake itself,
step by step, and says what it saw: names and addresses, the server's certificate and whether this client accepts it,
what the server asks for, the client's own certificate, which alert came, also after the handshake, and the answer.
It works against any TLS server, and uses no proxy.

  countersign doctor https://api.example.com --cert client.crt --key client.key --cacert ca.crt

With access to the Countersign gateway that answers, it finds the gateway's record of this very handshake and tells both
sides as one story, with the fix. Access is --data DIR or $COUNTERSIGN_DATA on the gateway's machine, else --gateway URL with a
token of the scope read. Without, it prints a line for whoever runs the gateway.

Exit codes of this command: 0 let in; 1 not let in, by whichever side; 2 it could not be tried: no such name, nobody
there, no TLS, or files that cannot be read.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%w: name one URL, as in: %s https://api.example.com --cert client.crt --key client.key", errUsage, c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := untilInterrupted(c.Context())
			defer stop()
			return p.doctor(ctx, &o, args[0])
		},
	}
	f := c.Flags()
	f.StringVar(&o.cert, "cert", "", "`file` of the client's certificate, with its chain, and maybe its key")
	f.StringVar(&o.key, "key", "", "`file` of its private key")
	f.StringVar(&o.p12, "p12", "", "`file` (PKCS#12) that holds both, in their place")
	f.StringVar(&o.passwordFile, "password-file", "", "`file` with the password of --p12 (else $COUNTERSIGN_P12_PASSWORD)")
	f.StringVar(&o.cacert, "cacert", "", "`file` of CA certificates that the server is verified against (default the system's)")
	f.StringVar(&o.named, "servername", "", "`name` to ask for and to expect, in place of the URL's host")
	f.StringSliceVar(&o.alpn, "alpn", nil, "application `protocols` to offer over tls://")
	f.BoolVar(&o.head, "head", false, "ask with HEAD in place of GET")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	for _, name := range []string{"cert", "key", "p12", "password-file", "cacert"} {
		_ = c.MarkFlagFilename(name) // it exists: see above
	}
	o.gateway.flags(c, "gateway")
	f.Lookup("data").Usage = "data `directory` of the gateway, on its machine (else $COUNTERSIGN_DATA; without either no gateway is asked)"
	return c
}

func (p *program) doctor(ctx context.Context, o *doctorOptions, url string) error {
	options, err := p.doctorOptions(o, url)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotTried, err)
	}
	story := &doctorStory{}
	var other *otherSide
	if p.chosen(&o.gateway) {
		c, err := p.client(&o.gateway)
		if err != nil {
			return fmt.Errorf("%w: %w", errNotTried, err)
		}
		other = &otherSide{client: c}
		if err := other.begin(ctx); err != nil {
			story.Missing = p.away(&o.gateway, err).Error()
			other = nil
		}
	}
	if story.Report, err = doctor.Examine(ctx, options); err != nil {
		return fmt.Errorf("%w: %w", errNotTried, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: it was told to end", errNotTried)
	}
	if other != nil {
		other.find(ctx, story)
	}
	if story.Record == nil && len(story.Attempts) > 0 && story.Result != doctor.LetIn {
		story.ForOthers = story.handOver()
	}
	if o.asJSON {
		err = p.printStory(story)
	} else {
		story.print(p.out)
	}
	return errors.Join(err, doctorError(story.Report))
}

// printStory prints JSON in which nothing hides: a server's words are in it.
func (p *program) printStory(s *doctorStory) error {
	var text bytes.Buffer
	encode := json.NewEncoder(&text)
	encode.SetIndent("", "  ")
	encode.SetEscapeHTML(false)
	if err := encode.Encode(s); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	if _, err := p.out.Write(format.JSON(text.Bytes())); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// doctorError is the exit code of a report.
func doctorError(r *doctor.Report) error {
	switch r.Result {
	case doctor.LetIn:
		return nil
	case doctor.NotLetIn:
		return errNotLetIn
	default:
		return errNotTried
	}
}

func (p *program) doctorOptions(o *doctorOptions, url string) (doctor.Options, error) {
	options := doctor.Options{URL: url, ServerName: o.named, ALPN: o.alpn, Head: o.head}
	for flag, value := range map[string]string{"--cert": o.cert, "--key": o.key, "--cacert": o.cacert, "--p12": o.p12} {
		// An en dash in place of a hyphen, as word processors make of two, leaves the file's name as an argument or takes it for one.
		if strings.HasPrefix(value, "-") || strings.HasPrefix(value, "–") || strings.HasPrefix(value, "—") {
			return options, fmt.Errorf("%s is given %q, which looks like another flag; give it a file", flag, value)
		}
	}
	var err error
	switch {
	case o.p12 != "" && (o.cert != "" || o.key != ""):
		return options, errors.New("--p12 holds certificate and key; leave --cert and --key out, or it")
	case o.p12 != "":
		options.Identity, err = p.readP12(o)
	case o.key != "" && o.cert == "":
		return options, errors.New("--key is given without --cert; give the certificate that belongs to it too")
	case o.cert != "":
		options.Identity, err = readPair(o.cert, o.key)
	}
	if err != nil {
		return options, err
	}
	if o.cacert != "" {
		text, err := readBounded(o.cacert, maxDoctorFile)
		if err != nil {
			return options, fmt.Errorf("read --cacert: %w", err)
		}
		if options.Roots, err = doctor.ReadCertificates(text); err != nil {
			return options, fmt.Errorf("read --cacert %s: %w", o.cacert, err)
		}
	}
	return options, nil
}

func readPair(certFile, keyFile string) (*doctor.Identity, error) {
	cert, err := readBounded(certFile, maxDoctorFile)
	if err != nil {
		return nil, fmt.Errorf("read --cert: %w", err)
	}
	var key []byte
	if keyFile != "" {
		if key, err = readBounded(keyFile, maxDoctorFile); err != nil {
			return nil, fmt.Errorf("read --key: %w", err)
		}
		defer clear(key)
	}
	return doctor.ReadIdentity(cert, key)
}

func (p *program) readP12(o *doctorOptions) (*doctor.Identity, error) {
	file, err := readBounded(o.p12, maxDoctorFile)
	if err != nil {
		return nil, fmt.Errorf("read --p12: %w", err)
	}
	password, err := p.p12Password(o.passwordFile)
	if err != nil {
		return nil, err
	}
	opened, err := unlock.PKCS12(file, password)
	if field, ok := errors.AsType[termination.FieldError](err); ok && field.Field == unlock.FieldPassphrase {
		return nil, fmt.Errorf("read --p12 %s: %s; give its password with --password-file FILE, or in $COUNTERSIGN_P12_PASSWORD", o.p12, field.Problem)
	}
	if err != nil {
		return nil, fmt.Errorf("read --p12 %s: %w", o.p12, err)
	}
	defer clear(opened)
	return doctor.ReadIdentity(opened, nil)
}

// otherSide looks for the gateway's record of a handshake.
type otherSide struct {
	client *client.Client
	newest uint64        // number of the newest record before
	clock  time.Duration // how far this machine's clock is ahead of the gateway's, in whole seconds
}

// Bounds of the search.
const (
	findPatience = 5 * time.Second // a record comes into the history within a second of the handshake's end
	findPages    = 20
	findPause    = 100 * time.Millisecond
)

// begin notes where the records end before anything is tried.
func (s *otherSide) begin(ctx context.Context) error {
	page, err := s.client.Handshakes(ctx, "", "", 1)
	if err != nil {
		return err
	}
	if len(page.Items) > 0 {
		s.newest = page.Items[0].Seq
	}
	if !page.At.IsZero() {
		s.clock = time.Since(page.At)
	}
	return nil
}

// find adds the gateway's record to the story.
func (s *otherSide) find(ctx context.Context, story *doctorStory) {
	if len(story.Attempts) == 0 {
		story.Missing = "no handshake was made, so the gateway has none"
		return
	}
	if ahead := s.clock.Abs(); ahead > 30*time.Second {
		story.ClockAhead = s.clock.Round(time.Second).String()
	}
	ctx, cancel := context.WithTimeout(ctx, findPatience)
	defer cancel()
	own := story.Attempts[0]
	for {
		id, by, err := s.look(ctx, own, serverName(story.Name))
		if id != "" {
			if story.Record, err = s.client.Handshake(ctx, id); err == nil {
				story.MatchedBy = by
				return
			}
		}
		if err != nil && ctx.Err() == nil {
			story.Missing = err.Error()
			return
		}
		pause := time.NewTimer(findPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			story.Missing = "that gateway has no record of this handshake: another machine answered, or something in between ended it before it came there"
			return
		}
	}
}

// serverName is the name in the ClientHello: none for an address (RFC 6066, section 3).
func serverName(name string) string {
	if _, err := netip.ParseAddr(name); err == nil {
		return ""
	}
	return name
}

// look searches what was recorded since begin for the record of an attempt. What only looks alike is none: a story must not
// tell of somebody else's handshake.
func (s *otherSide) look(ctx context.Context, a *doctor.Attempt, name string) (id, by string, err error) {
	if a.HTTP != nil && strings.HasPrefix(a.HTTP.Handshake, "hs_") {
		return a.HTTP.Handshake, "its answer named it", nil
	}
	cursor := ""
	for range findPages {
		page, err := s.client.Handshakes(ctx, "", cursor, 500)
		if err != nil {
			return "", "", err
		}
		for i := range page.Items {
			r := &page.Items[i]
			if r.Seq <= s.newest {
				return "", "", nil
			}
			if a.Marker != "" && r.Hello != nil && len(r.Hello.ALPN) > 0 && r.Hello.ALPN[len(r.Hello.ALPN)-1] == a.Marker {
				return r.ID, "the marker in its ClientHello", nil
			}
			if a.Local.IsValid() && r.Peer == a.Local && r.Hello != nil && r.Hello.ServerName == name {
				return r.ID, "this side's address and port", nil
			}
		}
		if cursor = page.Cursor; cursor == "" {
			return "", "", nil
		}
	}
	return "", "", nil
}
