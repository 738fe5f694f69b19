package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long files must not have changed before they are read: editors and copies write in several steps.
	quiet = 200 * time.Millisecond
	// patience is how long a file that changes all the time is waited for.
	patience = 2 * time.Second
)

// watcher notices that files may have changed. It watches their directories, because editors, and Kubernetes with its
// links, put another file in place of the old one. Its notices are hints: whoever gets one looks for himself.
type watcher struct {
	log     *slog.Logger
	notify  *fsnotify.Watcher
	changed chan struct{} // holds one notice
	done    chan struct{}

	mu    sync.Mutex
	names map[string]bool // files and links of interest
	dirs  map[string]bool // watched
}

func newWatcher(log *slog.Logger) (*watcher, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	w := &watcher{log: log, notify: n, changed: make(chan struct{}, 1), done: make(chan struct{}), dirs: map[string]bool{}}
	go w.run()
	return w, nil
}

func (w *watcher) close() {
	_ = w.notify.Close() // run ends either way
	<-w.done
}

// follow makes these the files that are watched. An error names a directory that cannot be; the others are.
func (w *watcher) follow(files []string) error {
	names, dirs := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		for _, name := range links(f) {
			names[name] = true
			dirs[filepath.Dir(name)] = true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names = names
	var errs []error
	for dir := range dirs {
		// A directory that was replaced is watched anew; for one that is watched already this does nothing.
		if err := w.notify.Add(dir); err != nil {
			errs = append(errs, fmt.Errorf("watch %s: %w", dir, err))
			delete(dirs, dir)
		}
	}
	for dir := range w.dirs {
		if !dirs[dir] {
			_ = w.notify.Remove(dir) // it may be gone
		}
	}
	w.dirs = dirs
	return errors.Join(errs...)
}

func (w *watcher) run() {
	defer close(w.done)
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	var since time.Time // of the first event that was not told; zero: none
	for {
		select {
		case e, ok := <-w.notify.Events:
			if !ok {
				return
			}
			if !w.interesting(e.Name) {
				continue
			}
			if since.IsZero() {
				since = time.Now()
			}
			settle.Reset(max(0, min(quiet, patience-time.Since(since))))
		case err, ok := <-w.notify.Errors:
			if !ok {
				return
			}
			// Events were lost, perhaps ours.
			w.log.Warn("watching files", "error", err)
			settle.Reset(quiet)
		case <-settle.C:
			since = time.Time{}
			select {
			case w.changed <- struct{}{}:
			default: // a notice waits already
			}
		}
	}
}

func (w *watcher) interesting(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.names[filepath.Clean(name)]
}

// maxLinks bounds how many symbolic links lead to a file, as systems do.
const maxLinks = 40

// links returns the path of a file and of every symbolic link on the way to what it leads to: a change of any may change
// what the file says.
func links(path string) []string {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	out := []string{path}
	for range maxLinks {
		link, rest := firstLink(path)
		if link == "" {
			break
		}
		out = append(out, link)
		target, err := os.Readlink(link)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, rest)
	}
	return append(out, path)
}

// firstLink returns the first part of an absolute path that is a symbolic link, and what follows it; "" if none is.
func firstLink(path string) (link, rest string) {
	volume := filepath.VolumeName(path)
	parts := strings.Split(strings.TrimPrefix(path, volume), string(filepath.Separator))
	at := volume + string(filepath.Separator)
	for i, part := range parts {
		if part == "" {
			continue
		}
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		if err != nil {
			return "", ""
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return at, filepath.Join(parts[i+1:]...)
		}
	}
	return "", ""
}
