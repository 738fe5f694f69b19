// Package doctor looks at a TLS service from its client's side: it makes the handshake itself, step by step, with the
// client's own certificate, and says in plain words what holds and what does not. It works against any server.
//
// [Examine] first behaves as a careful client does: it verifies the server's certificate and ends the handshake where that
// does not hold, so that a gateway records what it would of any such client. Only then it looks again, without verifying
// and without presenting anything, to learn what else the server wants. In TLS 1.3 a client has finished before the server
// looks at its certificate (RFC 8446, section 4.4), so a refusal is read after the handshake.
//
// Each handshake over https carries a random name at the end of its ALPN list, which servers ignore (RFC 7301, section
// 3.2). A gateway that records ClientHellos can find it by that, whatever address translation lies between.
//
// What a server says is hostile text: the report holds it as it came.
package doctor
