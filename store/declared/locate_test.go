package declared

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/expression"
)

var update = flag.Bool("update", false, "write the golden files anew")

// config is what a gateway would serve of a declaration alone.
func config(d *Declaration) *termination.Config {
	c := &termination.Config{Authorities: d.Authorities, Certificates: d.Certificates, Endpoints: d.Endpoints, Identities: d.Identities, Blocked: d.Blocked, Credentials: d.Credentials, Limits: termination.DefaultLimits()}
	if d.ACME != nil {
		c.ACME = *d.ACME
	}
	if d.Defaults != nil {
		c.Defaults = *d.Defaults
	}
	return c
}

// golden compares what each configuration of a directory is answered with.
func golden(t *testing.T, pattern string, answer func(name, path string) error) {
	inputs, err := filepath.Glob(pattern)
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no configurations in %s: %v", pattern, err)
	}
	for _, input := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(input), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			dir := directory(t)
			err = answer(filepath.Base(input), write(t, dir, string(text)))
			if err == nil {
				t.Fatal("accepted")
			}
			list, ok := errors.AsType[Errors](err)
			if !ok {
				t.Fatalf("%T: %v", err, err)
			}
			for _, e := range list {
				if e.File != filepath.Join(dir, "countersign.yaml") || e.Problem == "" {
					t.Errorf("%+v", e)
				}
			}
			got := strings.ReplaceAll(strings.ReplaceAll(err.Error(), dir+"/", ""), dir, "DIR") + "\n"
			path := strings.TrimSuffix(input, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// What a file alone is refused for. The text beside each configuration holds the exact lines.
func TestRefused(t *testing.T) {
	golden(t, "testdata/refused/*.yaml", func(_, path string) error {
		_, err := Read(path, Options{Getenv: environment})
		return err
	})
}

// What only the validation of the whole finds, put on the lines of the file.
func TestInvalid(t *testing.T) {
	golden(t, "testdata/invalid/*.yaml", func(name, path string) error {
		d, err := Read(path, Options{Getenv: environment})
		if err != nil {
			t.Fatalf("refused too early:\n%v", err)
		}
		c := config(d)
		if name != "no_local_ca.yaml" {
			c.LocalCAs = []termination.LocalCA{{Name: "local"}}
		}
		err = c.Validate()
		if err == nil {
			err = expression.Validate(c)
		}
		return d.Locate(err)
	})
}

func TestLocateObjectionsOfTheStore(t *testing.T) {
	d := read(t, "endpoints:\n  - url: https://a.example.com\n    upstream: whoami\n    name: a\n")
	name := filepath.Base(d.Path)
	for _, c := range []struct {
		err  error
		want string
	}{
		{store.DeclaredTwiceError{Kind: store.KindEndpoint, Name: "a"}, name + `:4:11: the dashboard has an object of the kind endpoint named "a" already; rename or delete one of the two`},
		{store.InUseError{Kind: store.KindAuthority, Name: "old", By: []string{`endpoint "b"`}}, name + `: authority "old" left the file, but is needed by endpoint "b"; put it back, or take it out there first`},
		{termination.ValidationError{{Kind: "endpoint", Name: "a", Field: "upstream.tls", Problem: "p", Advice: "v"}}, name + `:3:15: endpoint "a", upstream.tls: p; v`},
		{termination.ValidationError{{Kind: "endpoint", Name: "elsewhere", Field: "url", Problem: "p", Advice: "v"}}, name + `: endpoint "elsewhere", url: p; v`},
		{termination.ValidationError{{Kind: "defaults", Problem: "p"}}, name + `: defaults: p`},
	} {
		got := strings.ReplaceAll(d.Locate(c.err).Error(), filepath.Dir(d.Path)+"/", "")
		if got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	if other := errors.New("disk full"); !errors.Is(d.Locate(other), other) || d.Locate(nil) != nil {
		t.Error("an error that does not stem from the file is not returned as it is")
	}
}
