package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// keptSuffix names the copy of a database beside it.
const keptSuffix = ".before-upgrade"

// Inspect says which files of the store in dir this version would bring to another schema; none of them is one that it
// cannot read at all: then it returns the error that [Open] would. It changes nothing, and another process may have the
// store open.
func Inspect(ctx context.Context, dir string) (files []string, err error) {
	for _, k := range []kind{configurationKind(), historyKind()} {
		steps, err := loadMigrations(k.migrations)
		if err != nil {
			return nil, err
		}
		path := k.path(dir)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			continue
		}
		version, err := probe(ctx, path, k, len(steps))
		if k.applicationID == historyID && needsReplacing(err) {
			continue // Open begins another one
		}
		if err != nil {
			return nil, err
		}
		if version < len(steps) {
			files = append(files, k.file)
		}
	}
	return files, nil
}

// Kept is a copy of files of a store, to go back to.
type Kept struct {
	dir   string
	files []string
}

// Keep copies files of the store in dir, which nobody has open. The copies lie beside the originals until Restore or
// Forget.
func Keep(dir string, files []string) (*Kept, error) {
	k := &Kept{dir: dir}
	for _, name := range files {
		if name != configurationFile && name != historyFile {
			return nil, errors.Join(fmt.Errorf("%q is no file of a store", name), k.Forget())
		}
		k.files = append(k.files, name)
		if err := copyAside(filepath.Join(dir, name), filepath.Join(dir, name+keptSuffix)); err != nil {
			return nil, errors.Join(fmt.Errorf("keep a copy of %s: %w", name, err), k.Forget())
		}
	}
	return k, nil
}

func copyAside(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// Restore puts the copies back in the place of what became of the files. Nobody may have the store open.
func (k *Kept) Restore() error {
	for _, name := range k.files {
		path := filepath.Join(k.dir, name)
		// What the log holds belongs to the file that goes.
		for _, suffix := range []string{"-wal", "-shm"} {
			if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("put %s back: %w", name, err)
			}
		}
		if err := os.Rename(path+keptSuffix, path); err != nil && !errors.Is(err, os.ErrNotExist) { // it is back already
			return fmt.Errorf("put %s back: %w", name, err)
		}
	}
	if len(k.files) == 0 {
		return nil
	}
	return syncDirectory(k.dir)
}

// Forget removes the copies.
func (k *Kept) Forget() error {
	var errs []error
	for _, name := range k.files {
		if err := os.Remove(filepath.Join(k.dir, name+keptSuffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove the copy of %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// RemoveKept removes copies that are left of an upgrade whose program was killed: they hold what may have been deleted from
// the store since, keys too. Whoever calls it has the store open and knows that nobody wants to go back.
func RemoveKept(dir string) error {
	return (&Kept{dir: dir, files: []string{configurationFile, historyFile}}).Forget()
}
