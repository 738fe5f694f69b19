// Package proxyproto reads and writes the header of the PROXY protocol, versions 1 and 2
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt), by which a load balancer tells whose connection it
// passes on. Reading is strict and bounded and takes not one byte more than the header, so that the connection behind
// needs no wrapper.
package proxyproto
