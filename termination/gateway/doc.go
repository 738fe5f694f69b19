// Package gateway is the engine: it takes the complete wanted configuration, listens, and carries each connection from
// accept to its end. conn.go holds the story of one connection, apply.go that of one change.
//
// Nothing here knows where a configuration is stored or who looks at a record: configuration enters only through
// [Gateway.Apply], and handshakes leave only through the live feed.
package gateway
