package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"countersign/server"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
	"countersign/views/format"
)

// joinPatience is how long a command waits for a gateway that is just starting on the same data directory.
const joinPatience = 10 * time.Second

// joinGateway has an endpoint for as long as the command runs: in the gateway that runs on the data directory, else in one that
// is started here.
func (p *program) joinGateway(ctx context.Context, o joinOptions, ask server.JoinRequest) error {
	dir, err := p.dataDirectory(o.data)
	if err != nil {
		return err
	}
	// Taken before the start, so that no signal finds the program half way.
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP) // a terminal that is closed ends it too
	defer signal.Stop(stop)
	client, err := server.NewControlClient(dir)
	if err != nil {
		return err
	}
	member, own, err := p.enter(ctx, dir, client, ask, stop)
	if own != nil {
		defer func() { _ = closeUnlessStopped(own, stop, defaultGrace) }()
	}
	if err != nil || member == nil {
		return explainJoin(err)
	}
	stay := &stay{program: p, dir: dir, options: o, ask: ask, member: member, out: p.out}
	return errors.Join(p.stay(ctx, stay, client, stop, own), stay.leave())
}

// stay keeps the endpoint until a signal, or until the gateway ends.
func (p *program) stay(ctx context.Context, s *stay, client *server.ControlClient, stop <-chan os.Signal, own *app) (err error) {
	if s.member.Invitation != "" {
		if s.agent, err = p.startAgent(ctx, s.options, s.ask, s.member); err != nil {
			return fmt.Errorf("run the endpoint's agent: %w", err)
		}
	}
	link := ""
	if own != nil {
		if link, err = client.SignInLink(ctx); err != nil {
			return err
		}
	}
	if err := s.announce(link); err != nil {
		return err
	}
	return s.watch(ctx, stop, own)
}

// enter joins the gateway that runs, or starts one and joins that. Without error and membership, a signal came first.
func (p *program) enter(ctx context.Context, dir string, client *server.ControlClient, ask server.JoinRequest, stop <-chan os.Signal) (*server.Membership, *app, error) {
	patience := time.NewTimer(joinPatience)
	defer patience.Stop()
	for {
		member, err := client.Join(ctx, ask)
		if !errors.Is(err, server.ErrNoGateway) {
			return member, nil, err
		}
		a := newApp(appOptions{
			Data: dir, NoDemo: true, Prove: true, Passphrase: p.passphrase(), Version: p.version, Out: io.Discard,
			Log: newLogger(p.err, logWords{level: "warn"}),
		})
		stopped, err := startUnlessStopped(ctx, a, stop, defaultGrace)
		if isError[store.LockedError](err) {
			// Another command may be starting the gateway at this moment.
			again := time.NewTimer(joinPatience / 50)
			select {
			case <-again.C:
				continue
			case <-patience.C:
			case <-stop:
				again.Stop()
				return nil, nil, nil
			}
		}
		if err != nil || stopped {
			return nil, nil, err
		}
		member, err = client.Join(ctx, ask)
		return member, a, err
	}
}

// explainJoin gives the exit code of an address that cannot be opened to the endpoint's too.
func explainJoin(err error) error {
	if unreachable, is := errors.AsType[server.JoinError](err); is {
		return fmt.Errorf("%w of the endpoint: %w", errAddress, unreachable)
	}
	return err
}

// stay is the life of a command that has joined.
type stay struct {
	program *program
	dir     string
	options joinOptions
	ask     server.JoinRequest
	member  *server.Membership
	agent   *ownAgent // nil: TLS does not end in this process
	out     io.Writer
}

// leave ends the agent and then the endpoint, so that clients find one or none.
func (s *stay) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), defaultGrace)
	defer cancel()
	err := s.agent.close(ctx)
	return errors.Join(err, s.member.Leave(ctx))
}

