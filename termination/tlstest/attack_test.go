package tlstest

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// public is an authority that the system trusts, as far as this process goes.
var public *Cert

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tlstest")
	if err != nil {
		panic(err)
	}
	if public, err = TrustedBySystem(dir); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// Each attack gets in where the flaw is that it is made for, and by nothing at a
// server without flaws. Else it would prove nothing elsewhere.
func TestAttacks(t *testing.T) {
	careful := Serve(t, Naive())
	for _, attack := range Attacks(public) {
		t.Run(attack.Name+", naive", func(t *testing.T) {
			t.Parallel()
			got := attack.Run(t, Naive(attack.Flaws...))
			if len(got) == 0 {
				t.Error("the attack does not work")
			}
			t.Logf("got in by %q", got)
		})
		t.Run(attack.Name+", careful", func(t *testing.T) {
			var got []string
			if attack.Changes {
				t.Parallel()
				got = attack.Run(t, Naive())
			} else {
				got = attack.At(t, careful)
			}
			if len(got) > 0 {
				t.Errorf("got in by %q", got)
			}
		})
	}
}

// The control notices servers on which attacks would fail, or succeed, for the
// wrong reason.
func TestControl(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*World, Target)
		want  string
	}{
		"as it should be":      {func(*World, Target) {}, ""},
		"serves too few":       {func(_ *World, target Target) { target.Orphan() }, "alice at staff.example.test/"},
		"serves too many":      {func(w *World, _ Target) { w.Alice = w.Bob }, "alice at vault.example.test/"},
		"nobody is asked more": {func(w *World, target Target) { w.Alice = nil }, "alice at open.example.test/private"},
	} {
		w := NewWorld(t)
		target := Naive()(t, w)
		c.spoil(w, target)
		wrong := strings.Join((&raid{t: t, world: w, target: target}).control(), "\n")
		if (wrong == "") != (c.want == "") || !strings.Contains(wrong, c.want) {
			t.Errorf("%s: got %q", name, wrong)
		}
	}
}
