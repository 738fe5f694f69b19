package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// What a command made is read-only in the dashboard and the API.
func TestEndpointOfACommandIsReadOnly(t *testing.T) {
	w := newJoinWorld(t)
	p := w.join("http", "whoami", "--url", fmt.Sprintf("https://app.localhost:%d", freeTestPort(t)), "--mutual-tls-cas", w.file("clients.pem"))
	name := w.endpoints()[0].Name
	for _, c := range []struct{ method, path string }{
		{http.MethodPost, "/api/v1/endpoints/" + name + "/stop"},
		{http.MethodDelete, "/api/v1/endpoints/" + name},
		{http.MethodDelete, "/api/v1/authorities/" + strings.ReplaceAll(name+" clients", " ", "%20")},
	} {
		if status, err := w.api.ask(c.method, c.path, nil, nil); err != nil || status != http.StatusConflict {
			t.Errorf("%s %s: status %d, %v", c.method, c.path, status, err)
		}
	}
	p.stop()
	w.empty("the command")
}

func TestCommandsAreRefused(t *testing.T) {
	dir := t.TempDir()
	ca := tlstest.NewCA()
	key := filepath.Join(dir, "key.pem")
	writeFile(t, key, ca.Client("x").KeyPEM())
	leaf := filepath.Join(dir, "leaf.pem")
	writeFile(t, leaf, ca.Client("x").PEM())
	junk := filepath.Join(dir, "junk.pem")
	writeFile(t, junk, []byte("no certificate"))
	large := filepath.Join(dir, "large.pem")
	writeFile(t, large, bytes.Repeat([]byte("x"), termination.MaxUpload+1))
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no address":                  {[]string{"http"}, exitUsage, "say where the service is"},
		"two addresses":               {[]string{"http", "80", "81"}, exitUsage, "say where the service is"},
		"no port":                     {[]string{"http", "localhost"}, exitUsage, "host:8080"},
		"port too high":               {[]string{"http", "70000"}, exitUsage, "no address of a service"},
		"a path":                      {[]string{"http", "http://localhost/x"}, exitUsage, "only scheme, host and port"},
		"another scheme":              {[]string{"http", "ftp://localhost"}, exitUsage, "the scheme must be"},
		"plain http":                  {[]string{"http", "80", "--url", "http://localhost"}, exitUsage, "without TLS"},
		"wrong scheme":                {[]string{"http", "80", "--url", "tls://localhost:1"}, exitUsage, "begins with https://"},
		"url and domain":              {[]string{"http", "80", "--url", "a.localhost", "--domain", "b.localhost"}, exitUsage, "keep one of them"},
		"domain with a port":          {[]string{"http", "80", "--domain", "a.localhost:1"}, exitUsage, "--url https://NAME:PORT"},
		"a wildcard":                  {[]string{"http", "80", "--domain", "*.localhost"}, exitFailed, "wildcard"},
		"key alone":                   {[]string{"http", "80", "--key", key}, exitUsage, "--crt"},
		"traffic policy":              {[]string{"http", "80", "--traffic-policy-file", key}, exitUsage, "not in this version"},
		"PROXY version":               {[]string{"http", "80", "--upstream-proxy-protocol", "3"}, exitUsage, "1 or 2"},
		"missing file":                {[]string{"http", "80", "--mutual-tls-cas", junk + ".none"}, exitFailed, "no such file"},
		"large file":                  {[]string{"http", "80", "--mutual-tls-cas", large}, exitFailed, "larger than"},
		"no CA in it":                 {[]string{"http", "80", "--mutual-tls-cas", junk}, exitFailed, "--mutual-tls-cas"},
		"a client's certificate":      {[]string{"http", "80", "--mutual-tls-cas", leaf}, exitFailed, "--mutual-tls-cas"},
		"a key for a CA":              {[]string{"http", "80", "--mutual-tls-cas", key}, exitFailed, "private key"},
		"another key":                 {[]string{"http", "80", "--crt", leaf, "--key", key}, exitFailed, "key"},
		"place unknown":               {[]string{"tls", "443", "--terminate-at", "cloud"}, exitUsage, "must be upstream"},
		"agent without a name":        {[]string{"tls", "443", "--terminate-at", "agent"}, exitUsage, "--domain"},
		"a token at the edge":         {[]string{"tls", "443", "--terminate-at", "edge", "--token", "x"}, exitUsage, "for --terminate-at agent"},
		"agent with another key":      {[]string{"tls", "443", "--terminate-at", "agent", "--domain", "a.localhost", "--crt", leaf, "--key", key}, exitFailed, "key"},
		"no token":                    {[]string{"tls", "443", "--terminate-at", "agent", "--gateway", "127.0.0.1:1"}, exitUsage, "token"},
		"upstream without a name":     {[]string{"tls", "443"}, exitUsage, "--domain"},
		"upstream with CAs":           {[]string{"tls", "443", "--domain", "a.localhost", "--mutual-tls-cas", leaf}, exitUsage, "ERR_NGROK_1694"},
		"starttls sealed":             {[]string{"tls", "443", "--domain", "a.localhost", "--starttls", "postgres"}, exitUsage, "leave it out"},
		"starttls unknown":            {[]string{"tls", "443", "--terminate-at", "edge", "--starttls", "smtp"}, exitUsage, "must be postgres"},
		"upstream with a certificate": {[]string{"tls", "443", "--domain", "a.localhost", "--crt", leaf}, exitUsage, "--terminate-at edge"},
		"whoami sealed":               {[]string{"tls", "whoami", "--domain", "a.localhost"}, exitFailed, "tcp://host:port"},
		"address of another machine":  {[]string{"http", "80", "--listen", "192.0.2.1"}, exitAddress, "no address of this machine"},
		"interface":                   {[]string{"http", "80", "--listen", "here"}, exitFailed, "--listen"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := dataDir(t)
			out, errs, code := run(t, []string{"COUNTERSIGN_DATA=" + data}, c.args...)
			if code != c.code || !strings.Contains(errs, c.says) || out != "" {
				t.Errorf("exit %d, want %d:\n%s%s", code, c.code, out, errs)
			}
			if _, err := os.Stat(data); c.code == exitUsage && err == nil {
				t.Error("a wrong command line made a data directory")
			}
		})
	}
}

