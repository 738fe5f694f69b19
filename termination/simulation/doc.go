// Package simulation says what another configuration would have done to handshakes that were recorded: who would gain and
// who would lose entry, who stays outside for another reason, and of whom nothing can be said.
//
// Each client is judged by the same code as in a handshake, at the time when it came, so that dates count as of then, and
// by what is known of blocked and revoked certificates today. Alike handshakes are judged once. Nothing is decided here:
// what comes out is for people.
package simulation
