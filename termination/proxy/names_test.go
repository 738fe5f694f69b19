package proxy

import (
	"errors"
	"testing"

	"countersign/termination"
)

func someNames(t testing.TB) *Names[string] {
	n := NewNames[string]()
	for _, name := range []string{"a.test", "*.wild.test", "own.wild.test", "xn--bcher-kva.test", "*.deep.wild.test"} {
		if err := n.Add(name, name); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestNames(t *testing.T) {
	for raw, want := range map[string]string{
		"a.test": "a.test", "A.TEST": "a.test", "a.test.": "a.test", "a.test:443": "a.test", "A.Test.:1": "a.test",
		"x.wild.test": "*.wild.test", "X.WILD.TEST.": "*.wild.test", "own.wild.test": "own.wild.test", "wild.test": "", "x.y.wild.test": "",
		"x.deep.wild.test": "*.deep.wild.test", "deep.wild.test": "*.wild.test",
		"bücher.test": "xn--bcher-kva.test", "BÜCHER.test": "xn--bcher-kva.test", "xn--bcher-kva.test": "xn--bcher-kva.test",
		"": "", "b.test": "", "*.wild.test": "", "*": "", ".wild.test": "", "a..test": "", "127.0.0.1": "", "[::1]": "", "::1": "",
	} {
		if got, m := someNames(t).Lookup(raw); got != want || (m == MatchNone) != (want == "") {
			t.Errorf("%q leads to %q (%v), want %q", raw, got, m, want)
		}
	}
	n := someNames(t)
	if err := n.SetFallback("fallback"); err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]Match{
		"": MatchFallback, "b.test": MatchFallback, "127.0.0.1": MatchFallback, "127.0.0.1:8443": MatchFallback, "127.0.0.1.": MatchFallback,
		"[::1]": MatchFallback, "[::1]:8443": MatchFallback, "::1": MatchFallback, "a.test": MatchExact, "x.wild.test": MatchWildcard,
		"*.wild.test": MatchNone, "a..test": MatchNone, "a b": MatchNone, "a\x00.test": MatchNone, "a.test\n": MatchNone,
		"[::1": MatchNone, "[127.0.0.1]": MatchNone, "[fe80::1%eth0]": MatchNone, "[::1]:x": MatchNone, "a.test:x": MatchNone,
	} {
		if _, got := n.Lookup(raw); got != want {
			t.Errorf("%q: %v, want %v", raw, got, want)
		}
	}
	if v, ok := n.Fallback(); !ok || v != "fallback" {
		t.Errorf("the fallback is %q, %v", v, ok)
	}
	if v, ok := someNames(t).Fallback(); ok || v != "" {
		t.Errorf("there is a fallback: %q", v)
	}
}

func TestNamesRefuse(t *testing.T) {
	n := someNames(t)
	for _, name := range []string{"a.test", "*.wild.test"} {
		if err := n.Add(name, "again"); !errors.Is(err, ErrNameTaken) {
			t.Errorf("%q twice: %v", name, err)
		}
	}
	for _, name := range []string{"", "A.test", "b.test.", "b.test:1", "127.0.0.1", "a..b", "*", "*.", "*.*.test", "a.*.test", "bücher.test"} {
		if err := n.Add(name, "x"); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	if err := n.SetFallback("one"); err != nil {
		t.Fatal(err)
	}
	if err := n.SetFallback("two"); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a second fallback: %v", err)
	}
}

func TestMatchString(t *testing.T) {
	for m, want := range map[Match]string{MatchNone: "none", MatchExact: "exact", MatchWildcard: "wildcard", MatchFallback: "fallback"} {
		if m.String() != want {
			t.Errorf("%d is %q", m, m)
		}
	}
}

// FuzzNames: two names that are the same once normalised lead to the same value, in whatever spelling either comes, and
// what is no name leads nowhere.
func FuzzNames(f *testing.F) {
	for _, raw := range []string{"a.test", "X.Wild.Test.:8443", "", "127.0.0.1", "[::1]:1", "bücher.test", "*.wild.test", "a..test", "a\x00b", "[fe80::1%a]"} {
		f.Add(raw, "A.TEST.")
	}
	names := someNames(f)
	if err := names.SetFallback("fallback"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, sni, host string) {
		one, oneErr := NormalizePeerName(sni)
		two, twoErr := NormalizePeerName(host)
		v, m := names.Lookup(sni)
		w, o := names.Lookup(host)
		if oneErr == nil && twoErr == nil && one == two && (v != w || m != o) {
			t.Fatalf("%q leads to %q (%v), %q to %q (%v)", sni, v, m, host, w, o)
		}
		if (oneErr != nil) != (m == MatchNone) {
			t.Fatalf("%q: %v, but %v", sni, oneErr, m)
		}
		if oneErr != nil {
			return
		}
		// The normal form leads where the name itself does, and is what configuration would hold.
		if again, n := names.Lookup(one); again != v || n != m {
			t.Fatalf("%q leads to %q, its normal form %q to %q", sni, v, one, again)
		}
		if one != "" {
			if normal, err := termination.NormalizeName(one); err != nil || normal != one {
				t.Fatalf("the normal form of %q is %q, of that %q, %v", sni, one, normal, err)
			}
			if fresh := NewNames[bool](); fresh.Add(one, true) != nil {
				t.Fatalf("%q cannot be configured", one)
			}
		}
	})
}
