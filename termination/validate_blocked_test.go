package termination

import (
	"strings"
	"testing"
)

func TestBlocksAreValidated(t *testing.T) {
	pin := Pin{Fingerprint: Fingerprint{1}}
	for name, test := range map[string]struct {
		blocks []Block
		says   string // empty: nothing
	}{
		"a pin":               {[]Block{{Pin: &pin, Why: "laptop lost"}}, ""},
		"a key":               {[]Block{{Pin: &Pin{Key: true}}}, ""},
		"file and dashboard":  {[]Block{{Pin: &pin, Origin: OriginFile}, {Pin: &pin, Origin: OriginDashboard}}, ""},
		"nothing":             {[]Block{{Why: "x"}}, "does not say what is blocked"},
		"both":                {[]Block{{Pin: &pin, Serial: "1", Authority: "a"}}, "is to have one of them"},
		"a pin of a CA":       {[]Block{{Pin: &pin, Authority: "a"}}, "is to have one of them"},
		"a serial of nobody":  {[]Block{{Serial: "1f"}}, "says nothing without the CA"},
		"an unknown CA":       {[]Block{{Serial: "1f", Authority: "a"}}, `there is no authority "a"`},
		"no serial number":    {[]Block{{Serial: "xyz", Authority: "a"}}, "hex"},
		"colons":              {[]Block{{Serial: "1f:3a", Authority: "a"}}, "write 1f3a"},
		"twice":               {[]Block{{Pin: &pin}, {Pin: &pin, Why: "again"}}, "is blocked twice"},
		"a line break":        {[]Block{{Pin: &pin, Why: "a\nb"}}, "control characters"},
		"a mark of direction": {[]Block{{Pin: &pin, Why: "a\u202eb"}}, "control characters"},
		"half a letter":       {[]Block{{Pin: &pin, Why: "\xc3"}}, "UTF-8"},
		"a novel":             {[]Block{{Pin: &pin, Why: strings.Repeat("x", maxWhy+1)}}, "longer than"},
		"too many":            {make([]Block, MaxBlocks+1), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			err := (&Config{Blocked: test.blocks}).Validate()
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("%v, want %q", err, test.says)
			}
		})
	}
}

func TestRevokedIsValidated(t *testing.T) {
	for says, list := range map[string][]RevokedCertificate{
		"plain form":         {{Serial: "0A"}},
		"revoked twice":      {{Serial: "a"}, {Serial: "a"}},
		"control characters": {{Serial: "a", Reason: "\x1b[31m"}},
	} {
		err := (&Config{Authorities: []Authority{{Name: "a", Revocation: Revocation{Revoked: list}}}}).Validate()
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}
