// Package otlp tells handshakes as traces, and the lines of the log, to an OpenTelemetry collector over HTTP.
//
// A handshake becomes a span with one child for each of its stages, made from the finished record. The trace's ID is that of the handshake:
// both are 128 bits. Failures are always told; of the rest, the configured share. spans.go says which attributes they carry.
//
// Everything goes through bounded queues. A collector that is slow or away changes nothing but the numbers of what was dropped.
package otlp
