package store

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"countersign/termination"
)

// FuzzSettings reads anything as the settings of an endpoint. What is accepted must be written and read the same.
func FuzzSettings(f *testing.F) {
	good, err := marshalSettings(endpoint("x", "y", "z"))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, "", "{}", "null", good + good, `{"clientAuth":{"pins":["xx"]}}`, `{"upstream":{"roots":["MAA="]}}`, `{"routes":[{"path":"/","clientAuth":{}}]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := unmarshalSettings(settingsVersion, text)
		if err != nil {
			return
		}
		again, err := marshalSettings(first.endpoint)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		second, err := unmarshalSettings(settingsVersion, again)
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("read again it is another one: %v\n%+v\n%+v", err, first, second)
		}
	})
}

// FuzzKeyFile reads anything as a key file, and never quotes it in an error.
func FuzzKeyFile(f *testing.F) {
	f.Add([]byte("# comment\nAGE-SECRET-KEY-1QQQ\n"))
	f.Add([]byte("-----BEGIN AGE ENCRYPTED FILE-----\nYWdlLWVuY3J5cHRpb24ub3JnL3YxCg==\n-----END AGE ENCRYPTED FILE-----\n"))
	f.Add([]byte{0, 0xff})
	f.Fuzz(func(t *testing.T, text []byte) {
		identity, _, err := parseKeyFile("store.key", text, "x")
		if err == nil && identity == nil {
			t.Fatal("neither a key nor an error")
		}
		if _, ok := errors.AsType[KeyFileError](err); err != nil && !ok {
			t.Fatalf("an error without advice: %v", err)
		}
	})
}

// FuzzFilter runs every filter that can be written against a real history.
func FuzzFilter(f *testing.F) {
	s, c := newStore(f)
	h := refusedAt(1, c.Now())
	write(f, s, h, handshakeAt(2, c.Now()))
	for _, seed := range []string{"", "rhea", `-sni:"a b",*x* ip:10.0.0.0/8`, "fp:abc ms:>=0.5", "outcome:failed -is:pq since:1h", `client:"%_\\'"`, "ip:::/0,1.2.3.4 kx:X25519 beat:4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := termination.ParseFilter(text, c.Now())
		if err != nil {
			return
		}
		page, err := s.Handshakes(context.Background(), HistoryQuery{Filter: filter})
		if err != nil {
			t.Fatalf("%s: %v", filter, err)
		}
		for _, r := range page.Records {
			if !filter.Match(r.Handshake) {
				t.Errorf("%s selects what does not match", filter)
			}
		}
		if filter.Match(h) != (len(page.Records) > 0 && page.Records[len(page.Records)-1].Handshake.Seq == 1) {
			t.Errorf("%s: the history does not agree about the first record", filter)
		}
	})
}

// FuzzHandshakeID looks for anything as the ID of a record.
func FuzzHandshakeID(f *testing.F) {
	s, c := newStore(f)
	h := handshakeAt(1, c.Now())
	write(f, s, h)
	for _, seed := range []string{h.ID, "hs_", "%", "'", "hs_0\x00", "HS_01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		_, err := s.Handshake(context.Background(), ref)
		if _, ok := errors.AsType[NotFoundError](err); err != nil && !ok {
			t.Fatalf("%q: %v", ref, err)
		}
	})
}
