// Package verify decides who may come in: given the certificates that a client presented and an endpoint's policy, it
// says yes or no, lists every check that failed, and, off the hot path, explains the cause from the actual
// certificates. It opens no socket and reads no file, so the same code decides wherever TLS is terminated.
//
// A decision goes through these steps:
//
//  1. [Compile] turns the configuration into a [Policy]: pools that are never nil (a nil pool would mean the system's
//     roots to crypto/x509), pins, depth, and a hash over everything that decides.
//  2. [Policy.Judge] bounds what was presented, looks at what the leaf says about itself, and then asks for either a
//     pin that matches the leaf or a chain from the leaf to one of the policy's own anchors.
//  3. crypto/x509 decides whether a chain holds; the checks that it does not make (strength, depth, key usage of the
//     leaf) can only refuse more. A second walk of our own, which ignores everything but names and signatures, runs
//     only after a refusal, so that all problems are named and not only the first.
//  4. The mode of the policy turns the result into in or out.
//  5. [Search.Explain] looks for the cause among everything that the gateway knows and puts it into words.
//
// Only the leaf is proven in a handshake, and at the time of the judgement not even that: no rule looks at another
// certificate of the presented list except to build a chain with it.
package verify
