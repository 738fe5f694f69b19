package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/agent"
	"countersign/termination/localca"
	"countersign/termination/tunnel"
)

// An agent's directory says which endpoint it serves. A token or a flag that says another is refused: the clients of one
// name would get the service of another.
func TestAgentDirectoryOfAnotherEndpoint(t *testing.T) {
	ca, err := localca.CreateAgentCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := localca.SignAgent(ca, "agt_1", &x509.CertificateRequest{PublicKey: key.Public()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "agent")
	state, err := agent.OpenState(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = state.Keep(&tunnel.Identity{
		ID: "agt_1", EndpointID: "ep_1", Endpoint: "one", Key: key, Certificate: cert, CA: ca.Certificate, Gateways: []string{"127.0.0.1:1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	token := termination.JoinToken{Gateways: []string{"127.0.0.1:1"}, CA: termination.FingerprintOf(ca.Certificate), Endpoint: "two", Secret: termination.NewJoinSecret()}
	other := token
	other.CA[0] ^= 1
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"token":           {[]string{"--token", token.String()}, `"one", not of "two"`},
		"flag":            {[]string{"--endpoint", "two"}, `"one", not of "two"`},
		"another gateway": {[]string{"--token", other.String(), "--endpoint", "one"}, "another gateway"},
	} {
		out, errs, code := run(t, nil, append([]string{"agent", "--upstream", "http://127.0.0.1:1", "--data", dir}, c.args...)...)
		if code == 0 || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit %d: %s%s", name, code, out, errs)
		}
	}
}
