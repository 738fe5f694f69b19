package gateway

import (
	"errors"

	"countersign/termination"
	"countersign/termination/wire"
)

// What a PostgreSQL client that does not ask for TLS is told. These are texts of ours alone: anybody on the way can
// change them, and clients show them.
const (
	postgresState   = "28000" // invalid_authorization_specification, as a server says that takes only hostssl
	postgresAsk     = "this port takes encrypted connections only: connect with sslmode=verify-full"
	postgresDirect  = "this port begins with TLS: connect with PostgreSQL 17 or later and sslnegotiation=direct sslmode=verify-full"
	alertForeignWay = alertUnrecognizedName // for a name that is not reached this way
)

// readHello reads the ClientHello, and everything that it read for it. On an address of an endpoint with starttls:
// postgres it first answers what a PostgreSQL client asks; TLS that begins at once (sslnegotiation=direct) is as welcome
// there. Whose endpoint it is can only be known afterwards, by the server name.
func (c *client) readHello(a Arrival) (*wire.ClientHello, []byte, error) {
	limit := c.table.config.Limits.ClientHello
	hello, seen, err := wire.ReadClientHello(c.raw, limit)
	c.answersPostgres = c.table.answersPostgres(a.Listener, c.record.Local)
	if err == nil || !c.answersPostgres {
		return hello, seen, err
	}
	// At most one request of each kind is answered, and none after TLS was promised, as PostgreSQL itself does it.
	for refused := false; c.record.StartTLS == termination.StartTLSNone; {
		var flaw *wire.HelloError
		if !errors.As(err, &flaw) || !errors.Is(err, wire.ErrNotTLS) || flaw.Err != nil {
			return nil, seen, err
		}
		answer := byte(wire.PostgresYes)
		switch {
		case flaw.Protocol == wire.ProtocolPostgres:
			c.record.StartTLS = termination.StartTLSPostgres
		case flaw.Protocol == wire.ProtocolPostgresGSS && !refused:
			answer, refused = wire.PostgresNo, true
		default:
			return nil, seen, err
		}
		if len(seen) > wire.PostgresRequestLen {
			return nil, seen, &wire.HelloError{Kind: wire.ErrEarly, Protocol: flaw.Protocol}
		}
		if _, err := c.raw.Write([]byte{answer}); err != nil {
			return nil, seen, &wire.HelloError{Kind: wire.ErrCutShort, Protocol: flaw.Protocol, Err: err}
		}
		hello, seen, err = wire.ReadClientHello(c.raw, limit)
	}
	return hello, seen, err
}

// postgresAnswer is what a PostgreSQL client reads that will not be served. One that asked for encryption gets no answer:
// whatever it reads before TLS could be anybody's (CVE-2024-10977), and after a "no" many go on without. One that
// cancels reads none.
func (c *client) postgresAnswer(p wire.Protocol) []byte {
	switch {
	case p != wire.ProtocolPostgres3, c.record.StartTLS != termination.StartTLSNone:
		return nil
	case c.answersPostgres:
		return wire.PostgresError(postgresState, postgresAsk)
	default:
		return wire.PostgresError(postgresState, postgresDirect)
	}
}

// refuseStartTLS turns a client away that asked for TLS as another endpoint of this address expects it, and then named
// one that does not. It could be let in; but an endpoint's own settings say what may come before its TLS.
func (c *client) refuseStartTLS() {
	c.record.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonStartTLS, Beat: termination.BeatAgreement}
	c.refuseWithAlert(alertForeignWay)
}
