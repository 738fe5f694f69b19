package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"countersign/server"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/localca"
)

const (
	demoEndpoint  = "demo"
	demoHost      = "demo.localhost" // needs no entry in a hosts file: RFC 6761, section 6.3
	demoAuthority = "Local CA"
	demoDir       = "dev" // in the data directory
	demoDays      = 30

	fileCA       = "local-ca.pem"
	fileStranger = "stranger.pem"
	filePassword = "p12-password.txt"

	keyDemo  = "demo" // of the store's setting
	viaStart = "start"
)

// demo is what the first start made, so that the first handshake needs nothing else.
type demo struct {
	dir    string // of the files
	record demoRecord
	page   server.Demo
	leaf   *x509.Certificate // of the client; nil: not made yet
}

// demoRecord is what the store remembers of it.
type demoRecord struct {
	User      string `json:"user"`
	Endpoint  string `json:"endpoint"`  // ID
	Authority string `json:"authority"` // ID
	Port      uint16 `json:"port"`      // that was chosen, not configured
}

// openDemo makes the demo at the first start, and finds it again at later ones. Without one, a.demo stays nil.
func (a *app) openDemo(ctx context.Context, first bool) error {
	config, _, err := a.store.Load(ctx)
	if err != nil {
		return err
	}
	d := &demo{dir: filepath.Join(a.store.Dir(), demoDir)}
	found, err := a.store.Setting(ctx, keyDemo, &d.record)
	if err != nil {
		return err
	}
	if !found {
		// A first start that was broken off has left its directory and nothing else.
		brokenOff := exists(d.dir) && config.Revision == 0
		if !first && !brokenOff {
			return nil
		}
		if err := a.makeDemo(ctx, d); err != nil {
			return fmt.Errorf("make the demo: %w; to start without it: --no-demo", err)
		}
		if config, _, err = a.store.Load(ctx); err != nil {
			return err
		}
	}
	if !d.describe(config) {
		return nil // somebody deleted its endpoint or its CA, and so ended the demo
	}
	if err := a.provideFiles(ctx, d, config, time.Now()); err != nil {
		a.log.Warn("the demo is not offered", "error", err)
		return nil
	}
	a.demo = d
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// makeDemo makes a local CA that can sign for this machine alone, and an endpoint that demands a certificate from it.
func (a *app) makeDemo(ctx context.Context, d *demo) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	ca, err := localca.Create(localca.Options{Name: demoAuthority, Constrained: true, Now: time.Now()})
	if err != nil {
		return err
	}
	d.record.User = userName()
	if d.record.Port, err = freePort(ctx, a.options.demoPort); err != nil {
		return err
	}
	_, _, err = a.store.Change(ctx, store.Actor{Name: "first start", Via: viaStart}, func(tx *store.Tx) error {
		authority, err := tx.CreateAuthority(termination.Authority{
			Name: ca.Name, Origin: termination.OriginDemo,
			Certificates: []termination.CACertificate{{Certificate: ca.Certificate, Role: termination.RoleAnchor}},
		})
		if err != nil {
			return err
		}
		if err := tx.CreateLocalCA(authority.ID, ca.Key, true); err != nil {
			return err
		}
		endpoint, err := tx.CreateEndpoint(termination.Endpoint{
			Name: demoEndpoint, Origin: termination.OriginDemo, Enabled: true,
			Scheme: termination.SchemeHTTPS, Host: demoHost, Listen: loopback(), Port: d.record.Port,
			TerminateAt: termination.AtEdge, Certificates: []string{termination.CertificateLocal},
			Upstream: termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami},
			ClientAuth: termination.ClientAuth{
				Mode: termination.ModeRequire, Authorities: []string{authority.Name}, Announce: true, OnLoss: termination.OnLossClose,
			},
		})
		if err != nil {
			return err
		}
		d.record.Authority, d.record.Endpoint = authority.ID, endpoint.ID
		return tx.PutSetting(keyDemo, d.record)
	}, a.gateway.Prepare)
	return err
}

