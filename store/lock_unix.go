//go:build unix

package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const (
	permissionsApply = true
	directorySync    = true
)

var errLocked = errors.New("locked by another process")

// lock takes an exclusive lock that ends with the process, whatever ends it.
func lock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return errLocked
		}
		return err
	}
}
