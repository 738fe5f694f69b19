package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign/server"
	"countersign/store"
	"countersign/store/declared"
	"countersign/termination"
)

// file is the configuration file of a running gateway.
type file struct {
	app  *app
	path string

	reloading sync.Mutex            // one at a time; guards what is below
	last      *declared.Declaration // as it was last read, right or wrong
	digest    [sha256.Size]byte     // of the files before they were read
	problem   string                // why the last one is not in force; empty: it is

	watcher *watcher
}

// kindFile is what the configuration file is called among the problems of the dashboard.
const kindFile = "configuration file"

// read reads the file and remembers what it was made from.
func (f *file) read() (*declared.Declaration, error) {
	var err error
	files := []string{f.path}
	if f.last != nil {
		files = f.last.Files
	}
	const tries = 3
	for range tries {
		// Taken before reading: what changes meanwhile differs from it, and is noticed.
		f.digest = digestOf(files)
		f.last, err = declared.Read(f.path, declared.Options{})
		if slices.Equal(files, f.last.Files) {
			break // else the file names others than before, and they count too
		}
		files = f.last.Files
	}
	return f.last, err
}

// apply puts what was read into force, as a whole or not at all.
func (f *file) apply(ctx context.Context) error {
	d := f.last
	before, _, err := f.app.store.Load(ctx)
	if err != nil {
		return err
	}
	ca, err := neededLocalCA(before, d.Declared, time.Now())
	if err != nil {
		return err
	}
	config, err := f.app.server.Change(ctx, store.Actor{Name: filepath.Base(f.path), Via: "file"}, func(tx *store.Tx) error {
		if ca != nil {
			if err := server.WriteLocalCA(tx, ca); err != nil {
				return err
			}
		}
		return tx.ReplaceDeclared(d.Declared)
	})
	if err != nil {
		return d.Locate(err)
	}
	if ca != nil {
		f.app.log.Info("made a local CA, since endpoints of the file have no other certificate; give its own certificate to their clients: see Trust in the dashboard", "authority", ca.Name)
	}
	for _, w := range d.Warnings {
		level := slog.LevelInfo
		if w.Strong {
			level = slog.LevelWarn
		}
		f.app.log.Log(ctx, level, "about the configuration file", "file", w.File, "line", w.Line, "note", w.Problem)
	}
	f.app.log.Info("the configuration file is in force", "file", f.path, "revision", config.Revision)
	return nil
}

// reload reads the file again and applies it. When it is refused, what ran stays as it was.
func (f *file) reload(ctx context.Context) error {
	f.reloading.Lock()
	defer f.reloading.Unlock()
	before, logBefore := f.last.Dashboard, f.last.Log
	d, err := f.read()
	if err == nil {
		err = f.apply(ctx)
	}
	if f.watcher != nil {
		if werr := f.watcher.follow(d.Files); werr != nil {
			f.app.log.Warn("changes of some files will not be noticed; send SIGHUP after a change", "error", werr)
		}
	}
	f.problem = ""
	if err != nil {
		f.refused(err)
		return err
	}
	if d.Dashboard.Listen != before.Listen || strings.Join(d.Dashboard.Hosts, " ") != strings.Join(before.Hosts, " ") {
		f.app.log.Info("what the configuration file says of the dashboard takes effect at the next start", "file", f.path)
	}
	if d.Log != logBefore {
		f.app.log.Info("what the configuration file says of the log takes effect at the next start", "file", f.path)
	}
	return nil
}

// refused says why the file is not in force, in the log and in the dashboard.
func (f *file) refused(err error) {
	list, ok := errors.AsType[declared.Errors](err)
	if !ok {
		f.app.log.Error("the configuration file is not applied; what ran stays as it was", "file", f.path, "error", err)
		f.problem = err.Error()
	}
	const shown = 5
	var lines []string
	for i, e := range list {
		f.app.log.Error("the configuration file is refused; what ran stays as it was", "file", e.File, "line", e.Line, "column", e.Column, "problem", e.Problem, "advice", e.Advice)
		if i < shown {
			lines = append(lines, e.Error())
		}
	}
	if more := len(list) - shown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more, which are in the log", more))
	}
	if ok {
		f.problem = strings.Join(lines, "\n")
	}
	f.show()
}

func (f *file) show() {
	f.app.server.ShowProblem(store.Problem{Kind: kindFile, Name: f.path, Text: "refused, and what ran stays as it was: " + f.problem})
}

// remind shows the problem again: other changes may have come into force since.
func (f *file) remind() {
	if f == nil {
		return
	}
	f.reloading.Lock()
	defer f.reloading.Unlock()
	if f.problem != "" {
		f.show()
	}
}

// reloadIfChanged reloads when the content of a file differs from what was last read.
func (f *file) reloadIfChanged(ctx context.Context) {
	f.reloading.Lock()
	same := f.digest == digestOf(f.last.Files)
	f.reloading.Unlock()
	if !same {
		_ = f.reload(ctx) // it was logged
	}
}

// watch notices changes of the files from now on.
func (f *file) watch() error {
	f.reloading.Lock()
	defer f.reloading.Unlock()
	w, err := newWatcher(f.app.log)
	if err != nil {
		return err
	}
	f.watcher = w
	return w.follow(f.last.Files)
}

// changes gets a value after a file may have changed. Without a file it never does.
func (f *file) changes() <-chan struct{} {
	if f == nil || f.watcher == nil {
		return nil
	}
	return f.watcher.changed
}

func (f *file) close() {
	f.reloading.Lock()
	defer f.reloading.Unlock()
	if f.watcher != nil {
		f.watcher.close()
		f.watcher = nil
	}
}

// digestOf tells the contents of files apart from what they were, and what cannot be read from what can.
func digestOf(files []string) [sha256.Size]byte {
	h := sha256.New()
	for _, path := range files {
		fmt.Fprintf(h, "%q ", path)
		info, err := os.Stat(path)
		if err == nil && !info.Mode().IsRegular() {
			err = errors.New("no regular file")
		}
		if err == nil {
			err = hashFile(h, path)
		}
		fmt.Fprintf(h, "%v\n", err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// maxHashed bounds what is read of a file to notice a change; larger ones are refused by the reader anyway.
const maxHashed = 8 << 20

func hashFile(h io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(h, io.LimitReader(f, maxHashed))
	fmt.Fprintf(h, " %d ", n)
	return err
}

// declaredObjects counts what stems from a configuration file.
func declaredObjects(c *termination.Config) int {
	n := 0
	for i := range c.Authorities {
		n += count(c.Authorities[i].Origin)
	}
	for i := range c.Certificates {
		n += count(c.Certificates[i].Origin)
	}
	for i := range c.Endpoints {
		n += count(c.Endpoints[i].Origin)
	}
	return n
}

func count(o termination.Origin) int {
	if o == termination.OriginFile {
		return 1
	}
	return 0
}
