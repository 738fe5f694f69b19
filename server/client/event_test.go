package client

import (
	"strings"
	"testing"
)

func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `[]`, `{"op":"hi","seq":3,"v":1,"life":"x","endpoints":{"1":"a"},"outcomes":["verified"],"reasons":{"cert_expired":"ended"}}`,
		`{"op":"ev","n":1,"e":[{"q":1,"i":"hs_1","t":-9223372036854775808,"o":-1,"b":99,"ep":7,"a":"::1%eth0","d":1e308}]}`,
		`{"op":"gap","from":1,"to":2,"count":2}`, `{"op":"st","t":1}`, `{"op":"err","at":3,"m":"no"}`, `{"op":"later"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l := legend{endpoints: map[int]string{}}
		frame, err := l.read([]byte(text))
		if err == nil && len(frame.Events) > strings.Count(text, "{") {
			t.Errorf("%d events of %q", len(frame.Events), text)
		}
	})
}

func TestWhereAGatewayCanBe(t *testing.T) {
	for url, good := range map[string]bool{
		"http://127.0.0.1:7443": true, "http://127.0.0.1:7443/": true, "https://gateway.example": true, "http://[::1]:7443": true, "http://localhost:7443": true,
		"http://gateway.example:7443": false, "http://user@127.0.0.1": false, "ftp://127.0.0.1": false, "127.0.0.1:7443": false, "http://127.0.0.1/live": false, "": false, "http://localhost.attacker.example": false,
	} {
		if _, err := New(Options{URL: url}); (err == nil) != good {
			t.Errorf("%q: %v", url, err)
		}
	}
}
