// Package live carries finished handshakes from the gateway to whoever watches, and to the history, and never makes a
// handshake wait.
//
// [Hub.Publish] and [Hub.Complete] put a record into one bounded queue without waiting; what does not fit is counted as
// missed. One goroutine, the hub's, takes records out: it numbers them, counts them, keeps the last ones for replay,
// offers them to every [Subscription] and hands batches to the history's sink, which runs in a goroutine of its own so
// that a slow disk cannot stall the stream.
//
// Everything between two parties is bounded, and each bound loses detail in the same order: handshakes that were let
// in first, failures last. What was lost is counted and said. The counters of [Hub.Counts] lose nothing: a handshake
// that found the queue full is counted all the same.
//
// frame.go holds the frames of the live stream, as a browser receives them.
package live
