// Package clienterror knows what the tools of clients print when a handshake fails, and uses it both ways: from a record to the
// lines that its client has probably seen ([Lines]), and from a line that somebody pasted to what it means ([Read]).
//
// The lines of curl, openssl, git, Go, Java, Node.js and Python were taken from real runs under TLS 1.2 and 1.3; those of
// Windows, macOS, browsers, .NET, Rust, libpq and mosquitto from their sources and documentation. Versions differ in
// details, so a line is recognised by the part that stays.
package clienterror
