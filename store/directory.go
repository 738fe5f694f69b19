package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Names of the files in the data directory.
const (
	configurationFile = "countersign.db"
	historyFile       = "history.db"
	keyFile           = "store.key"
	lockFile          = "lock"
)

// openDirectory makes dir if it is absent, sees to it that only its owner can enter, and locks it. The returned file
// holds the lock until it is closed.
func openDirectory(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if err := closeToOthers(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of the data directory: %w", err)
	}
	if err := lock(f); err != nil {
		_ = f.Close()
		if errors.Is(err, errLocked) {
			return nil, LockedError{Dir: dir}
		}
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return f, nil
}

// closeToOthers takes the permissions of other users from dir, but only where dir is plainly meant for us: somebody may
// have given /tmp or a home directory by mistake.
func closeToOthers(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at data directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("data directory %s is a file; choose another with --data", dir)
	}
	if !permissionsApply || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read data directory: %w", err)
	}
	ours := len(entries) == 0
	for _, e := range entries {
		ours = ours || e.Name() == configurationFile
	}
	if !ours {
		return ExposedDirError{Dir: dir}
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory needs the x
		return fmt.Errorf("close data directory to other users: %w", err)
	}
	return nil
}

// makePrivate creates the file at path if it is absent and takes other users' permissions from it and from the files
// that SQLite keeps beside it. SQLite gives those the permissions of the database, so no umask matters.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", path, err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		err := os.Chmod(path+suffix, 0o600)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("close %s to other users: %w", path+suffix, err)
		}
	}
	return nil
}

// syncDirectory makes names that were created in dir survive a power loss.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory to sync it: %w", err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil && directorySync {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
