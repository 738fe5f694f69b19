// Package proxy speaks HTTP inside TLS: it takes the requests of a connection that the gateway has let in, decides for
// each once more, and carries it to the service behind.
//
// The connection was judged when it came in, but a request can name another host, ask for a path with a policy of its
// own, or come after the configuration has changed. So each request goes through these steps, and the first that does
// not hold ends it before the service is contacted:
//
//  1. The connection: a request without one is an error of ours, and never open.
//  2. The host: Host or :authority, normalised as the server name was, by the same lookup ([Names]).
//  3. The site of the host must be that of the connection, else 421 (RFC 9110, section 15.5.20).
//  4. The connection must still be admitted by the policy of this moment.
//  5. The path must have one reading only, else 400; it decides on the route and is forwarded byte for byte.
//  6. The policy of the route, or of the endpoint, must let this client in, else 403; unless another proof may stand in for
//     the certificate.
//  7. The proofs that are demanded besides must be there: else 401, with what to send, or 403 for the certificate.
//  8. Identity and forwarding headers of the client are removed, ours are set.
//  9. The request is forwarded, or a built-in answers it. As long as it is in flight, what changes is judged again.
//
// Upstreams are reached through one transport each, whose idle connections outlive changes of the configuration.
package proxy
