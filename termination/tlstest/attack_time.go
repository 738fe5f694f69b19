package tlstest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// secondEndpoint: somebody declares the staff endpoint once more, and asks nobody.
func (r *raid) secondEndpoint() {
	r.target.Double()
	for _, version := range versions() {
		for _, protocol := range protocols() {
			for name, as := range map[string]*Cert{"nobody": nil, "a stranger": SelfSigned(CN("bob"))} {
				r.attempt(fmt.Sprintf("%s, %s, %s", name, tls.VersionName(version), protocol), at(StaffName), func() {
					r.get(r.client(StaffName, version, protocol, as), StaffName, "/")
				})
			}
		}
	}
}

// keptConnection: somebody stays on his connections after the policy has changed.
// The policy holds for live connections within a second, so he tries for longer.
func (r *raid) keptConnection() {
	for _, loss := range r.target.Losses {
		if loss.Prepare != nil {
			loss.Prepare()
		}
		r.keep(loss)
		loss.Undo()
	}
}

func (r *raid) keep(loss Loss) {
	const grace = 1500 * time.Millisecond
	type kept struct {
		name string
		try  func() error // nil: he is served
	}
	var sessions []kept
	for _, version := range versions() {
		for _, protocol := range append(protocols(), "WebSocket") {
			dial := protocol
			if protocol == "WebSocket" {
				dial = "http/1.1"
			}
			s, err := r.open(r.client(loss.Endpoint, version, dial, loss.As), nil)
			if err != nil {
				r.t.Fatalf("%s: nobody is served: %v", loss.Name, err)
			}
			defer s.close()
			try := func() error {
				status, err := s.get(loss.Endpoint, "/", nil)
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("status %d", status)
				}
				return err
			}
			if protocol == "WebSocket" {
				if err := s.upgrade(loss.Endpoint); err != nil {
					r.t.Fatalf("%s: there is no WebSocket: %v", loss.Name, err)
				}
				try = s.ping
			}
			if err := try(); err != nil {
				r.t.Fatalf("%s: nobody is served: %v", loss.Name, err)
			}
			sessions = append(sessions, kept{fmt.Sprintf("%s, %s, %s", loss.Name, tls.VersionName(version), protocol), try})
		}
	}
	loss.Apply()
	end := time.Now().Add(grace)
	for len(sessions) > 0 {
		over := time.Now().After(end)
		var still []kept
		for _, s := range sessions {
			if s.try() == nil {
				still = append(still, s)
			}
		}
		if sessions = still; over {
			break
		}
	}
	for _, s := range sessions {
		r.gotIn = append(r.gotIn, s.name)
	}
}

// upgrade turns the connection into a WebSocket.
func (s *session) upgrade(host string) error {
	status, err := s.raw("GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err == nil && status != http.StatusSwitchingProtocols {
		err = fmt.Errorf("status %d", status)
	}
	return err
}

// ping sends a frame over the WebSocket and waits for its echo.
func (s *session) ping() error {
	const masked = "\x81\x84\x00\x00\x00\x00ping" // RFC 6455, section 5.2; a mask of zeros changes nothing
	if _, err := io.WriteString(s.conn, masked); err != nil {
		return err
	}
	_, err := io.ReadFull(s.reader, make([]byte, len("\x81\x04ping")))
	return err
}

// slowHandshakes: clients that take their time, in every part of the handshake that
// they have a hand in.
func (r *raid) slowHandshakes() {
	const enough = 20 * HandshakeTime
	r.target.Hurry()
	var running sync.WaitGroup
	var mu sync.Mutex
	for _, version := range versions() {
		hello := helloOf(r.client(StaffName, version, "http/1.1", r.world.Alice))
		for name, c := range map[string]struct {
			at   []byte        // once
			drip []byte        // byte by byte after it
			each time.Duration // between two of them
		}{
			"silence":                     {},
			"half a hello":                {at: hello[:len(hello)/2]},
			"a hello, drop by drop":       {drip: hello, each: HandshakeTime / 10},
			"silence after the hello":     {at: hello},
			"after the hello, by drops":   {at: hello, drip: []byte("\x14\x03\x03\x00\x01\x01\x17\x03\x03\xff\x00" + string(make([]byte, 64))), each: HandshakeTime / 10},
			"a header and nothing behind": {at: []byte("\x16\x03\x01\x02\x00")},
		} {
			running.Go(func() {
				conn, err := net.DialTimeout("tcp", r.target.Addr, patience)
				if err != nil {
					r.t.Errorf("the target does not even accept connections: %v", err)
					return
				}
				defer conn.Close()
				began := time.Now()
				conn.SetDeadline(began.Add(enough))
				go func() { // ends with the connection
					if len(c.at) > 0 {
						conn.Write(c.at)
					}
					for i := range c.drip {
						<-time.After(c.each)
						if _, err := conn.Write(c.drip[i : i+1]); err != nil {
							return
						}
					}
				}()
				io.Copy(io.Discard, bufio.NewReader(conn))
				if time.Since(began) >= enough {
					mu.Lock()
					defer mu.Unlock()
					r.gotIn = append(r.gotIn, name+", "+tls.VersionName(version))
				}
			})
		}
	}
	running.Wait()
}

// helloOf is the ClientHello that a client would send.
func helloOf(config *tls.Config) []byte {
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		tls.Client(near, config).Handshake() // fails when the other end is closed
		near.Close()
	}()
	buf := make([]byte, 64<<10)
	n, err := far.Read(buf)
	if err != nil {
		panic("tlstest: a client sends no ClientHello: " + err.Error())
	}
	return buf[:n]
}
