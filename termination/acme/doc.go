// Package acme obtains and renews server certificates from a CA that speaks ACME (RFC 8555), for endpoints whose certificates are
// called "acme". It is the one home of certmagic: none of its types leave the package.
//
// certmagic gives the layout of what is kept, its locks, keys and orders, DNS-01 through libdns; acmez, the client
// beneath it, the protocol. What certmagic does with goroutines and listeners of its own is done here instead, because
// here every goroutine has an owner and an end and every socket is the gateway's: an [certmagic.Issuer] whose challenges
// are answered on the gateway's listeners, and one goroutine for each name that obtains, waits, renews and backs off.
//
// Nothing here is on the path of a handshake: a CA that refuses, limits or hangs costs a state on a page, no more.
package acme
