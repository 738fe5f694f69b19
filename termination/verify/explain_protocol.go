package verify

import (
	"fmt"
	"net/url"
	"strings"

	"countersign/termination"
)

// spoken is a protocol that clients speak where TLS is due, and how they are brought to begin with TLS. The word is what
// the record's error has of it.
type spoken struct {
	word, name, fix string
	command         string // %s: where, as host and port; empty: none
}

// others are the protocols that do not go over to TLS later.
func others() []spoken {
	return []spoken{
		{"HTTP/2 without TLS", "HTTP/2 without TLS (h2c)", "Use https:// in the client's URL.", ""},
		{"HTTP", "plain HTTP", "Use https:// in the client's URL.", ""},
		{"SSH", "SSH", "Wrap it into TLS, with the client's ProxyCommand.", "ssh -o ProxyCommand=\"openssl s_client -quiet -connect %s\" user@host"},
		{"MQTT", "MQTT", "Turn TLS on in the client: mqtts:// in its URL.", ""},
		{"AMQP", "AMQP", "Turn TLS on in the client: amqps:// in its URL.", ""},
		{"Redis", "Redis", "Turn TLS on in the client: rediss:// in its URL, or --tls.", ""},
		{"RDP", "RDP", "RDP asks for TLS in words of its own. Give it a port that does not pass through here.", ""},
		{"SOCKS", "SOCKS", "Take this address out of the client's proxy settings: it is no proxy.", ""},
		{"SSL 2.0", "SSL 2.0", "Upgrade the client: SSL 2.0 was broken in 1995, and nothing here speaks it.", ""},
	}
}

// starters are the protocols that do.
func starters() []spoken {
	return []spoken{
		{"SMTP", "SMTP", "Make the client use TLS from the first byte (submissions, as on port 465, RFC 8314), not STARTTLS.", ""},
		{"IMAP", "IMAP", "Make the client use TLS from the first byte (imaps, as on port 993, RFC 8314), not STARTTLS.", ""},
		{"POP3", "POP3", "Make the client use TLS from the first byte (pop3s, as on port 995, RFC 8314), not STLS.", ""},
		{"FTP", "FTP", "Make the client use implicit TLS (ftps://). Its data connections need ports of their own.", ""},
		{"LDAP", "LDAP", "Use ldaps:// in the client's URL, without StartTLS.", ""},
		{"XMPP", "XMPP", "Turn direct TLS on in the client (XEP-0368).", ""},
		{"MySQL", "MySQL", "MySQL cannot begin with TLS at once. Give it a port of its own that does not pass through here.", ""},
	}
}

// find returns the first whose word stands in the text.
func find(list []spoken, text string) (spoken, bool) {
	for _, s := range list {
		if strings.Contains(text, s.word) {
			return s, true
		}
	}
	return spoken{}, false
}

func (a *account) notTLSWords() termination.Explanation {
	s, known := find(others(), a.handshake.Error)
	fix := termination.Fix{Text: "Use https:// in the client's URL.", Command: a.callNeighbour()}
	ex := termination.Explanation{Sentence: fmt.Sprintf("A client spoke something other than TLS to %s, most likely plain HTTP.", a.port())}
	ask := "Please use https:// in its URL."
	if known {
		ex.Sentence = fmt.Sprintf("A client spoke %s to %s, where TLS is spoken.", s.name, a.port())
	}
	if known && !strings.Contains(s.word, "HTTP") {
		fix, ask = termination.Fix{Text: s.fix}, s.fix
		if where := a.neighbour(); where != "" && s.command != "" {
			fix.Command = fmt.Sprintf(s.command, where)
		}
	}
	ex.Fixes = []termination.Fix{fix}
	ex.ClientTo = a.toClient("it did not begin with TLS", ask)
	return ex
}

// neighbour is host and port of an endpoint for any bytes on this port, if there is one with a name.
func (a *account) neighbour() string {
	for _, e := range a.search.neighbours(a.handshake) {
		if e.Host != "" && e.Scheme == termination.SchemeTLS {
			return fmt.Sprintf("%s:%d", e.Host, e.Port)
		}
	}
	return ""
}

// silentWords explains a client that waits. In some protocols it is the server that speaks first, and then their clients
// wait for ever: nothing tells them from a port check.
func (a *account) silentWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("A client connected to %s and said nothing for %s.", a.port(), span(a.handshake.Duration)),
		Right:    "The connection itself works.",
		Fixes: []termination.Fix{
			{Text: "Nothing, if it is a port check or a load balancer that only looks whether the port is open."},
			{Text: "Otherwise look at what stands between the client and the gateway: something lets the connection through, but not its bytes."},
		},
	}
	for _, e := range a.search.neighbours(a.handshake) {
		if e.Scheme == termination.SchemeTLS {
			ex.Fixes = append(ex.Fixes, termination.Fix{Text: "If it speaks SMTP, IMAP, POP3 or FTP, it waits for the server's greeting: make it use TLS from the first byte instead of STARTTLS. MySQL waits likewise, and cannot begin with TLS."})
			break
		}
	}
	return ex
}