// describe fills in what the welcome page shows, and reports whether the demo is still there.
func (d *demo) describe(c *termination.Config) bool {
	e, ca := d.endpoint(c), d.localCA(c)
	if e == nil || ca == nil {
		return false
	}
	name := d.record.User
	d.page = server.Demo{
		Dir: d.dir, CA: fileCA, Client: name + ".pem", Stranger: fileStranger, P12: name + ".p12", P12Apple: name + "-apple.p12",
		P12Password: d.page.P12Password, User: name, Endpoint: e.Name,
		Host: strings.TrimPrefix(e.URL(), "https://"), Listen: e.Address().String(),
	}
	return true
}

func (d *demo) endpoint(c *termination.Config) *termination.Endpoint {
	for i := range c.Endpoints {
		if e := &c.Endpoints[i]; e.ID == d.record.Endpoint && e.Scheme == termination.SchemeHTTPS && e.Host != "" {
			return e
		}
	}
	return nil
}

func (d *demo) localCA(c *termination.Config) *termination.LocalCA {
	name := ""
	for i := range c.Authorities {
		if c.Authorities[i].ID == d.record.Authority {
			name = c.Authorities[i].Name
		}
	}
	for i := range c.LocalCAs {
		if c.LocalCAs[i].Name == name {
			return &c.LocalCAs[i]
		}
	}
	return nil
}

// shown is what the dashboard gets of it.
func (d *demo) shown() *server.Demo {
	if d == nil {
		return nil
	}
	return &d.page
}

// command is the curl command that makes the first handshake, ready to paste.
func (d *demo) command() string {
	if d == nil {
		return ""
	}
	ca, client := filepath.Join(d.dir, d.page.CA), filepath.Join(d.dir, d.page.Client)
	// curl takes what follows a colon for the password of the file.
	client = strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(client)
	return fmt.Sprintf("curl --cacert %s --cert %s https://%s/", shellQuoted(ca), shellQuoted(client), d.page.Host)
}

// shellQuoted quotes a word for a POSIX shell, if it needs that.
func shellQuoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./+@%:,-", r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// provideFiles sees to it that the files are there and good: it makes what is missing, or has ended.
func (a *app) provideFiles(ctx context.Context, d *demo, c *termination.Config, now time.Time) error {
	ca := d.localCA(c)
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	authority := localca.EncodePEM(ca.Certificate)
	if text, err := os.ReadFile(filepath.Join(d.dir, fileCA)); err != nil || !bytes.Equal(text, authority) {
		if err := writePrivate(filepath.Join(d.dir, fileCA), authority); err != nil {
			return err
		}
	}
	if !d.hasClient(ca, now) {
		if err := d.makeClient(ca, now); err != nil {
			return err
		}
	}
	actor := store.Actor{Name: "first start", Via: viaStart}
	if err := a.store.AddIssued(ctx, actor, d.record.Authority, "client", d.record.User, d.leaf); err != nil {
		return err
	}
	if d.hasStranger(now) {
		return nil
	}
	stranger, err := localca.Stranger(now)
	if err != nil {
		return err
	}
	return writeBundle(filepath.Join(d.dir, fileStranger), stranger)
}

// hasClient reports whether the client's files are there, from this CA, and have not ended.
func (d *demo) hasClient(ca *termination.LocalCA, now time.Time) bool {
	password, err := os.ReadFile(filepath.Join(d.dir, filePassword))
	if err != nil {
		return false
	}
	for _, name := range []string{d.page.P12, d.page.P12Apple} {
		if !exists(filepath.Join(d.dir, name)) {
			return false
		}
	}
	leaf := leafOf(filepath.Join(d.dir, d.page.Client))
	if leaf == nil || !now.Before(leaf.NotAfter) || leaf.CheckSignatureFrom(ca.Certificate) != nil {
		return false
	}
	d.leaf, d.page.P12Password = leaf, strings.TrimSpace(string(password))
	return true
}

// makeClient issues the client's certificate and writes its files. The password protects nothing that does not lie beside
// it: browsers and Windows want one.
func (d *demo) makeClient(ca *termination.LocalCA, now time.Time) error {
	issued, err := localca.IssueClient(ca, localca.ClientRequest{Name: d.record.User, Days: demoDays, Now: now})
	if err != nil {
		return err
	}
	password := d.page.P12Password
	if password == "" {
		password = localca.NewPassword()
	}
	if err := writePrivate(filepath.Join(d.dir, filePassword), []byte(password+"\n")); err != nil {
		return err
	}
	for name, flavour := range map[string]localca.Flavour{d.page.P12: localca.FlavourModern, d.page.P12Apple: localca.FlavourApple} {
		data, err := issued.P12(flavour, password)
		if err != nil {
			return err
		}
		if err := writePrivate(filepath.Join(d.dir, name), data); err != nil {
			return err
		}
	}
	if err := writeBundle(filepath.Join(d.dir, d.page.Client), issued); err != nil {
		return err
	}
	d.leaf, d.page.P12Password = issued.Leaf(), password
	return nil
}

