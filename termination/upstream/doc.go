// Package upstream reaches the services behind endpoints: it chooses one of several targets, watches which of them
// answer, and opens connections under a deadline, inside TLS and behind a PROXY header where that is asked for. HTTP and
// raw bytes share it.
//
// A target is out after a connection to it failed, for a while that grows with every further failure, and as long as its
// health check fails. When all targets are out they are tried all the same, in their order: several are never worse
// than one. What is tried again elsewhere is a connection that could not be had, before a byte of the client was sent.
package upstream