func (a *account) startTLSWords() termination.Explanation {
	if a.handshake.StartTLS == termination.StartTLSPostgres || strings.Contains(a.handshake.Error, "PostgreSQL") {
		return a.postgresWords()
	}
	s, known := find(starters(), a.handshake.Error)
	if !known {
		s = spoken{name: "another protocol", fix: "Make the client begin with TLS at once."}
	}
	return termination.Explanation{
		Sentence: fmt.Sprintf("A client spoke %s to %s and wanted to go over to TLS later; here TLS comes first.", s.name, a.port()),
		Fixes:    []termination.Fix{{Text: s.fix}},
		ClientTo: a.toClient("it did not begin with TLS", s.fix),
	}
}

// postgresWords explains a PostgreSQL client that did not get to TLS.
func (a *account) postgresWords() termination.Explanation {
	ready, possible := a.postgresNeighbours()
	text := a.handshake.Error
	switch {
	case strings.Contains(text, "CancelRequest"):
		return a.postgresCancelWords()
	case strings.Contains(text, "before the request for TLS was answered"):
		return termination.Explanation{
			Sentence: fmt.Sprintf("A PostgreSQL client asked for TLS at %s, and more bytes came before it was answered.", a.port()),
			Right:    "Nothing of it reached the service: such bytes may be somebody else's, put in on the way (CVE-2021-23214).",
			Fixes:    []termination.Fix{{Text: "Look at the client's driver, and at what stands between it and the gateway: a client waits for the answer."}},
			ClientTo: a.toClient("it sent more before its request for TLS was answered", ""),
		}
	case a.endpoint != nil:
		return termination.Explanation{
			Sentence: fmt.Sprintf("A client asked for TLS as PostgreSQL does, and then for %s, where TLS comes first.", a.at()),
			Turn:     termination.TurnOperator,
			Fixes: []termination.Fix{
				{Text: fmt.Sprintf("If PostgreSQL is behind %s, set starttls: postgres there.", a.at()), Action: a.endpointPage()},
				{Text: "Otherwise correct the host in the client.", Command: a.psql(ready)},
			},
			ClientTo: a.toClient("PostgreSQL is not served under that name", "Please correct the host."),
		}
	case ready != nil:
		ask := "Use sslmode=verify-full in the client; require alone encrypts, but lets anybody answer."
		return termination.Explanation{
			Sentence: fmt.Sprintf("A PostgreSQL client came to %s without asking for TLS, and none comes in without.", a.port()),
			Right:    "It was told so in an error message of PostgreSQL.",
			Fixes:    []termination.Fix{{Text: ask, Command: a.psql(ready)}},
			ClientTo: a.toClient("it did not ask for TLS", ask),
		}
	}
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("A client spoke PostgreSQL to %s and wanted to go over to TLS later; here TLS comes first.", a.port()),
		ClientTo: a.toClient("it did not begin with TLS", "Please make it begin with TLS at once: PostgreSQL 17 does with sslnegotiation=direct."),
	}
	direct := termination.Fix{Text: "Make the client begin with TLS at once: PostgreSQL 17 does with sslnegotiation=direct, older ones cannot."}
	if possible == nil {
		ex.Fixes = []termination.Fix{direct, {Text: "Or make an endpoint with a tls:// URL and starttls: postgres on this port.", Action: "/endpoints/new"}}
		return ex
	}
	ex.Turn = termination.TurnOperator
	ex.Fixes = []termination.Fix{
		{Text: fmt.Sprintf("If PostgreSQL is behind %s, set starttls: postgres there: then its clients' request for TLS is answered.", possible.Name), Action: "/endpoints/" + url.PathEscape(possible.Name)},
		direct,
	}
	return ex
}

func (a *account) postgresCancelWords() termination.Explanation {
	return termination.Explanation{
		Sentence: fmt.Sprintf("A PostgreSQL client asked in the clear at %s to cancel a query. Nothing comes in without TLS, so the query went on.", a.port()),
		Right:    "The query's own connection is not touched by this.",
		Fixes: []termination.Fix{
			{Text: "Use a client of PostgreSQL 17 or later: it cancels over TLS, as it queries."},
			{Text: "Or set statement_timeout in the database, so that no query runs for ever."},
		},
		ClientTo: a.toClient("its request to cancel a query came without TLS", "Please upgrade it to PostgreSQL 17 or later, which cancels over TLS."),
	}
}

// postgresNeighbours are an endpoint on this port that answers PostgreSQL's request for TLS, and one that could.
func (a *account) postgresNeighbours() (ready, possible *termination.Endpoint) {
	for _, e := range a.search.neighbours(a.handshake) {
		switch {
		case e.StartTLS == termination.StartTLSPostgres && ready == nil:
			ready = e
		case e.Scheme == termination.SchemeTLS && e.TerminateAt != termination.AtUpstream && possible == nil:
			possible = e
		}
	}
	return ready, possible
}

// psql is a command that calls an endpoint as PostgreSQL's own client does.
func (a *account) psql(e *termination.Endpoint) string {
	if e == nil || e.Host == "" {
		return ""
	}
	command := fmt.Sprintf("psql \"host=%s port=%d sslmode=verify-full sslrootcert=ca.crt", e.Host, e.Port)
	if e.ClientAuth.Mode.Asks() {
		command += " sslcert=client.crt sslkey=client.key"
	}
	return command + "\""
}
