package credential

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"countersign/termination"
	"countersign/termination/tlstest"
)

const longToken = "0123456789abcdef0123456789abcdef"

func tokenHash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func passwordHash(t testing.TB, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), termination.MinPasswordCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func basic(user, password string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}}
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func read(t testing.TB, h http.Header) Presented {
	t.Helper()
	p, err := Read(h)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// clock is a clock that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)} }

func here() netip.Addr  { return netip.MustParseAddr("192.0.2.1") }
func there() netip.Addr { return netip.MustParseAddr("192.0.2.2") }

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		kind  termination.ProofKind
		user  string
		bad   bool
	}{
		{"none", nil, "", "", false},
		{"token", []string{"Bearer abc.DEF-_~+/=="}, termination.ProofBearer, "", false},
		{"scheme in another case", []string{"bEaReR abc"}, termination.ProofBearer, "", false},
		{"two spaces", []string{"Bearer  abc"}, termination.ProofBearer, "", false},
		{"password", basic("ann", "a:b")["Authorization"], termination.ProofBasic, "ann", false},
		{"empty password", basic("ann", "")["Authorization"], termination.ProofBasic, "ann", false},
		{"another scheme", []string{`Digest username="ann"`}, "", "", false},
		{"scheme alone", []string{"Negotiate"}, "", "", false},
		{"twice", []string{"Bearer abc", "Bearer abc"}, "", "", true},
		{"no token", []string{"Bearer"}, "", "", true},
		{"no token after the space", []string{"Bearer "}, "", "", true},
		{"only padding", []string{"Bearer =="}, "", "", true},
		{"two tokens", []string{"Bearer abc, Bearer def"}, "", "", true},
		{"token and parameter", []string{"Bearer abc realm=x"}, "", "", true},
		{"padding in the middle", []string{"Bearer a=b"}, "", "", true},
		{"tab", []string{"Bearer\tabc"}, "", "", true},
		{"no scheme", []string{""}, "", "", true},
		{"space first", []string{" Bearer abc"}, "", "", true},
		{"list", []string{"Basic,Bearer abc"}, "", "", true},
		{"no base64", []string{"Basic ann:secret"}, "", "", true},
		{"no padding", []string{"Basic YTpiYw"}, "", "", true},
		{"bits too many", []string{"Basic YTpiYx=="}, "", "", true},
		{"no colon", []string{"Basic " + base64.StdEncoding.EncodeToString([]byte("ann"))}, "", "", true},
		{"control character", basic("ann", "a\x00b")["Authorization"], "", "", true},
		{"no UTF-8", basic("ann", "\xff")["Authorization"], "", "", true},
		{"line break in base64", []string{"Basic YTpi\nYzpk"}, "", "", true},
		{"too long", []string{"Bearer " + strings.Repeat("a", maxHeader)}, "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Read(http.Header{"Authorization": c.lines})
			if (err != nil) != c.bad || p.Kind != c.kind || p.User != c.user {
				t.Errorf("read %q of %q, %v", p.Kind, p.User, err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{"", "Bearer abc", "Basic YTpiYw==", "Basic ,", "Bearer a b", "Digest x=y", "Basic Og=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Read(http.Header{"Authorization": {s}})
		if err != nil {
			if p != (Presented{}) {
				t.Errorf("an error, and %+v", p)
			}
			for _, word := range strings.Fields(s) {
				if len(word) > 12 && strings.Contains(err.Error(), word) {
					t.Errorf("%q gives the request's own words back", err)
				}
			}
			return
		}
		// What was read and is written again is read alike.
		again := bearer(p.secret)
		switch p.Kind {
		case termination.ProofBasic:
			again = basic(p.User, p.secret)
		case "":
			return
		default: // a token
		}
		if q, err := Read(again); err != nil || q != p {
			t.Errorf("%+v was written and read as %+v, %v", p, q, err)
		}
	})
}

func TestTokens(t *testing.T) {
	at := newClock()
	c := New(Options{Now: at.now})
	set := NewSet(&termination.Config{Credentials: []termination.Credential{
		{ID: "cred_1", Name: "ci", Kind: termination.ProofBearer, Hash: tokenHash(longToken)},
		{ID: "cred_2", Name: "short", Kind: termination.ProofBearer, Hash: tokenHash("short")},
	}})
	check := func(token string, from netip.Addr) (string, error) {
		found, err := c.Check(context.Background(), set, read(t, bearer(token)), from)
		if found == nil {
			return "", err
		}
		return found.Name, err
	}
	if name, err := check(longToken, here()); name != "ci" || err != nil {
		t.Errorf("found %q, %v", name, err)
	}
	for _, wrong := range []string{longToken + "0", longToken[1:], strings.ToUpper(longToken), tokenHash(longToken)[7:]} {
		if name, err := check(wrong, there()); name != "" || !errors.Is(err, ErrWrong) {
			t.Errorf("%q found %q, %v", wrong, name, err)
		}
	}
	// Who is often wrong has to wait, with a token that could be found by trying even when it is right.
	for range failuresAtOnce {
		c.Failed(here())
	}
	if _, err := check("wrong", here()); !errors.Is(err, ErrSlowed) {
		t.Errorf("after %d failures: %v", failuresAtOnce, err)
	}
	if _, err := check("short", here()); !errors.Is(err, ErrSlowed) {
		t.Errorf("a short token after %d failures: %v", failuresAtOnce, err)
	}
	if name, err := check(longToken, here()); name != "ci" || err != nil {
		t.Errorf("a long token waits for its neighbours: %q, %v", name, err)
	}
	if name, err := check("short", there()); name != "short" || err != nil {
		t.Errorf("another address waits too: %q, %v", name, err)
	}
	at.pass(FailureEvery)
	if name, err := check("short", here()); name != "short" || err != nil {
		t.Errorf("after the wait: %q, %v", name, err)
	}
}

func TestPasswords(t *testing.T) {
	at := newClock()
	c := New(Options{Now: at.now})
	hash := passwordHash(t, "correct horse")
	config := &termination.Config{Credentials: []termination.Credential{{ID: "cred_1", Name: "ann", User: "ann", Kind: termination.ProofBasic, Hash: hash}}}
	set := NewSet(config)
	check := func(set *Set, user, password string) error {
		found, err := c.Check(context.Background(), set, read(t, basic(user, password)), here())
		if (found == nil) == (err == nil) {
			t.Errorf("found %v and %v", found, err)
		}
		return err
	}
	if err := check(set, "ann", "correct horse"); err != nil {
		t.Error(err)
	}
	for _, wrong := range [][2]string{{"ann", "correct hors"}, {"ann", ""}, {"bob", "correct horse"}, {"Ann", "correct horse"}, {"", "correct horse"}, {"ann", strings.Repeat("x", maxPassword+1)}} {
		if err := check(set, wrong[0], wrong[1]); !errors.Is(err, ErrWrong) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	// What is remembered goes with the hash: after a change of the password the old one is wrong.
	config.Credentials[0].Hash = passwordHash(t, "battery staple")
	if err := check(NewSet(config), "ann", "correct horse"); !errors.Is(err, ErrWrong) {
		t.Errorf("the password of before: %v", err)
	}
	if err := check(NewSet(&termination.Config{}), "ann", "correct horse"); !errors.Is(err, ErrWrong) {
		t.Errorf("nobody is there: %v", err)
	}
}

// A password that was right is remembered, so that the requests after it cost no hash; one that was wrong is not.
func TestRemembered(t *testing.T) {
	at := newClock()
	c := New(Options{Now: at.now})
	set := NewSet(&termination.Config{Credentials: []termination.Credential{{ID: "cred_1", Name: "ann", User: "ann", Kind: termination.ProofBasic, Hash: passwordHash(t, "secret")}}})
	check := func(password string) error {
		// With an end that has come, only what needs no slot succeeds: all are taken.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := c.Check(ctx, set, read(t, basic("ann", password)), here())
		return err
	}
	if _, err := c.Check(context.Background(), set, read(t, basic("ann", "secret")), here()); err != nil {
		t.Fatal(err)
	}
	for range cap(c.slots) {
		c.slots <- struct{}{}
	}
	if err := check("secret"); err != nil {
		t.Errorf("it was not remembered: %v", err)
	}
	if err := check("Secret"); err == nil {
		t.Error("another password is right")
	}
	at.pass(rightFor)
	if err := check("secret"); !errors.Is(err, context.Canceled) {
		t.Errorf("it is remembered for ever: %v", err)
	}
	for i := range 3 * rightsKept {
		c.right.add(fmt.Sprint(i), at.now())
	}
	if n := len(c.right.newer) + len(c.right.older); n > 2*rightsKept {
		t.Errorf("%d passwords are remembered", n)
	}
}

// A user who does not exist costs the work that one costs who does, and the same for the same name.
func TestDecoy(t *testing.T) {
	config := &termination.Config{}
	for i := range 5 {
		config.Credentials = append(config.Credentials, termination.Credential{
			ID: fmt.Sprint(i), Name: fmt.Sprint(i), User: fmt.Sprint("user", i), Kind: termination.ProofBasic, Hash: passwordHash(t, fmt.Sprint(i)),
		})
	}
	set, key := NewSet(config), []byte("key")
	seen := map[string]bool{}
	for i := range 200 {
		name := fmt.Sprint("nobody", i)
		c, hash := set.password(name, key)
		_, again := set.password(name, key)
		if c != nil || hash == "" || hash != again {
			t.Fatalf("%v, %q, %q", c, hash, again)
		}
		seen[hash] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d of 5 hashes serve as decoys", len(seen))
	}
	// The decoy's own password lets nobody in.
	checker := New(Options{})
	for i := range 5 {
		if _, err := checker.Check(context.Background(), set, read(t, basic("nobody", fmt.Sprint(i))), here()); !errors.Is(err, ErrWrong) {
			t.Errorf("with the password of user%d: %v", i, err)
		}
	}
}

// However many passwords come at once, few are checked, and few wait.
func TestBusy(t *testing.T) {
	c := New(Options{})
	set := NewSet(&termination.Config{Credentials: []termination.Credential{{ID: "cred_1", Name: "ann", User: "ann", Kind: termination.ProofBasic, Hash: passwordHash(t, "secret")}}})
	for range cap(c.slots) {
		c.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	results := make(chan error, 300)
	for i := range 300 {
		from := netip.AddrFrom4([4]byte{10, 0, byte(i % 100), 1})
		running.Go(func() {
			_, err := c.Check(ctx, set, read(t, basic("ann", "wrong")), from)
			results <- err
		})
	}
	for range 300 - maxWaiting {
		if err := <-results; !errors.Is(err, ErrBusy) {
			t.Errorf("one that is too many: %v", err)
		}
	}
	for range 3 { // one address cannot take all places
		running.Go(func() { _, _ = c.Check(ctx, set, read(t, basic("ann", "wrong")), here()) })
	}
	cancel()
	running.Wait()
	if c.waiting != 0 || len(c.from) != 0 {
		t.Errorf("%d still wait, from %d networks", c.waiting, len(c.from))
	}
}

func TestUsable(t *testing.T) {
	now := newClock().now()
	alice, bob := tlstest.SelfSigned(tlstest.CN("alice")).X509, tlstest.SelfSigned(tlstest.CN("bob")).X509
	pin := termination.Pin{Fingerprint: termination.FingerprintOf(alice)}
	key := termination.Pin{Fingerprint: termination.KeyFingerprintOf(alice), Key: true}
	for _, c := range []struct {
		name string
		with termination.Credential
		use  Use
		ok   bool
	}{
		{"anywhere", termination.Credential{}, Use{Endpoint: "api"}, true},
		{"blocked", termination.Credential{Blocked: true}, Use{Endpoint: "api"}, false},
		{"a moment before its end", termination.Credential{Expires: now.Add(1)}, Use{Endpoint: "api"}, true},
		{"at its end", termination.Credential{Expires: now}, Use{Endpoint: "api"}, false},
		{"its endpoint", termination.Credential{Endpoints: []string{"web", "api"}}, Use{Endpoint: "api"}, true},
		{"another endpoint", termination.Credential{Endpoints: []string{"web"}}, Use{Endpoint: "api"}, false},
		{"its certificate", termination.Credential{Pin: &pin}, Use{Leaf: alice}, true},
		{"its key", termination.Credential{Pin: &key}, Use{Leaf: alice}, true},
		{"another certificate", termination.Credential{Pin: &pin}, Use{Leaf: bob}, false},
		{"no certificate", termination.Credential{Pin: &pin}, Use{}, false},
		{"its identity", termination.Credential{Identity: "billing"}, Use{Identity: "billing"}, true},
		{"another identity", termination.Credential{Identity: "billing"}, Use{Identity: "other"}, false},
		{"no identity", termination.Credential{Identity: "billing"}, Use{Leaf: alice}, false},
	} {
		c.use.Now = now
		if got := Usable(&c.with, c.use); (got == "") != c.ok {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// The networks that are remembered are bounded, and IPv6 addresses of one host count as one.
func TestFailures(t *testing.T) {
	at := newClock()
	f := newFailures()
	for i := range 3 * failuresKept {
		f.add(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), at.now())
	}
	if len(f.free) > failuresKept {
		t.Errorf("%d networks are remembered", len(f.free))
	}
	for i := range failuresAtOnce {
		f.add(netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1)), at.now())
	}
	if !f.full(netip.MustParseAddr("2001:db8::ffff"), at.now()) || f.full(netip.MustParseAddr("2001:db8:0:1::1"), at.now()) {
		t.Error("IPv6 is not counted by /64")
	}
	for range 1000 {
		f.add(here(), at.now())
	}
	at.pass(failuresAtOnce * FailureEvery)
	if f.full(here(), at.now()) {
		t.Error("many failures keep a client away for longer than a few")
	}
}

func BenchmarkRemembered(b *testing.B) {
	c := New(Options{})
	set := NewSet(&termination.Config{Credentials: []termination.Credential{{ID: "cred_1", Name: "ann", User: "ann", Kind: termination.ProofBasic, Hash: passwordHash(b, "secret")}}})
	h := basic("ann", "secret")
	for b.Loop() {
		if _, err := c.Check(context.Background(), set, read(b, h), here()); err != nil {
			b.Fatal(err)
		}
	}
}

// What is made here is what is checked here.
func TestMade(t *testing.T) {
	token, hash := NewToken()
	password := NewPassword()
	bcrypted, err := HashPassword(password)
	if err != nil || CheckToken(token) != nil || termination.CheckHash(termination.ProofBearer, hash) != nil || termination.CheckHash(termination.ProofBasic, bcrypted) != nil {
		t.Fatalf("%q, %q, %q, %v", token, hash, bcrypted, err)
	}
	set := NewSet(&termination.Config{Credentials: []termination.Credential{
		{ID: "1", Name: "ci", Kind: termination.ProofBearer, Hash: hash}, {ID: "2", Name: "ann", User: "ann", Kind: termination.ProofBasic, Hash: bcrypted},
	}})
	c := New(Options{})
	for _, h := range []http.Header{bearer(token), basic("ann", password)} {
		if _, err := c.Check(context.Background(), set, read(t, h), here()); err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
	for _, bad := range []string{"", "short", "with space inside it", "über-0123456789abcdef"} {
		if CheckToken(bad) == nil {
			t.Errorf("%q passes as a token", bad)
		}
	}
	for _, bad := range []string{"", "seven77", strings.Repeat("x", 73), "line\nbreak", "\xff\xff\xff\xff\xff\xff\xff\xff"} {
		if _, err := HashPassword(bad); err == nil {
			t.Errorf("%q passes as a password", bad)
		}
	}
}
