package sockets_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination/sockets"
)

const patience = 30 * time.Second

func open(t *testing.T, s *sockets.Set, address string) *sockets.Listener {
	t.Helper()
	l, err := s.Listen(t.Context(), "test", "tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// reset tells whether a reading client hears something else than silence: a reset, or the end.
func reset(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// A naive close resets who waits to be accepted; this is what the rest of the package is for.
func TestNaiveCloseResets(t *testing.T) {
	l := open(t, sockets.New(), "127.0.0.1:0")
	c := dial(t, l.Addr().String())
	l.Close()
	if !reset(c) {
		t.Error("the kernel keeps clients of a closed socket; then all this is not needed")
	}
}

func TestTakeNoNew(t *testing.T) {
	l := open(t, sockets.New(), "127.0.0.1:0")
	before := dial(t, l.Addr().String())
	if err := l.TakeNoNew(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond); err == nil {
		c.Close()
		t.Error("a new client got in")
	}
	if n, err := l.Waiting(); n != 1 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	accepted, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if n, err := l.Waiting(); n != 0 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	if _, err := accepted.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = before.SetReadDeadline(time.Now().Add(patience))
	if _, err := before.Read(make([]byte, 1)); err != nil {
		t.Errorf("the client from before: %v", err)
	}
	if err := l.TakeNew(); err != nil {
		t.Fatal(err)
	}
	dial(t, l.Addr().String())
}

// All interfaces and one of them take the port from each other while clients connect, and none is turned away.
func TestMoveBetweenAllAndOne(t *testing.T) {
	s := sockets.New()
	first := open(t, s, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(first.Addr().String())
	ctx, stop := context.WithCancel(t.Context())
	var accepting, dialling sync.WaitGroup
	accept := func(l *sockets.Listener) {
		accepting.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = c.Close()
			}
		})
	}
	accept(first)
	var ok, bad atomic.Int64
	for range 8 {
		dialling.Go(func() {
			for ctx.Err() == nil {
				c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, patience)
				if err == nil {
					_ = c.SetReadDeadline(time.Now().Add(patience))
					if _, rerr := c.Read(make([]byte, 1)); rerr.Error() != "EOF" {
						err = rerr
					}
					_ = c.(*net.TCPConn).SetLinger(0)
					_ = c.Close()
				}
				if err != nil {
					bad.Add(1)
					t.Error(err)
				} else {
					ok.Add(1)
				}
			}
		})
	}
	current := first
	for i := range 20 {
		host := []string{"0.0.0.0", "127.0.0.1"}[i%2]
		next := open(t, s, net.JoinHostPort(host, port))
		accept(next)
		if err := current.TakeNoNew(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // for clients whose last segment is on its way; nobody announces it
		for n := 1; n > 0; {
			n, _ = current.Waiting()
		}
		current.Close()
		current = next
	}
	stop()
	dialling.Wait()
	current.Close()
	accepting.Wait()
	t.Logf("%d connections, %d failed", ok.Load(), bad.Load())
}

// A port that two of our sockets share is still taken for a second gateway.
func TestPortStaysTaken(t *testing.T) {
	s := sockets.New()
	one := open(t, s, "127.0.0.1:0")
	port := netip.MustParseAddrPort(one.Addr().String()).Port()
	open(t, s, fmt.Sprintf("0.0.0.0:%d", port))
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "127.0.0.2"} {
		other := sockets.New()
		if l, err := other.Listen(t.Context(), "test", "tcp4", net.JoinHostPort(host, strconv.Itoa(int(port)))); err == nil {
			l.Close()
			t.Errorf("a second gateway got in at %s", host)
		}
	}
}

// A socket lives on in its copy, with whoever waits at it.
func TestInherit(t *testing.T) {
	s := sockets.New()
	l := open(t, s, "127.0.0.1:0")
	address := l.Addr().String()
	copies, err := s.Copies()
	if err != nil || len(copies) != 1 {
		t.Fatal(copies, err)
	}
	waiting := dial(t, address)
	l.Close()
	next := sockets.New()
	next.Inherit(copies[0].Name, copies[0].File)
	if got := next.Inherited("test"); len(got) != 1 || got[0] != "127.0.0.1:0" {
		t.Errorf("inherited %q", got)
	}
	taken := open(t, next, "127.0.0.1:0")
	if taken.Addr().String() != address || len(next.Inherited("test")) != 0 {
		t.Errorf("took %s, not %s", taken.Addr(), address)
	}
	c, err := taken.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != waiting.LocalAddr().String() {
		t.Errorf("accepted %s", c.RemoteAddr())
	}
	next.CloseInherited()
}