func TestUpstreamOf(t *testing.T) {
	for _, c := range []struct {
		scheme    termination.Scheme
		at        termination.TerminateAt
		text, out string
	}{
		{"https", "edge", "80", "http://localhost:80"},
		{"https", "edge", ":8080", "http://localhost:8080"},
		{"https", "edge", "10.0.0.7:80", "http://10.0.0.7:80"},
		{"https", "edge", "[::1]:80", "http://[::1]:80"},
		{"https", "edge", "https://api.internal", "https://api.internal"},
		{"https", "edge", "h2c://localhost:9", "h2c://localhost:9"},
		{"https", "edge", "unix:/run/app.sock", "unix:/run/app.sock"},
		{"https", "edge", "whoami", "whoami"},
		{"tls", "upstream", "443", "tcp://localhost:443"},
		{"tls", "upstream", "https://api.internal", "tcp://api.internal:443"},
		{"tls", "upstream", "tls://api.internal:1", "tcp://api.internal:1"},
		{"tls", "edge", "https://api.internal", "tls://api.internal:443"},
		{"tls", "edge", "http://api.internal", "tcp://api.internal:80"},
		{"tls", "edge", "db:5432", "tcp://db:5432"},
	} {
		if got, err := upstreamOf(c.scheme, c.at, c.text); err != nil || got != c.out {
			t.Errorf("%s at %s: %q, %v, want %q", c.text, c.at, got, err, c.out)
		}
	}
}

func TestFlagsOfCommandsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	p := &program{}
	for _, c := range []*cobra.Command{p.httpCommand(), p.tlsCommand(), p.proveCommand()} {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(string(doc), "`--"+f.Name) {
				t.Errorf("docs/configuration.md does not name --%s of %s", f.Name, c.Name())
			}
		})
	}
}
