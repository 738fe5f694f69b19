package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func TestServiceOfAnAgent(t *testing.T) {
	ca := tlstest.NewCA()
	own := ca.Client("agent").WriteFiles(t, t.TempDir())
	cas := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(cas, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	o := serviceOptions{
		targets: []string{"https://10.0.0.1", "https://10.0.0.2:8443"}, cas: cas, name: "inside.example", crt: own.Cert, key: own.Key, proxy: "2",
	}
	u, err := o.upstream()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(u.Texts(), " ") != "https://10.0.0.1:443 https://10.0.0.2:8443" || u.TLS.ServerName != "inside.example" || u.Policy.ProxyProtocol != termination.ProxyProtocolV2 {
		t.Errorf("got %+v", u)
	}
	if len(u.TLS.Roots) != 1 || !u.TLS.Roots[0].Equal(ca.X509) || u.TLS.Client == nil || u.TLS.Client.Key == nil {
		t.Errorf("roots %v, own certificate %v", u.TLS.Roots, u.TLS.Client)
	}
}

func TestServiceOfAnAgentIsRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, other := tlstest.NewCA().Client("one").WriteFiles(t, t.TempDir()), tlstest.NewCA().Client("two").WriteFiles(t, t.TempDir())
	for name, test := range map[string]struct {
		o    serviceOptions
		says string
	}{
		"nothing":             {serviceOptions{}, "name the service with --upstream"},
		"a built-in":          {serviceOptions{targets: []string{"whoami"}}, "runs in the gateway"},
		"mixed":               {serviceOptions{targets: []string{"http://a:1", "tcp://b:2"}}, "differ in their scheme"},
		"CA without TLS":      {serviceOptions{targets: []string{"http://a:1"}, cas: "x"}, "no TLS is spoken"},
		"key alone":           {serviceOptions{targets: []string{"https://a"}, key: one.Key}, "--upstream-key needs --upstream-crt"},
		"PROXY version":       {serviceOptions{targets: []string{"http://a:1"}, proxy: "3"}, "must be 1 or 2"},
		"no such CA":          {serviceOptions{targets: []string{"https://a"}, cas: filepath.Join(dir, "none")}, "name a file that is there"},
		"CA file of nothing":  {serviceOptions{targets: []string{"https://a"}, cas: write("text", "hello\n")}, "--upstream-tls-verify-cas"},
		"key of another":      {serviceOptions{targets: []string{"https://a"}, crt: one.Cert, key: other.Key}, "--upstream-crt"},
		"certificate is none": {serviceOptions{targets: []string{"https://a"}, crt: write("crt", "hello\n")}, "--upstream-crt"},
	} {
		if _, err := test.o.upstream(); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
	}
}
