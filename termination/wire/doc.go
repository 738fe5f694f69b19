// Package wire reads TLS as it passes by, and changes nothing.
//
// ReadClientHello takes the first flight off a connection and returns what it
// says together with the bytes themselves, so that the connection can be replayed
// to whoever terminates it. Fingerprints (JA3, JA4) and names are computed from
// the parsed hello.
//
// ServerObserver and Tap are fed with bytes that pass by afterwards: the one
// notes what the server chose, the other the last alert that went by in
// plaintext. Both use bounded memory and say when they have seen all that there
// is to see.
//
// Everything here is fed by strangers. A hello is refused wherever crypto/tls
// would refuse it too, and wherever RFC 8446 leaves no doubt, so that what is
// routed by is what is served: there is no hello of which this package reads
// another server name than crypto/tls. That is a fuzz target.
//
// The package does no I/O of its own, sets no deadlines (the caller sets them on
// the connection), and knows nothing of endpoints or policy.
package wire
