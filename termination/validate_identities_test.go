package termination_test

import (
	"strings"
	"testing"
	"time"

	"countersign/termination"
)

// withIdentities is a valid configuration with two of them.
func withIdentities() *termination.Config {
	c := validConfig()
	c.Identities = []termination.Identity{
		{ID: "id_1", Name: "billing", Pins: []termination.Pin{{Fingerprint: termination.Fingerprint{1}}}, Endpoints: []string{"api"}, Rate: termination.Rate{Count: 50, Per: time.Second, Burst: 100}},
		{ID: "id_2", Name: "devices", Matches: []termination.Subject{{Authority: "devices", URI: "spiffe://prod/*"}}},
	}
	return c
}

func TestValidateIdentities(t *testing.T) {
	if err := withIdentities().Validate(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		spoil func(a, b *termination.Identity)
		field string
		says  string
	}{
		{"bad name", func(a, _ *termination.Identity) { a.Name = "../x" }, "name", "letters"},
		{"one name twice", func(a, b *termination.Identity) { b.Name = a.Name }, "name", "used twice"},
		{"a pin of another", func(a, b *termination.Identity) { b.Pins = a.Pins }, "pins", `identity "billing" already`},
		{"a pin twice", func(a, _ *termination.Identity) { a.Pins = append(a.Pins, a.Pins[0]) }, "pins", "twice"},
		{"too many pins", func(a, _ *termination.Identity) { a.Pins = make([]termination.Pin, 101) }, "pins", "too many"},
		{"a match without authority", func(_, b *termination.Identity) { b.Matches[0].Authority = "" }, "match", "names no authority"},
		{"a match under an unknown one", func(_, b *termination.Identity) { b.Matches[0].Authority = "x" }, "match", `no authority "x"`},
		{"a match without a name", func(_, b *termination.Identity) { b.Matches[0].URI = "" }, "match", "every client of devices"},
		{"a match by identity", func(a, b *termination.Identity) { b.Matches[0].Identity = a.Name }, "match", "cannot be known by an identity"},
		{"a match by pin", func(a, b *termination.Identity) { b.Matches[0].Pin = &a.Pins[0] }, "match", "under pins"},
		{"a match by no address", func(_, b *termination.Identity) { b.Matches[0].IP = "x" }, "match", "x"},
		{"a match by no serial", func(_, b *termination.Identity) { b.Matches[0].Serial = "x" }, "match", "serial number"},
		{"a match by a novel", func(_, b *termination.Identity) { b.Matches[0].CN = strings.Repeat("x", 2000) }, "match", "could hold"},
		{"unknown endpoint", func(a, _ *termination.Identity) { a.Endpoints = []string{"x"} }, "endpoints", `no endpoint "x"`},
		{"an endpoint twice", func(a, _ *termination.Identity) { a.Endpoints = []string{"api", "api"} }, "endpoints", "twice"},
		{"sealed endpoint", func(a, _ *termination.Identity) { a.Endpoints = []string{"sealed"} }, "endpoints", "ends in its service"},
		{"burst alone", func(a, _ *termination.Identity) { a.Rate = termination.Rate{Burst: 3} }, "rate", "without a rate"},
		{"large burst", func(a, _ *termination.Identity) { a.Rate.Burst = 10_001 }, "rate", "out of range"},
		{"large rate", func(a, _ *termination.Identity) { a.Rate.Count = 1_000_001 }, "rate", "out of range"},
		{"odd period", func(a, _ *termination.Identity) { a.Rate.Per = 7 * time.Second }, "rate", "per second"},
		{"negative rate", func(a, _ *termination.Identity) { a.Rate.Count = -1 }, "rate", "negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := withIdentities()
			tt.spoil(&c.Identities[0], &c.Identities[1])
			err, ok := c.Validate().(termination.ValidationError) //nolint:errorlint // its own type
			if !ok || err[0].Kind != "identity" || err[0].Field != tt.field || !strings.Contains(err[0].Error(), tt.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	c := withIdentities()
	many := c.Identities[1]
	for range 1001 {
		c.Identities[1].Matches = append(c.Identities[1].Matches, many.Matches[0])
	}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "compared with each client") {
		t.Errorf("a thousand loose matches: %v", err)
	}
	c.Identities = make([]termination.Identity, termination.MaxIdentities+1)
	if err := c.Validate(); err == nil || strings.Count(err.Error(), "\n") > 2 {
		t.Errorf("too many: %.300v", err)
	}
}

// TestTrustByIdentityAlone: an endpoint that verifies needs somebody who may come in; an identity is somebody.
func TestTrustByIdentityAlone(t *testing.T) {
	alone := func(change func(*termination.Identity)) error {
		c := withIdentities()
		c.Endpoints[0].ClientAuth.Authorities = nil
		change(&c.Identities[0])
		return c.Validate()
	}
	for name, tt := range map[string]struct {
		change func(*termination.Identity)
		ok     bool
	}{
		"registered": {func(*termination.Identity) {}, true},
		"invited":    {func(i *termination.Identity) { i.Pins = nil }, true},
		"of another": {func(i *termination.Identity) { i.Endpoints = nil }, false},
		"by the name of one": {func(i *termination.Identity) {
			i.Pins, i.Matches = nil, []termination.Subject{{Authority: "devices", CN: "x"}}
		}, false},
	} {
		if err := alone(tt.change); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseRate(t *testing.T) {
	for s, want := range map[string]termination.Rate{
		"": {}, "50/s": {Count: 50, Per: time.Second}, " 100 / m ": {Count: 100, Per: time.Minute},
		"1000/h": {Count: 1000, Per: time.Hour}, "10000/d": {Count: 10000, Per: 24 * time.Hour},
	} {
		got, err := termination.ParseRate(s)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
		if again, err := termination.ParseRate(got.String()); err != nil || again != want {
			t.Errorf("%q came back as %+v, %v", s, again, err)
		}
	}
	for _, s := range []string{"50", "s", "50/", "/s", "0/s", "-1/s", "1.5/s", "5/min", "5/S", "1000001/s", "99999999999999999999/s", "5/s/s"} {
		if r, err := termination.ParseRate(s); err == nil {
			t.Errorf("%q is read as %+v", s, r)
		}
	}
}
