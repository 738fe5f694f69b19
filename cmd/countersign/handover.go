package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"countersign/server"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/acme"
	"countersign/termination/sockets"
)

const (
	// upgradePatience is how long each step of an upgrade may take when nobody said.
	upgradePatience = 30 * time.Second
	// requestTime is how long requests to the dashboard may take to end before the store changes hands.
	requestTime = 5 * time.Second
	// resumeEvery is how often the old process tries to open the store again when an upgrade failed and it cannot at once.
	resumeEvery = time.Second
)

// handover is the old process's side of an upgrade.
type handover struct {
	app    *app
	copies []sockets.Copy

	process *exec.Cmd
	exited  chan struct{} // closed when the new process has ended
	*talk
	version string      // of the new program
	kept    *store.Kept // nil: the store was not let go of
	away    bool        // the store was let go of
}

// Upgrade starts the program that lies where this one was started from, hands everything over to it, and returns once
// clients are its own. Until then this process serves on, and when a step fails or takes longer than patience, it takes
// the store back and goes on as before. After success, Replaced is closed, and Close lets the connections end that are
// left.
func (a *app) Upgrade(_ context.Context, patience time.Duration) (done server.Upgraded, err error) {
	if !a.upgrading.TryLock() {
		return done, errors.New("an upgrade or a reload is under way, or the gateway is stopping; try again")
	}
	defer a.upgrading.Unlock()
	if a.life.Err() != nil || a.successor != nil {
		return done, errors.New("the gateway is stopping")
	}
	a.log.Info("upgrading", "program", a.options.Program)
	h := &handover{app: a, exited: make(chan struct{})}
	if err := h.run(a.life, patience); err != nil {
		err = fmt.Errorf("the upgrade failed, and what ran runs on: %w", err)
		a.log.Error(err.Error())
		h.takeBack(errors.Is(err, errSlow))
		return done, err
	}
	done = server.Upgraded{From: a.options.Version, To: h.version, Process: h.process.Process.Pid}
	a.log.Info("upgraded; what is connected here may stay for the grace time", "from", done.From, "to", done.To, "process", done.Process)
	a.successor = h
	a.pen.use(h.write)
	a.handed.Go(h.follow)
	close(a.replaced)
	return done, nil
}

// run goes through the steps. After an error the caller takes back what was given.
func (h *handover) run(ctx context.Context, patience time.Duration) error {
	within := func(step func(<-chan struct{}) error) error {
		bounded, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return step(bounded.Done())
	}
	if err := h.start(); err != nil {
		return err
	}
	var files []string
	err := within(func(stop <-chan struct{}) error {
		m, err := h.await(stepReady, stop)
		h.version, files = m.Version, m.Files
		return err
	})
	if err != nil {
		return fmt.Errorf("the new program does not begin: %w", err)
	}
	if err := h.letGo(ctx, files); err != nil {
		return err
	}
	err = within(func(stop <-chan struct{}) error {
		if err := h.say(message{Step: stepGo}); err != nil {
			return err
		}
		_, err := h.await(stepPrepared, stop)
		return err
	})
	if err != nil {
		return fmt.Errorf("the new program (%s) does not take over: %w", h.version, err)
	}
	err = within(func(stop <-chan struct{}) error {
		if err := h.say(message{Step: stepYours}); err != nil {
			return err
		}
		_, err := h.await(stepAccepting, stop)
		return err
	})
	if err != nil {
		return fmt.Errorf("the new program (%s) does not accept: %w", h.version, err)
	}
	h.app.gateway.Leave()
	h.closeCopies()
	if err := h.kept.Forget(); err != nil {
		h.app.log.Warn("a copy of the store from before the upgrade is left over; delete it", "error", err)
	}
	return nil
}

