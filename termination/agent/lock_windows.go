package agent

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// On Windows a new file inherits the access list of the user's profile.
const permissionsApply = false

// lock takes an exclusive lock that ends with the process, whatever ends it, and reports whether another process has
// it.
func lock(f *os.File) (taken bool, err error) {
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	return errors.Is(err, windows.ERROR_LOCK_VIOLATION), err
}
