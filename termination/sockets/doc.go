// Package sockets opens the listening sockets of the program and knows all that are open, so that they can move and be
// handed on without a client noticing: a socket stops taking new connections before it is closed, so that none that the
// kernel has acknowledged is reset; a listener on all interfaces and one on a single interface of the same port replace
// each other without a moment in which neither is there; and a new process takes over the sockets of the one before.
package sockets
