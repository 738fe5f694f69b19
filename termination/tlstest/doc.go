// Package tlstest makes what tests of TLS need: authorities, leaves with every
// oddity that a peer may present, upstreams that behave well and badly, foreign
// clients, and naive servers that each attack test is first shown to catch.
//
// Everything is made in memory at run time. No key and no certificate is kept
// in a file of the repository.
//
// Certificates come from an authority:
//
//	ca := tlstest.NewCA(tlstest.CN("Devices"))
//	alice := ca.Client("alice")                        // P-256, clientAuth
//	old := ca.Client("bob", tlstest.Expired())         // one oddity an option
//	server := ca.Server("api.example.com")             // serverAuth
//	deep := ca.Intermediate().Intermediate().Client("carol")
//
//	config := &tls.Config{Certificates: []tls.Certificate{alice.TLS()}, RootCAs: ca.Pool()}
//
// Attacks are run against code under test as an Attack describes. They take place
// in a World, which the code under test must serve; the naive servers serve it
// with one Flaw or another.
//
// A mistake in the use of the kit (an option that cannot be signed) panics: it
// is a defect of the test, not a result.
package tlstest
