package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"countersign/termination"
)

// history is the file of handshakes. It is apart from the configuration, because it may lose its last moments, may
// fill the disk, and may be damaged, and none of that stops anything else.
type history struct {
	dir   string
	steps []migration
	now   func() time.Time
	warn  func(string)

	writing sync.Mutex // held by whoever writes
	writer  *historyWriter
	lastSeq uint64 // the highest that was offered; guarded by writing
	nextSeq uint64 // as it was found at the start
	stored  uint64 // likewise: the highest that was written

	mu     sync.RWMutex // held for reading while db is used, for writing to replace it
	db     *database
	closed bool

	statusMu sync.Mutex
	dropped  uint64
	failure  string // of the last batch; empty when it was stored

	kick chan struct{} // asks for retention now
	stop context.CancelFunc
	done chan struct{}
}

// openHistory opens the history in dir. A damaged file is moved aside; only a newer one is refused.
func openHistory(ctx context.Context, dir string, now func() time.Time, warn func(string)) (*history, error) {
	steps, err := loadMigrations(historyKind().migrations)
	if err != nil {
		return nil, err
	}
	h := &history{dir: dir, steps: steps, now: now, warn: warn, kick: make(chan struct{}, 1)}
	err = h.open(ctx)
	if needsReplacing(err) {
		err = h.replace(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (h *history) open(ctx context.Context) error {
	db, err := openDatabase(ctx, h.dir, historyKind(), h.steps, h.now().UnixMilli())
	if err != nil {
		return err
	}
	w, err := newHistoryWriter(ctx, db, h.now())
	if err != nil {
		_ = db.close()
		return err
	}
	h.db, h.writer = db, w
	h.nextSeq, h.stored = max(h.nextSeq, w.nextSeq), max(h.stored, w.stored)
	return nil
}

// needsReplacing reports whether err says that the file cannot be used and never will.
func needsReplacing(err error) bool {
	if _, foreign := errors.AsType[ForeignError](err); foreign {
		return true
	}
	_, damaged := errors.AsType[DamagedError](err)
	return damaged || isDamage(err)
}

// replace moves the history's file aside and begins a new one. The caller holds writing and mu, or is alone.
func (h *history) replace(ctx context.Context, why error) error {
	if h.db != nil {
		_ = h.db.close() // it is damaged: what it says does not matter
		h.db = nil
	}
	path := historyKind().path(h.dir)
	aside, err := unusedName(path + ".damaged-" + h.now().Format("20060102T150405Z"))
	if err != nil {
		return err
	}
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(path+suffix, aside+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("move damaged history aside: %w", err)
		}
	}
	if err := h.open(ctx); err != nil {
		return fmt.Errorf("begin a new history: %w", err)
	}
	if err := h.writer.setLastSeq(ctx, h.lastSeq); err != nil {
		return err
	}
	h.warn(fmt.Sprintf("the history of handshakes was damaged (%v); it was moved to %s and a new one begun. Delete that file once nobody needs it", why, aside))
	return nil
}

func unusedName(name string) (string, error) {
	for i := range 1000 {
		try := name
		if i > 0 {
			try = fmt.Sprintf("%s-%d", name, i)
		}
		if _, err := os.Lstat(try); errors.Is(err, os.ErrNotExist) {
			return try, nil
		}
	}
	return "", fmt.Errorf("no name is left beside %s; delete old damaged files", name)
}

// read runs f with the current file. Damage that it meets is answered with a new file and a second try.
func (h *history) read(ctx context.Context, f func(*database) error) error {
	db, err := h.readOnce(f)
	if !isDamage(err) {
		return err
	}
	h.writing.Lock()
	err = h.replaceIfStill(ctx, db, err)
	h.writing.Unlock()
	if err != nil {
		return err
	}
	_, err = h.readOnce(f)
	return err
}

func (h *history) readOnce(f func(*database) error) (*database, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.db == nil {
		return nil, h.unavailable()
	}
	return h.db, f(h.db)
}

func (h *history) unavailable() error {
	if h.closed {
		return ErrClosed
	}
	return errors.New("the history cannot be opened; see the log")
}

// replaceIfStill replaces the file unless somebody did already. The caller holds writing.
func (h *history) replaceIfStill(ctx context.Context, db *database, why error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.db != db {
		return nil
	}
	return h.replace(context.WithoutCancel(ctx), why)
}

// write stores a batch, in a new file if the current one is damaged.
func (h *history) write(b termination.HistoryBatch) error {
	ctx := context.Background() // the batch is bounded, and so is the wait for the disk's lock
	h.writing.Lock()
	defer h.writing.Unlock()
	if n := len(b.Handshakes); n > 0 {
		h.lastSeq = max(h.lastSeq, b.Handshakes[n-1].Seq)
	}
	skipped, err := h.writeOnce(ctx, b)
	if isDamage(err) {
		if err = h.replaceIfStill(ctx, h.db, err); err == nil {
			skipped, err = h.writeOnce(ctx, b)
		}
	}
	h.account(b, skipped, err)
	return err
}

func (h *history) writeOnce(ctx context.Context, b termination.HistoryBatch) (skipped int, err error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.db == nil {
		return 0, h.unavailable()
	}
	skipped, err = h.writer.write(ctx, b)
	if h.writer.sinceRetention >= rowsBetweenRetention {
		h.writer.sinceRetention = 0
		h.askRetention()
	}
	return skipped, err
}

// account notes what became of a batch, and tells once when the history begins to fail and when it recovers.
func (h *history) account(b termination.HistoryBatch, skipped int, err error) {
	h.statusMu.Lock()
	h.dropped += uint64(skipped) //nolint:gosec // a count
	before := h.failure
	h.failure = ""
	if err != nil {
		h.dropped += uint64(len(b.Handshakes))
		h.failure = err.Error()
	}
	h.statusMu.Unlock()
	switch {
	case err != nil && before == "":
		h.warn("handshakes are not kept in the history: " + err.Error() + advice(err))
	case err == nil && before != "":
		h.warn("handshakes are kept in the history again")
	}
}

func advice(err error) string {
	if resultCode(err) == sqlite3.SQLITE_FULL {
		return "; the disk is full: make room, or lower max_size under history"
	}
	return ""
}

func (h *history) status() (dropped uint64, failure string) {
	h.statusMu.Lock()
	defer h.statusMu.Unlock()
	return h.dropped, h.failure
}

func (h *history) askRetention() {
	select {
	case h.kick <- struct{}{}:
	default: // asked already
	}
}

// close ends retention and closes the file.
func (h *history) close() error {
	if h.stop != nil {
		h.stop()
		<-h.done
	}
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.db == nil {
		return nil
	}
	var err error
	if dropped, _ := h.status(); dropped == 0 { // else live events had higher numbers than any that is stored
		err = h.writer.setClean()
	}
	if cerr := h.db.close(); err == nil {
		err = cerr
	}
	h.db = nil
	return err
}

// WriteHistory stores a batch in one transaction: records, their certificates, the ends of earlier records, and the
// counters by minute. When it fails, nothing of the batch is stored; that is counted, and nothing else stops.
func (s *Store) WriteHistory(b termination.HistoryBatch) error {
	if len(b.Handshakes) == 0 && len(b.Ends) == 0 {
		return nil
	}
	return s.records.write(b)
}

// NextSeq returns a sequence number above all that were ever given out. After a crash, or when records could not be
// stored, it leaves a gap for those that were seen but not kept.
func (s *Store) NextSeq() uint64 { return s.records.nextSeq }

// StoredSeq returns the highest sequence number that was stored before the store was opened.
func (s *Store) StoredSeq() uint64 { return s.records.stored }