func (d *demo) hasStranger(now time.Time) bool {
	leaf := leafOf(filepath.Join(d.dir, fileStranger))
	return leaf != nil && now.Before(leaf.NotAfter)
}

// leafOf returns the certificate of a file that holds it with its key, or nil.
func leafOf(path string) *x509.Certificate {
	pair, err := tls.LoadX509KeyPair(path, path)
	if err != nil {
		return nil
	}
	return pair.Leaf
}

func writeBundle(path string, issued *localca.Issued) error {
	bundle, err := issued.BundlePEM()
	if err != nil {
		return err
	}
	defer clear(bundle)
	return writePrivate(path, bundle)
}

// renew makes the client's files anew when they have ended while the gateway runs. What the welcome page shows stays.
func (d *demo) renew(ctx context.Context, a *app) {
	now := time.Now()
	if d == nil || d.leaf == nil || now.Before(d.leaf.NotAfter) {
		return
	}
	config := a.gateway.Config()
	err := errors.New("its local CA is gone")
	fresh := *d // the dashboard reads the page meanwhile
	if d.localCA(config) != nil {
		err = a.provideFiles(ctx, &fresh, config, now)
	}
	if err != nil {
		a.log.Warn("the demo's client certificate has ended and is not renewed", "error", err)
		fresh.leaf = nil // said once
	}
	d.leaf = fresh.leaf
}

// moveDemo gives the demo's endpoint another port when its own is taken, as long as nobody configured it.
func (a *app) moveDemo(ctx context.Context) error {
	const tries = 5
	for range tries {
		if a.demo == nil || !a.demoIsBlocked() {
			return nil
		}
		from := a.options.demoPort
		if from != 0 {
			from = max(from, a.demo.record.Port+1)
		}
		port, err := freePort(ctx, from)
		if err != nil {
			a.log.Warn("the demo's port is taken", "error", err)
			return nil
		}
		record := a.demo.record
		record.Port = port
		config, err := a.server.Change(ctx, store.Actor{Name: "start", Via: viaStart}, func(tx *store.Tx) error {
			e, err := tx.Endpoint(record.Endpoint)
			if err != nil {
				return err
			}
			e.Port = port
			if err := tx.UpdateEndpoint(e); err != nil {
				return err
			}
			return tx.PutSetting(keyDemo, record)
		})
		if err != nil {
			return fmt.Errorf("move the demo to another port: %w", err)
		}
		a.log.Info("the demo's port was taken", "port", a.demo.record.Port, "now", port)
		a.demo.record = record
		a.demo.describe(config)
	}
	return nil
}

// demoIsBlocked reports whether the demo cannot listen on a port that it chose itself.
func (a *app) demoIsBlocked() bool {
	e := a.demo.endpoint(a.gateway.Config())
	if e == nil || e.Port != a.demo.record.Port {
		return false
	}
	for _, s := range a.gateway.Status().Endpoints {
		if s.ID == e.ID {
			return s.State == gateway.StateFailed && strings.HasPrefix(s.Problem, "cannot listen")
		}
	}
	return false
}

// userName is the name of whoever runs this, in a form that suits a file and a certificate.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return plainName("")
	}
	return plainName(u.Username)
}

func plainName(name string) string {
	const fallback, longest = "me", 32
	if i := strings.LastIndexByte(name, '\\'); i >= 0 {
		name = name[i+1:] // DOMAIN\name
	}
	// Without dots it can be no DNS name, which a constrained CA could not sign.
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '-'
	}, name)
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	name = strings.Trim(name, "-")
	name = name[:min(len(name), longest)]
	switch name + ".pem" {
	case ".pem", fileCA, fileStranger:
		return fallback
	}
	return name
}
