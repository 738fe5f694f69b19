// Package revocation keeps what is known of certificates that must not come in although their chain holds: those that
// an operator has blocked, and those that a CA has taken back. It publishes immutable snapshots, each with a generation,
// so that a judgement looks at one state of the world and a record can tell which.
package revocation
