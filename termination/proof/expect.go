package proof

import (
	"countersign/termination"
)

// verdict is what becomes of a client.
type verdict string

const (
	letIn   verdict = "let in"
	refused verdict = "refused"
)

// expected is the table of who may come in ("Who may come in" of the reference): by mode, without a certificate, with one
// that fails, and with one that passes. It is not made from the code that judges clients, and must not be.
//
// A policy that only reports lets everyone in; the table then says what its records must say of them.
func expected(auth termination.ClientAuth, t Try) verdict {
	if auth.ReportOnly {
		return letIn
	}
	return enforced(auth.Mode, t)
}

// enforced is the table.
func enforced(mode termination.Mode, t Try) verdict {
	type row struct{ without, failing, passing verdict }
	table := map[termination.Mode]row{
		termination.ModeOff:        {letIn, letIn, letIn}, // not asked
		termination.ModeRequest:    {letIn, letIn, letIn},
		termination.ModeRequireAny: {refused, letIn, letIn},
		termination.ModeOptional:   {letIn, refused, letIn},
		termination.ModeRequire:    {refused, refused, letIn},
	}
	r, known := table[mode]
	switch {
	case !known:
		return refused
	case t == TryTrusted:
		return r.passing
	case t == TryNone, t == TryRoute:
		return r.without
	default:
		return r.failing
	}
}

// alertProtocolVersion is what a client gets whose TLS version is not taken (RFC 8446, section 6.2).
const alertProtocolVersion = 70
