package store

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// On Windows a new file inherits the access list of the user's profile, and directories cannot be synced.
const (
	permissionsApply = false
	directorySync    = false
)

var errLocked = errors.New("locked by another process")

// lock takes an exclusive lock that ends with the process, whatever ends it.
func lock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errLocked
	}
	return err
}
