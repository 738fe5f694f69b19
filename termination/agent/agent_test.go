package agent_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/agent"
	"countersign/termination/localca"
	"countersign/termination/tlstest"
	"countersign/termination/tunnel"
)

func open(t *testing.T, dir string) *agent.State {
	t.Helper()
	s, err := agent.OpenState(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// identity makes an agent as joining would.
func identity(t *testing.T) *tunnel.Identity {
	t.Helper()
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
	return &tunnel.Identity{ID: "agt_1", EndpointID: "ep_1", Endpoint: "a", Key: key, Certificate: cert, CA: ca.Certificate, Gateways: []string{"gw:1", "gw:2"}}
}

func TestStateIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "agent")
	s := open(t, dir)
	if id, err := s.Identity(); id != nil || err != nil {
		t.Fatalf("a new directory has %+v, %v", id, err)
	}
	id := identity(t)
	if err := s.Keep(id); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.OpenState(dir); err == nil || !strings.Contains(err.Error(), "another agent runs") {
		t.Errorf("opened twice: %v", err)
	}
	_ = s.Close()
	for _, name := range []string{".", "agent.json", "agent.lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	got, err := open(t, dir).Identity()
	if err != nil || !reflect.DeepEqual(got, id) {
		t.Errorf("%+v, %v", got, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".agent-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind %v, %v", left, err)
	}
}

func TestStateIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		says  string
	}{
		"directory of all": {func(dir string) error { return os.Chmod(dir, 0o755) }, "chmod go="},
		"file of all":      {func(dir string) error { return os.Chmod(filepath.Join(dir, "agent.json"), 0o644) }, "chmod go="},
		"cut off":          {func(dir string) error { return os.Truncate(filepath.Join(dir, "agent.json"), 40) }, "let the agent join"},
		"of the future": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "agent.json"), []byte(`{"form":2}`), 0o600)
		}, "another version"},
		"another's certificate": {func(dir string) error {
			path := filepath.Join(dir, "agent.json")
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, []byte(strings.Replace(string(b), "agt_1", "agt_2", 1)), 0o600)
		}, "another agent's"},
	} {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir)
		if err := s.Keep(identity(t)); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		again, err := agent.OpenState(dir)
		if err == nil {
			_, err = again.Identity()
			_ = again.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A certificate that is replaced in its files is used, and one that is only half replaced is not.
func TestFilesAreReadAgain(t *testing.T) {
	ca := tlstest.NewCA(tlstest.CN("CA"))
	one, two := ca.Server("a.test"), ca.Server("a.test")
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	write := func(path string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(cert, one.PEM())
	write(key, one.KeyPEM())
	f := &agent.Files{Certificate: cert, Key: key, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	if err := f.Read(); err != nil {
		t.Fatal(err)
	}
	serves := func(want *tlstest.Cert) {
		t.Helper()
		if c, err := f.For(t.Context(), nil); err != nil || !c.Leaf().Equal(want.X509) {
			t.Errorf("%v", err)
		}
	}
	if f.Changed(nil) {
		t.Error("changed by itself")
	}
	write(cert, two.PEM())
	if f.Changed(nil) {
		t.Error("a certificate without its key was taken")
	}
	serves(one)
	write(key, two.KeyPEM())
	if !f.Changed(nil) {
		t.Error("not noticed")
	}
	serves(two)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	serves(two)
	for name, bad := range map[string]*agent.Files{
		"absent":    {Certificate: filepath.Join(dir, "none")},
		"wrong key": {Certificate: cert, Key: one.WriteFiles(t, dir).Key},
		"no key":    {Certificate: cert},
	} {
		bad.Now, bad.Log = time.Now, slog.New(slog.DiscardHandler)
		if err := bad.Read(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// The agent asks for a certificate when it has none for the names, and when it is due; a gateway that does not answer
// leaves the one that is still good.
func TestIssued(t *testing.T) {
	ca, err := localca.Create(localca.Options{Name: "Local CA", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	now, asked, away := time.Now(), 0, false
	names := []string{"a.test", "*.b.test"}
	var said bytes.Buffer
	i := &agent.Issued{State: open(t, dir), Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&said, nil))}
	i.Certify = func(_ context.Context, key crypto.Signer) ([]*x509.Certificate, error) {
		if asked++; away {
			return nil, errors.New("away")
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return nil, err
		}
		return localca.SignServer(ca, csr, names, now, 90)
	}
	get := func(want int) termination.Certificate {
		t.Helper()
		c, err := i.For(t.Context(), names)
		if err != nil || asked != want {
			t.Fatalf("asked %d times, want %d; %v", asked, want, err)
		}
		return c
	}
	first := get(1)
	if get(1); i.Changed(names) {
		t.Error("a fresh certificate is due")
	}
	names = append(names, "c.test")
	if !i.Changed(names) {
		t.Error("a new name is not noticed")
	}
	second := get(2)
	if second.Key.(*ecdsa.PrivateKey).Equal(first.Key) != true {
		t.Error("the key changed")
	}
	now, away = now.Add(70*24*time.Hour), true
	if !i.Changed(names) {
		t.Error("what is due is not noticed")
	}
	get(3) // refused, and still good
	if !strings.Contains(said.String(), "was not renewed") || !strings.Contains(said.String(), "away") {
		t.Errorf("nobody is told that it will end: %q", &said)
	}
	said.Reset()
	if i.Changed(names) {
		t.Error("the gateway is asked again at once")
	}
	now = now.Add(2 * time.Minute)
	if !i.Changed(names) {
		t.Error("the gateway is never asked again")
	}
	if get(4); said.Len() > 0 {
		t.Errorf("said again: %q", &said)
	}
	now = now.Add(30 * 24 * time.Hour)
	if _, err := i.For(t.Context(), names); err == nil || !strings.Contains(err.Error(), "--crt") {
		t.Errorf("an ended certificate is used: %v", err)
	}
}

// A directory that cannot be written to keeps nobody out.
func TestIssuedWithFullDisk(t *testing.T) {
	ca, err := localca.Create(localca.Options{Name: "Local CA", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "agent")
	var said bytes.Buffer
	i := &agent.Issued{State: open(t, dir), Now: time.Now, Log: slog.New(slog.NewTextHandler(&said, nil))}
	i.Certify = func(_ context.Context, key crypto.Signer) ([]*x509.Certificate, error) {
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return nil, err
		}
		return localca.SignServer(ca, csr, []string{"a.test"}, time.Now(), 90)
	}
	if err := os.RemoveAll(dir); err != nil { // which fails as a full disk does, for root too
		t.Fatal(err)
	}
	c, err := i.For(t.Context(), []string{"a.test"})
	if err != nil || len(c.Chain) == 0 || !strings.Contains(said.String(), "cannot be kept") {
		t.Errorf("%v, said %q", err, &said)
	}
}
