package main

import (
	"slices"
	"strings"
	"testing"

	"countersign/server"
	"countersign/termination"
)

// TestJoinSaysHowToTry: the words about clients, and commands that can be pasted whatever the paths hold.
func TestJoinSaysHowToTry(t *testing.T) {
	s := &stay{
		member:  &server.Membership{Joined: server.Joined{Host: "db.localhost", Listen: "127.0.0.1:8443", Anchors: 1}},
		ask:     server.JoinRequest{Scheme: termination.SchemeTLS, TerminateAt: termination.AtEdge, StartTLS: termination.StartTLSPostgres},
		options: joinOptions{clientCAs: "ca.pem"},
	}
	if got, want := s.policy(), "must have a certificate from the CA in ca.pem"; got != want {
		t.Errorf("the policy is %q, want %q", got, want)
	}
	s.member.Anchors = 2
	if got, want := s.policy(), "must have a certificate from one of the 2 CAs in ca.pem"; got != want {
		t.Errorf("the policy is %q, want %q", got, want)
	}
	tries := s.tries(`/of her's/ca.pem`)
	want := []string{
		`psql 'host=db.localhost hostaddr=127.0.0.1 port=8443 dbname=postgres sslmode=verify-full sslrootcert='\''/of her\'\''s/ca.pem'\'' sslcert=client.pem sslkey=client.key'`,
		`openssl s_client -connect 127.0.0.1:8443 -servername db.localhost -CAfile '/of her'\''s/ca.pem' -cert client.pem -key client.key -starttls postgres`,
	}
	if !slices.Equal(tries, want) {
		t.Errorf("the commands are\n%s\nwant\n%s", strings.Join(tries, "\n"), strings.Join(want, "\n"))
	}
	s.ask.StartTLS, s.member.Listen = termination.StartTLSNone, "127.0.0.1:443"
	if got, want := s.tries("")[0], "curl --resolve db.localhost:443:127.0.0.1 --cert client.pem --key client.key https://db.localhost/"; got != want {
		t.Errorf("the command is\n%s\nwant\n%s", got, want)
	}
}
