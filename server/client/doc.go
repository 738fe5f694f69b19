// Package client is the other end of the gateway's JSON API, for the command line: recorded handshakes, and the live stream
// of them, which comes back by itself and goes on where it stopped.
//
// A [Client] speaks to a dashboard's URL with a token, or to whatever its dial function opens, as the control socket in a
// data directory. What comes from the gateway is as hostile as what the gateway's clients wrote: texts are handed on as
// they are, and whoever prints them makes them visible.
package client