// announce prints what the endpoint is and how to reach it.
func (s *stay) announce(link string) error {
	m := s.member
	caFile, err := s.keepCA()
	if err != nil {
		return err
	}
	tries := s.tries(caFile)
	if s.options.asJSON {
		return s.program.printLine(map[string]any{
			"url": m.URL, "name": m.Name, "id": m.ID, "terminate_at": s.ask.TerminateAt, "upstream": s.ask.Upstream, "listen": m.Listen, "dashboard": m.Endpoint, "ca_file": caFile, "try": tries,
		})
	}
	line := func(what, text string) { fmt.Fprintf(s.out, "  %-10s %s\n", what, text) }
	line("url", m.URL)
	line("TLS ends", s.place())
	line("clients", s.policy())
	line("upstream", s.ask.Upstream)
	for i, try := range tries {
		line(map[bool]string{true: "try it", false: "or"}[i == 0], try)
	}
	if note := s.note(caFile); note != "" {
		line("note", note)
	}
	if link != "" {
		line("dashboard", link+"        (one-time link: a button, then a cookie)")
	} else {
		line("dashboard", m.Endpoint)
	}
	line("stop", "Ctrl-C; the endpoint ends with this command")
	return nil
}

// place says where TLS ends, and by whose certificate.
func (s *stay) place() string {
	switch {
	case s.ask.TerminateAt == termination.AtUpstream:
		return "in the service itself; only the server name is read here, and no key for it is held"
	case s.ask.TerminateAt == termination.AtAgent && s.options.crt != "":
		return "in this process, the endpoint's agent, with the certificate of " + s.options.crt + "; its key stays here"
	case s.ask.TerminateAt == termination.AtAgent:
		return "in this process, the endpoint's agent, with a key made here and a certificate of " + s.member.CAName
	case s.member.ACME && s.member.CAName == "":
		return "here, at the edge, with the certificate that ACME got"
	case s.member.ACME:
		return "here, at the edge, with a certificate that ACME gets; until it is there, " + s.member.CAName + ", a local CA, answers"
	case s.options.crt != "":
		return "here, at the edge, with the certificate of " + s.options.crt
	case s.member.MadeCA:
		return "here, at the edge, with a certificate of " + s.member.CAName + ", a local CA that was made for it and stays"
	case s.member.CAName != "":
		return "here, at the edge, with a certificate of " + s.member.CAName + ", a local CA"
	}
	return "here, at the edge"
}

// policy says who may come in.
func (s *stay) policy() string {
	switch {
	case s.ask.TerminateAt == termination.AtUpstream:
		return "checked by the service behind"
	case s.member.Anchors > 0:
		from := "the CA"
		if s.member.Anchors > 1 {
			from = "one of the " + format.Int(s.member.Anchors) + " CAs"
		}
		return "must have a certificate from " + from + " in " + s.options.clientCAs
	}
	return "anyone may come in"
}

// note says what the commands to try need that is not here.
func (s *stay) note(caFile string) string {
	switch {
	case s.ask.TerminateAt == termination.AtUpstream:
		return "the service presents a certificate of its own; where its CA is private, add --cacert and its file"
	case s.member.ACME && caFile != "":
		return "once the certificate of ACME is there, leave out --cacert; the endpoint's page says what ACME does"
	case s.member.Anchors > 0 && s.member.Client == "":
		return "client.pem and client.key are a client's certificate from that CA, and its key"
	case caFile == "" && s.options.crt != "":
		if s.ask.StartTLS == termination.StartTLSPostgres {
			return "where the CA of your certificate is private, add sslrootcert= and its file"
		}
		return "where the CA of your certificate is private, add --cacert and its file"
	}
	return ""
}

// keepCA writes the certificate that clients have to trust into the data directory, and returns its path; empty where
// another than the local CA signed the endpoint's.
func (s *stay) keepCA() (string, error) {
	if s.member.CA == "" {
		return "", nil
	}
	dir := filepath.Join(s.dir, "ca")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep the local CA's certificate: %w", err)
	}
	path := filepath.Join(dir, localca.FileName(s.member.CAName)+".pem")
	if kept, err := os.ReadFile(path); err == nil && string(kept) == s.member.CA {
		return path, nil
	}
	return path, writePrivate(path, []byte(s.member.CA))
}

