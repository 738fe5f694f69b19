package store

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

const tsigKey = "dGhlIHBhc3N3b3JkIG9mIHRoZSBETlMgcHJvdmlkZXI="

func TestACMEComesBackAsItWentIn(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	s := openIn(t, dir, testOptions(c))
	want := termination.ACME{
		Directory: "https://ca.example/dir", Email: "ops@example.com", HTTP: netip.MustParseAddrPort("0.0.0.0:80"),
		Roots: []*x509.Certificate{tlstest.NewCA().X509},
		DNS:   termination.ACMEDNS{Provider: "rfc2136", Settings: map[string]string{"server": "10.0.0.53:53", "key_name": "acme", "key": tsigKey}},
	}
	config := change(t, s, func(tx *Tx) error { return tx.SetACME(want) })
	if !reflect.DeepEqual(config.ACME, want) {
		t.Errorf("came back as %+v", config.ACME)
	}
	again := change(t, s, func(tx *Tx) error { return tx.SetACME(want) })
	if again.Revision != config.Revision {
		t.Errorf("the same secrets made revision %d of %d", again.Revision, config.Revision)
	}
	want.DNS.Settings = map[string]string{"server": "10.0.0.53:53", "key_name": "acme", "key": "b3RoZXI="}
	if config := change(t, s, func(tx *Tx) error { return tx.SetACME(want) }); config.ACME.DNS.Settings["key"] != "b3RoZXI=" || config.Revision == again.Revision {
		t.Errorf("another secret: %+v, revision %d", config.ACME.DNS, config.Revision)
	}

	// The file's part wins, and takes its secrets with it when it goes.
	declared := termination.ACME{Directory: "https://other.example/dir"}
	if config := change(t, s, func(tx *Tx) error { return tx.ReplaceDeclared(Declared{ACME: &declared}) }); config.ACME.Directory != declared.Directory {
		t.Errorf("declared: %+v", config.ACME)
	}
	if config := change(t, s, func(tx *Tx) error { return tx.ReplaceDeclared(Declared{}) }); !reflect.DeepEqual(config.ACME, want) {
		t.Errorf("undeclared: %+v", config.ACME)
	}
	if n := bytesOnDisk(t, dir, []byte("b3RoZXI=")) + bytesOnDisk(t, dir, []byte(tsigKey)); n != 0 {
		t.Errorf("%d files hold the secret as it is", n)
	}
}

// bytesOnDisk counts the files of the store in which something stands as it is.
func bytesOnDisk(t *testing.T, dir string, what []byte) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	n := 0
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && bytes.Contains(data, what) {
			n++
		}
	}
	return n
}

func TestACMEState(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	s := openIn(t, dir, testOptions(c))
	ctx := t.Context()
	a := s.ACMEState()
	secret := []byte("-----BEGIN EC PRIVATE KEY----- certainly")
	for _, key := range []string{"certs/ca/a.example/a.example.key", "certs/ca/a.example/a.example.crt", "certs/ca/ab", "certs/ca%"} {
		if err := a.Put(ctx, key, secret); err != nil {
			t.Fatal(err)
		}
	}
	got, modified, err := a.Get(ctx, "certs/ca/ab")
	if err != nil || !bytes.Equal(got, secret) || !modified.Equal(c.Now().Truncate(time.Millisecond)) {
		t.Errorf("%q of %s, %v", got, modified, err)
	}
	if keys, err := a.Keys(ctx, "certs/ca"); err != nil || len(keys) != 3 {
		t.Errorf("below certs/ca: %q, %v", keys, err)
	}
	if err := a.Delete(ctx, "certs/ca/a.example"); err != nil {
		t.Fatal(err)
	}
	if keys, err := a.Keys(ctx, ""); err != nil || strings.Join(keys, " ") != "certs/ca% certs/ca/ab" {
		t.Errorf("left: %q, %v", keys, err)
	}
	if _, _, err := a.Get(ctx, "certs/ca/a.example/a.example.key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleted: %v", err)
	}
	if err := a.Delete(ctx, "nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("delete nothing: %v", err)
	}
	if err := a.Put(ctx, "large", make([]byte, maxACMEValue+1)); err == nil {
		t.Error("a value of any size is kept")
	}
	if n := bytesOnDisk(t, dir, secret); n != 0 {
		t.Errorf("%d files hold a key as it is", n)
	}
}

func TestACMELocks(t *testing.T) {
	s, c := newStore(t)
	ctx := t.Context()
	one, two := s.ACMEState(), s.ACMEState()
	if err := one.Lock(ctx, "a.example"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := two.Lock(short, "a.example"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that another holds: %v", err)
	}
	if err := two.Unlock(ctx, "a.example"); err != nil {
		t.Fatal(err)
	}
	if taken, err := two.tryLock(ctx, "a.example"); taken || err != nil {
		t.Errorf("another let go of it: %t, %v", taken, err)
	}
	c.Add(acmeLease)
	if taken, err := two.tryLock(ctx, "a.example"); !taken || err != nil {
		t.Errorf("after its owner died: %t, %v", taken, err)
	}
	if err := two.Unlock(ctx, "a.example"); err != nil {
		t.Fatal(err)
	}
	if err := one.Lock(ctx, "a.example"); err != nil {
		t.Errorf("a free lock: %v", err)
	}
}
