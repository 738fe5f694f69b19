// Package termination holds the words of Countersign as plain Go types: endpoints, authorities, client policy,
// handshake records and the complete wanted configuration. It is the domain; its subpackages each do one job with
// these words, and none of them knows SQL, HTTP routing of the dashboard, or HTML.
//
// The life of one connection, in ten lines:
//
//  1. The gateway accepts, takes a slot within its limits, and starts one goroutine that owns the connection.
//  2. Under a deadline, wire reads the ClientHello without consuming it.
//  3. The server name, normalised by [NormalizeName], finds the endpoint: exact, wildcard, explicit fallback.
//  4. Without an endpoint the client gets the alert unrecognized_name; there is no fall through to a laxer one.
//  5. terminate runs the TLS handshake with that endpoint's own tls.Config, or the bytes pass to the upstream sealed.
//  6. verify judges the presented chain against the endpoint's policy, on resumed sessions too, and explains.
//  7. A refusal sends its alert, half-closes, drains briefly, and is recorded.
//  8. proxy carries HTTP, or a splice carries bytes, to the upstream.
//  9. live takes the finished record without ever blocking the connection.
//  10. After every change of the configuration each live connection is judged again.
package termination
