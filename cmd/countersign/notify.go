package main

import (
	"fmt"
	"net"
)

// notifyManager tells the service manager that started the program about it, where there is one: the protocol is that of
// sd_notify(3), one datagram to the socket in $NOTIFY_SOCKET. Whether anybody listens does not matter to us.
func (p *program) notifyManager(state string) {
	path := p.getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if path[0] == '@' {
		path = "\x00" + path[1:] // an abstract address
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte(state))
	_ = conn.Close()
}

// States that the service manager is told.
const (
	stateReady    = "READY=1"
	stateStopping = "STOPPING=1"
)

// stateReplaced names the process to watch from now on.
func stateReplaced(process int) string { return fmt.Sprintf("MAINPID=%d\n%s", process, stateReady) }
