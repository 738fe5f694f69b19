package sockets

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// TakeNoNew makes the system ignore clients that begin to connect, as if their first packet was lost; they try again a
// second later, and by then somebody else has the address, or nobody. Clients that had begun get through. What waits is
// accepted as before, so that the socket can be closed without a reset once nobody waits any more.
func (l *Listener) TakeNoNew() error {
	// Of a segment without ACK and with SYN (RFC 9293, section 3.1), keep 0 bytes; of any other, all.
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: 0x02},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	return onSocket(l.TCPListener, "ignore new clients", func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}) //nolint:gosec // five
	})
}

// TakeNew takes back [Listener.TakeNoNew].
func (l *Listener) TakeNew() error {
	return onSocket(l.TCPListener, "take new clients", func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil // it takes them already
		}
		return err
	})
}

// Waiting returns how many connections wait to be accepted.
func (l *Listener) Waiting() (n int, err error) {
	err = onSocket(l.TCPListener, "count who waits", func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = int(info.Unacked) // of a listening socket: the length of its queue
		}
		return err
	})
	return n, err
}

// setShared says whether sockets of the same user may be opened on the same port.
func setShared(l *net.TCPListener, on bool) error {
	value := 0
	if on {
		value = 1
	}
	return onSocket(l, "share the port", func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, value)
	})
}

// copyOf is what File does, but for one thing: passing such a file to another process would make the socket block, in
// this process too, and accepting could not be ended any more.
func copyOf(l *net.TCPListener) (f *os.File, err error) {
	err = onSocket(l, "copy the socket", func(fd int) error {
		second, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			f = os.NewFile(uintptr(second), l.Addr().String())
		}
		return err
	})
	return f, err
}

func shareFromTheStart(_, _ string, raw syscall.RawConn) error {
	return control(raw, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
}

func onSocket(l *net.TCPListener, what string, f func(fd int) error) error {
	raw, err := l.SyscallConn()
	if err == nil {
		err = control(raw, f)
	}
	if err != nil {
		return fmt.Errorf("%s at %s: %w", what, l.Addr(), err)
	}
	return nil
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
