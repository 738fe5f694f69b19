// Package localca is a small certificate authority: enough to issue server and client certificates without knowing
// openssl. Its CA is one certificate without intermediates, ECDSA P-256, and its key lives in this gateway.
//
// A constrained CA may sign for localhost and loopback addresses only (name constraints, RFC 5280, section 4.2.1.10),
// so that a person who trusts it in a browser gives away nothing else. Every issuing function checks with [MayIssue]
// what a strict client would check, and refuses instead of issuing a certificate that would not work.
//
// Nothing is kept here: keys and certificates belong to the caller, who stores them or throws them away.
package localca
