// Package proof shows with real handshakes that an endpoint's policy holds: clients are made for the purpose, good and
// bad, they connect to the endpoint's own address as anybody would, and what happens to each is compared with what the
// policy says should.
//
// What should happen stands in expect.go, written down from the reference and not from the code that judges clients:
// the two would have to be wrong in the same way for a mistake to pass. What did happen is what the client saw.
// Nothing is claimed that was not tried: where no key is here that a line would need, the line says so.
package proof
