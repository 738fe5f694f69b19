package termination

import (
	"strings"
	"testing"
)

func TestJoinTokenIsReadAsItWasWritten(t *testing.T) {
	want := JoinToken{Gateways: []string{"gw.example.com:7444", "[::1]:7444"}, CA: Fingerprint{1, 2, 3}, Endpoint: "api", Secret: NewJoinSecret()}
	got, err := ParseJoinToken("  " + want.String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(got.Gateways, " ") != strings.Join(want.Gateways, " ") || got.CA != want.CA || got.Endpoint != want.Endpoint || got.Secret != want.Secret {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got.Hash() != want.Hash() || got.Hash() == (JoinToken{}).Hash() {
		t.Error("the hash does not stand for the secret")
	}
}

func TestJoinTokenThatIsNone(t *testing.T) {
	good := JoinToken{Gateways: []string{"gw.example.com:7444"}, CA: Fingerprint{1}, Secret: NewJoinSecret()}
	noPort := good
	noPort.Gateways = []string{"gw.example.com"}
	noGateway := good
	noGateway.Gateways = nil
	noCA := good
	noCA.CA = Fingerprint{}
	for name, s := range map[string]string{
		"empty":       "",
		"other token": "cs_ABCDEF",
		"cut off":     good.String()[:len(good.String())-9],
		"changed":     strings.Replace(good.String(), "csjoin1_e", "csjoin1_!", 1),
		"too long":    joinTokenPrefix + strings.Repeat("A", maxJoinToken),
		"no port":     noPort.String(),
		"no gateway":  noGateway.String(),
		"no CA":       noCA.String(),
	} {
		if _, err := ParseJoinToken(s); err == nil {
			t.Errorf("%s: accepted", name)
		} else if s != "" && len(s) > 20 && strings.Contains(err.Error(), s[9:20]) {
			t.Errorf("%s: the error repeats the token: %v", name, err)
		}
	}
}

func FuzzParseJoinToken(f *testing.F) {
	f.Add(JoinToken{Gateways: []string{"a:1"}, CA: Fingerprint{1}, Secret: NewJoinSecret()}.String())
	f.Add(joinTokenPrefix + "e30")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseJoinToken(s)
		if err != nil {
			return
		}
		again, err := ParseJoinToken(token.String())
		if err != nil || again.String() != token.String() {
			t.Errorf("%q is read as %+v, which is written otherwise: %v", s, token, err)
		}
	})
}