// tries are commands that reach the endpoint from this machine.
func (s *stay) tries(caFile string) []string {
	m := s.member
	_, port, err := net.SplitHostPort(m.Listen)
	if err != nil {
		return nil
	}
	host, _, _ := net.SplitHostPort(m.Listen)
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	curl := []string{"curl"}
	if !m.Resolves {
		address := host
		if strings.Contains(address, ":") {
			address = "[" + address + "]"
		}
		curl = append(curl, "--resolve", net.JoinHostPort(m.Host, port)+":"+address)
	}
	if caFile != "" {
		curl = append(curl, "--cacert", shellQuoted(caFile))
	}
	openssl := []string{"openssl", "s_client", "-connect", net.JoinHostPort(host, port), "-servername", m.Host}
	if caFile != "" {
		openssl = append(openssl, "-CAfile", shellQuoted(caFile))
	}
	switch {
	case m.Anchors > 0 && m.Client != "":
		// curl takes what follows a colon for the password of the file.
		curl = append(curl, "--cert", shellQuoted(strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(m.Client)))
		openssl = append(openssl, "-cert", shellQuoted(m.Client))
	case m.Anchors > 0:
		curl = append(curl, "--cert", "client.pem", "--key", "client.key")
		openssl = append(openssl, "-cert", "client.pem", "-key", "client.key")
	}
	at := net.JoinHostPort(m.Host, port)
	if port == "443" {
		at = m.Host
	}
	tries := []string{strings.Join(append(curl, "https://"+at+"/"), " ")}
	if s.ask.Scheme == termination.SchemeTLS {
		tries = append(tries, strings.Join(openssl, " "))
	}
	if s.ask.StartTLS == termination.StartTLSPostgres {
		tries = []string{s.psql(host, port, caFile), strings.Join(append(openssl, "-starttls", "postgres"), " ")}
	}
	return tries
}

// psql connects to a PostgreSQL behind the endpoint; it sends the host as the server name.
func (s *stay) psql(address, port, caFile string) string {
	options := []string{"host=" + s.member.Host, "hostaddr=" + address, "port=" + port, "dbname=postgres", "sslmode=verify-full"}
	set := func(key, value string) {
		// A value of a connection string stands in quotes where it holds a space, and keeps quotes and backslashes behind one.
		if strings.ContainsAny(value, ` '\`) {
			value = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
		}
		options = append(options, key+"="+value)
	}
	if caFile != "" {
		set("sslrootcert", caFile)
	}
	switch {
	case s.member.Anchors > 0 && s.member.Client != "":
		set("sslcert", s.member.Client)
		set("sslkey", s.member.Client)
	case s.member.Anchors > 0:
		set("sslcert", "client.pem")
		set("sslkey", "client.key")
	}
	return "psql " + shellQuoted(strings.Join(options, " "))
}

// watch prints handshakes until a signal, or until the gateway ends.
func (s *stay) watch(ctx context.Context, stop <-chan os.Signal, own *app) error {
	lines, failed := make(chan server.JoinLine), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			line, err := s.member.Next()
			if err != nil {
				failed <- err
				return
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				failed <- ctx.Err()
				return
			}
		}
	}()
	var ended, left <-chan error
	if own != nil {
		ended = own.Failed()
	}
	if s.agent != nil {
		left = s.agent.ended
	}
	for {
		select {
		case <-stop:
			return nil
		case err := <-ended:
			return fmt.Errorf("the dashboard ended: %w", err)
		case err := <-left:
			return fmt.Errorf("the endpoint's agent has ended: %w", err)
		case err := <-failed:
			return err
		case line := <-lines:
			if line.End != "" {
				return fmt.Errorf("%s, and the endpoint with it", line.End)
			}
			if err := s.print(line); err != nil {
				return err
			}
		}
	}
}

// print prints one handshake. Names in it are whatever a stranger wrote.
func (s *stay) print(l server.JoinLine) error {
	if s.options.asJSON {
		return s.program.printLine(l)
	}
	var err error
	switch h := l.Handshake; {
	case h != nil:
		const name = 32
		client := format.Cut(h.Client, name)
		if client == "" {
			client = "-"
		}
		text := fmt.Sprintf("%s  %-15s  %-*s  %-14s %8.1f ms", h.Time.Local().Format("15:04:05.000"), format.Visible(h.Address), 16, client, strings.ReplaceAll(string(h.Outcome), "_", " "), h.Duration)
		if h.Reason != "" {
			text += "  " + h.Title + " (" + string(h.Reason) + ")"
		}
		_, err = fmt.Fprintln(s.out, text)
	case l.Missed > 0:
		_, err = fmt.Fprintf(s.out, "%s not shown here; the dashboard has their counts\n", format.Count(int(min(l.Missed, 1<<31)), "handshake is", "handshakes are"))
	case l.Blind:
		_, err = fmt.Fprintln(s.out, "handshakes are not shown here: too many watch the live stream already; the dashboard shows them")
	}
	if err != nil {
		return fmt.Errorf("print a handshake: %w", err)
	}
	return nil
}