// start starts the new process with copies of all sockets.
func (h *handover) start() (err error) {
	o := h.app.options
	if o.Program == "" {
		return errors.New("this gateway was started by a command that has it for itself; only one that countersign serve runs can be upgraded")
	}
	if h.copies, err = h.app.sockets.Copies(); err != nil {
		return err
	}
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make a pipe: %w", err), theirIn.Close(), ourOut.Close())
	}
	hello := message{Step: stepHello, Version: o.Version}
	h.process = exec.Command(o.Program, o.Args...) // as this process was started; it outlives it
	h.process.Stdout, h.process.Stderr = os.Stdout, os.Stderr
	h.process.Env = append(os.Environ(), takeoverVariable+"="+takeoverPipes)
	h.process.ExtraFiles = []*os.File{theirIn, theirOut}
	for _, c := range h.copies {
		h.process.ExtraFiles = append(h.process.ExtraFiles, c.File)
		hello.Sockets = append(hello.Sockets, c.Name)
	}
	err = h.process.Start()
	_, _ = theirIn.Close(), theirOut.Close()
	if err != nil {
		h.process = nil
		return errors.Join(fmt.Errorf("start the new program: %w", err), ourIn.Close(), ourOut.Close())
	}
	h.talk = newTalk(ourIn, ourOut)
	go func() { // ends with the new process; after an upgrade, this one ends before
		defer close(h.exited)
		_ = h.process.Wait() // how it ended is in its log; that it did is what counts
	}()
	_ = h.say(hello) // if it has ended already, that is noticed where its answer is due
	return nil
}

// letGo ends everything that needs the store, and closes it. The gateway serves on; what it records is kept meanwhile.
func (h *handover) letGo(ctx context.Context, files []string) error {
	a := h.app
	h.away = true
	bounded, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	a.closeRim(bounded)
	a.acme.Load().Close()
	a.pen.keep()
	dir := a.store.Dir()
	if err := a.store.Close(); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	var err error
	h.kept, err = store.Keep(dir, files)
	return err
}

// takeBack ends the new process and, where it was let go of, opens the store again and all that needs it.
func (h *handover) takeBack(stuck bool) {
	if h.process != nil {
		h.endProcess(stuck)
		h.close()
	}
	defer h.closeCopies()
	if !h.away {
		return
	}
	h.inheritCopies()
	a := h.app
	tick := time.NewTicker(resumeEvery)
	defer tick.Stop()
	for {
		err := h.resume()
		if err == nil {
			return
		}
		a.log.Error("the store cannot be opened again after the upgrade failed; connections are served on, and it is tried again", "error", err)
		select {
		case <-tick.C:
		case <-a.life.Done():
			return
		}
	}
}

// inheritCopies gives the sockets back that were closed with the rim; those of the gateway are still open.
func (h *handover) inheritCopies() {
	for i := range h.copies {
		c := &h.copies[i]
		if c.Name.Use == server.SocketUse || c.Name.Use == acme.SocketUse {
			h.app.sockets.Inherit(c.Name, c.File)
			c.File = nil
		}
	}
}

// endProcess gives the new process the time to end by itself, unless it is stuck.
func (h *handover) endProcess(stuck bool) {
	if !stuck {
		patience := time.NewTimer(endTime)
		defer patience.Stop()
		select {
		case <-h.exited:
			return
		case <-patience.C:
		}
	}
	_ = h.process.Process.Kill() // it may have ended meanwhile
	<-h.exited
}

func (h *handover) resume() error {
	ctx := context.Background() // opening is bounded by itself
	if h.kept != nil {
		if err := h.kept.Restore(); err != nil {
			return err
		}
		h.kept = nil
	}
	a := h.app
	if err := a.openStore(ctx); err != nil {
		return err
	}
	if err := a.openRim(ctx); err != nil {
		a.closeRim(ctx)
		a.acme.Load().Close()
		return errors.Join(err, a.store.Close())
	}
	a.pen.use(a.store.WriteHistory)
	a.serveDashboard()
	a.look(ctx)
	return nil
}

// closeCopies closes this process's second descriptors.
func (h *handover) closeCopies() {
	for _, c := range h.copies {
		if c.File != nil {
			_ = c.File.Close()
		}
	}
	h.copies = nil
}

// write sends a batch of the history to the new process, which has the store.
func (h *handover) write(b termination.HistoryBatch) error {
	text, err := json.Marshal(newRecords(b))
	if err != nil {
		return fmt.Errorf("encode records: %w", err)
	}
	return h.say(message{Step: stepRecords, Records: text})
}

// follow ends the connections whose admission changed since.
func (h *handover) follow() {
	for m := range h.heard {
		if m.Step == stepChanged {
			h.app.gateway.EndSessions(m.Endpoints)
		}
	}
}
