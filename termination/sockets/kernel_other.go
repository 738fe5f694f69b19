//go:build !linux

package sockets

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// TakeNoNew makes the system ignore clients that begin to connect. Only Linux can do that.
func (l *Listener) TakeNoNew() error { return nil }

// TakeNew takes back [Listener.TakeNoNew].
func (l *Listener) TakeNew() error { return nil }

// Waiting returns how many connections wait to be accepted, where the system says so.
func (l *Listener) Waiting() (int, error) { return 0, nil }

func setShared(*net.TCPListener, bool) error {
	return errors.New("two sockets cannot share a port here")
}

func copyOf(l *net.TCPListener) (*os.File, error) { return l.File() }

func shareFromTheStart(string, string, syscall.RawConn) error { return nil }
