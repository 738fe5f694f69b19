// Package tunnel is both ends of the wire between a gateway and its agents: [Server] in the gateway, [Client] in an
// agent. An agent dials out, proves itself by a certificate of the gateway's agent CA, and from then on one TLS 1.3
// connection carries many streams:
//
//   - control, opened by the agent: who it is, beats both ways, policies to the agent, certificates on request;
//   - reports, opened by the agent: its handshake records and the ends of connections;
//   - one for each client connection, opened by the gateway: a header, then the client's bytes, untouched.
//
// An agent that has no certificate yet joins: on the same listener, by another ALPN name, it shows the secret of an
// invitation and a request for a certificate, and is known by that certificate from then on.
//
// Everything that comes in is bounded before it is read, decoded strictly, and distrusted: an agent may speak of the
// endpoint that its certificate's row in the [Registry] names, and of connections that were given to it; of nothing else.
package tunnel
