// Package terminate ends TLS for one endpoint: it runs the handshake over a connection whose ClientHello was already
// looked at, lets the endpoint's policy judge the client on new and on resumed sessions alike, and turns whatever goes
// wrong into an outcome, a reason and an alert in the words of package termination.
//
// Each [Terminator] has a tls.Config of its own, built afresh and never cloned: a clone accepts the session tickets of
// its parent, and so would let a client of one endpoint into another (CVE-2025-23419). A changed policy gets a new
// Terminator, and with it new ticket keys, so that no ticket outlives the policy under which it was issued.
package terminate
