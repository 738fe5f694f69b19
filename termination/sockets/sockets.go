package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
)

// Name tells sockets apart, from one process to the next.
type Name struct {
	Use     string `json:"use"`     // what it is for: gateway, dashboard, …
	Address string `json:"address"` // as it was asked for
}

// Set is all the listening sockets of a program. Its methods may be called by several goroutines.
type Set struct {
	mu        sync.Mutex
	inherited map[Name]*os.File // not asked for yet
	open      map[*Listener]struct{}
}

// New returns an empty set.
func New() *Set {
	return &Set{inherited: map[Name]*os.File{}, open: map[*Listener]struct{}{}}
}

// Listener is a listening TCP socket.
type Listener struct {
	*net.TCPListener

	name  Name
	bound netip.AddrPort
	set   *Set
}

// Listen opens an address, or takes the socket that was inherited under that name. network is tcp, tcp4 or tcp6. Clients
// can connect from then on and wait until they are accepted. Where an open socket of this set is in the way, because one
// of the two is for all interfaces, both are open until one is closed, if the system can do that.
func (s *Set) Listen(ctx context.Context, use, network, address string) (*Listener, error) {
	name := Name{Use: use, Address: address}
	s.mu.Lock()
	defer s.mu.Unlock() // listening does not wait: addresses that are names were resolved, or are localhost
	if f, ok := s.inherited[name]; ok {
		delete(s.inherited, name)
		return s.adopt(name, f)
	}
	config := plainTCP(nil)
	l, err := config.Listen(ctx, network, address)
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = s.listenBeside(ctx, network, address, err)
	}
	if err != nil {
		return nil, err
	}
	return s.add(name, l)
}

func (s *Set) add(name Name, l net.Listener) (*Listener, error) {
	socket, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("the socket of %s %s is no TCP listener", name.Use, name.Address)
	}
	bound := socket.Addr().(*net.TCPAddr).AddrPort() //nolint:forcetypeassert // a TCP listener
	out := &Listener{TCPListener: socket, name: name, set: s, bound: netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port())}
	s.open[out] = struct{}{}
	return out, nil
}

func (s *Set) adopt(name Name, f *os.File) (*Listener, error) {
	l, err := net.FileListener(f) // a copy of its own, which does not block
	_ = f.Close()
	if err != nil {
		return nil, fmt.Errorf("take over the socket of %s %s: %w", name.Use, name.Address, err)
	}
	out, err := s.add(name, l)
	if err != nil {
		return nil, err
	}
	if err := out.TakeNew(); err != nil {
		delete(s.open, out)
		return nil, errors.Join(err, out.TCPListener.Close())
	}
	return out, nil
}

// plainTCP leaves Multipath TCP out, which net would use: the system cannot filter what arrives at such a socket.
func plainTCP(control func(network, address string, raw syscall.RawConn) error) *net.ListenConfig {
	config := &net.ListenConfig{Control: control}
	config.SetMultipathTCP(false)
	return config
}

// listenBeside opens an address although open sockets of this set, on other addresses of the same port, are in the way.
// They share the port only for as long as that takes, so that a second gateway by mistake still finds it taken. (A program
// of the same user that asks for a shared port by itself may get in; but it could read our memory, too.)
func (s *Set) listenBeside(ctx context.Context, network, address string, why error) (net.Listener, error) {
	wanted, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, why // a name: never of two sockets
	}
	var beside []*Listener
	defer func() {
		for _, l := range beside {
			_ = l.share(false)
		}
	}()
	for l := range s.open {
		if l.bound.Port() != wanted.Port() || l.bound.Addr() == wanted.Addr() {
			continue
		}
		if err := l.share(true); err != nil {
			return nil, why
		}
		beside = append(beside, l)
	}
	if len(beside) == 0 {
		return nil, why
	}
	config := plainTCP(shareFromTheStart)
	l, err := config.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if socket, ok := l.(*net.TCPListener); ok {
		_ = setShared(socket, false)
	}
	return l, nil
}

func (l *Listener) share(on bool) error { return setShared(l.TCPListener, on) }

// Close closes the socket. Connections that nobody has accepted are reset: see [Listener.TakeNoNew].
func (l *Listener) Close() error {
	l.set.mu.Lock()
	delete(l.set.open, l)
	l.set.mu.Unlock()
	return l.TCPListener.Close()
}

// Inherit keeps a socket of the process before until somebody listens under its name. The set owns f from here on.
func (s *Set) Inherit(name Name, f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, ok := s.inherited[name]; ok {
		_ = before.Close()
	}
	s.inherited[name] = f
}

// Inherited returns the addresses of the sockets of that use that were inherited and not asked for yet.
func (s *Set) Inherited(use string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for name := range s.inherited {
		if name.Use == use {
			out = append(out, name.Address)
		}
	}
	return out
}

// CloseInherited closes what was inherited and not asked for.
func (s *Set) CloseInherited() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, f := range s.inherited {
		_ = f.Close()
		delete(s.inherited, name)
	}
}

// Copy is a second descriptor of an open socket. The socket stays open until all of them are closed.
type Copy struct {
	Name Name
	File *os.File
}

// Copies returns a copy of every open socket, fit for another process. The caller closes them.
func (s *Set) Copies() ([]Copy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Copy
	for l := range s.open {
		f, err := copyOf(l.TCPListener)
		if err != nil {
			for _, c := range out {
				_ = c.File.Close()
			}
			return nil, fmt.Errorf("copy the socket of %s %s: %w", l.name.Use, l.name.Address, err)
		}
		out = append(out, Copy{Name: l.name, File: f})
	}
	return out, nil
}
