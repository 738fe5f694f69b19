// Package credential checks the bearer tokens (RFC 6750) and passwords (RFC 7617) of requests, against hashes alone. It knows
// no endpoints and no policies: whether a credential is enough is decided by whoever asks.
//
// Passwords are hashed slowly, on purpose, so the work is bounded: few are checked at a time, few wait for it, what was
// right a moment ago is remembered, and whoever keeps being wrong has to wait.
package credential
