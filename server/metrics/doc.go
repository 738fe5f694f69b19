// Package metrics counts what the gateway does, and answers Prometheus.
//
// handshakes.go counts handshakes and ends of connections as the live feed observes them, so every one counts, whatever the
// stream and the history had to leave out. state.go tells what is the case at the moment of a scrape: connections, dates
// at which certificates end, the feed itself. registry.go puts both together.
//
// What a label may say is bounded: endpoints, authorities, identities and targets come from the configuration, outcomes,
// reasons and versions from the tables of package termination, and what is in none of them is "other". Nothing that a client sends becomes
// a label.
package metrics
