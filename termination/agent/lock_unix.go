//go:build unix

package agent

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// permissionsApply says that the modes of files mean something.
const permissionsApply = true

// lock takes an exclusive lock that ends with the process, whatever ends it, and reports whether another process has
// it.
func lock(f *os.File) (taken bool, err error) {
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return errors.Is(err, unix.EWOULDBLOCK), err
	}
}
