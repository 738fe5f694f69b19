package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"countersign/termination"
	"countersign/termination/wire"
)

// observeBuffer is the size of the reads in which a handshake is looked at.
const observeBuffer = 4 << 10

// observation forwards a connection both ways and watches its handshake while it passes. Each direction is handed to the
// kernel as soon as there is nothing left to see in it; the record is published as soon as what was seen settles it.
type observation struct {
	client            *client
	session           *session
	splicing          *splicing
	seen              wire.Conversation
	inbound, outbound *way
	began             time.Time

	mu        sync.Mutex // over what both directions' goroutines touch
	published bool
	crash     error // what panicked
	reply     time.Duration
	wait      time.Duration
}

// way is one direction.
type way struct {
	from, to end
	feed     func([]byte) (more bool)
	carried  int64

	// Under the observation's mutex:
	watched bool // still
	woken   bool // there is no need to watch any more, and its read was cut short
	drained bool // its receiver is gone: what still comes is only read, so that the sender can read its last words
}

// run carries both directions until they have ended. What panics in one of them ends the connection and is passed on.
func (o *observation) run() spliced {
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.carry(o.inbound)
	}()
	o.carry(o.outbound)
	<-done
	if o.crash != nil {
		panic(o.crash)
	}
	return spliced{fromClient: o.inbound.carried, fromUpstream: o.outbound.carried, first: *o.splicing.first.Load()}
}

// carry carries one direction to its end.
func (o *observation) carry(w *way) {
	defer func() {
		if p := recover(); p != nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.crash = fmt.Errorf("%v\n%s", p, debug.Stack())
			o.splicing.ended(termination.ClosedByGateway)
			o.splicing.abort()
		}
	}()
	err := o.watch(w)
	switch {
	case err == nil && w.drained:
		linger(o.client.raw, o.client.table.config.Limits.RefusalLinger)
		_ = o.client.raw.Close()
	case err == nil:
		w.carried += o.splicing.carry(w.to, w.from)
	case w == o.inbound:
		o.clientEnded(err)
	default:
		o.serverEnded(err)
	}
}

// watch forwards one direction until there is nothing left to see in it. A nil error means that it goes on.
func (o *observation) watch(w *way) error {
	buf := make([]byte, observeBuffer)
	for {
		n, err := w.from.Read(buf)
		more := true
		if n > 0 {
			o.splicing.moved()
			o.note(w)
			more = w.feed(buf[:n]) // before it is forwarded, so that no answer to it is seen first
			if _, werr := w.to.Write(buf[:n]); werr != nil {
				err = errors.Join(errWrite, werr)
			}
			w.carried += int64(n)
		}
		if err != nil || !more {
			return o.leave(w, err)
		}
	}
}

// note takes the times at which the two sides first spoke.
func (o *observation) note(w *way) {
	o.mu.Lock()
	defer o.mu.Unlock()
	passed := o.client.gateway.now().Sub(o.began)
	switch {
	case w == o.outbound && o.reply == 0:
		o.reply = passed
	case w == o.inbound && o.reply != 0 && o.wait == 0:
		o.wait = passed - o.reply
	}
}

// leave ends the watch over one direction, and publishes the record if that settles it. A client that closes its side
// without a word may still get an answer, and what the service says last tells more than that it cannot be written to.
func (o *observation) leave(w *way, err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.watched = false
	if w.woken && errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	if err == nil {
		_ = w.from.SetReadDeadline(time.Time{}) // these fail only on a closed connection
		_ = w.to.SetWriteDeadline(time.Time{})
	} else {
		o.splicing.ended(o.whoEnded(w, err))
	}
	other := o.outbound
	if w == o.outbound {
		other = o.inbound
	}
	waits := w == o.inbound && (errors.Is(err, io.EOF) || errors.Is(err, errWrite))
	if !other.watched || o.seen.Over() || err != nil && !waits {
		o.publishOnce(err)
		if other.watched {
			other.woken = true
			other.drained = w == o.outbound && err != nil
			_ = other.from.SetReadDeadline(time.Unix(1, 0))
		}
	}
	return err
}

// whoEnded says which party an error is of.
func (o *observation) whoEnded(w *way, err error) termination.ClosedBy {
	switch {
	case errors.Is(err, errWrite), errors.Is(err, syscall.EPIPE):
		return o.splicing.party(w.to)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
		return termination.ClosedByGateway
	default:
		return o.splicing.party(w.from)
	}
}

// clientEnded ends the direction from the client, which broke while it was watched.
func (o *observation) clientEnded(err error) {
	switch {
	case errors.Is(err, io.EOF):
		_ = o.inbound.to.CloseWrite() // the service may be gone already
	case errors.Is(err, errWrite): // the other direction brings the service's last words, and then ends it
	default:
		o.splicing.abort()
	}
}

// serverEnded ends the direction to the client, which broke while it was watched. What was sent to the client last, such
// as an alert, it shall get to read.
func (o *observation) serverEnded(err error) {
	if errors.Is(err, errWrite) || errors.Is(err, net.ErrClosed) {
		o.splicing.abort()
		return
	}
	_ = o.outbound.to.CloseWrite()
	if !errors.Is(err, io.EOF) || o.handshaking() {
		_ = o.outbound.from.Close()
	}
}

// handshaking reports whether the service left in the middle of the handshake: there is no half-close in that.
func (o *observation) handshaking() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.inbound.drained
}

// publish publishes the record of a connection whose handshake was not even begun.
func (o *observation) publish(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.publishOnce(err)
}

// publishOnce publishes the record with what was seen from outside.
func (o *observation) publishOnce(err error) {
	if o.published {
		return
	}
	o.published = true
	c := o.client
	c.slot.established()
	if o.reply > 0 {
		c.record.Stages.Reply = o.reply
	}
	if o.wait > 0 {
		c.record.Stages.Wait = o.wait
	}
	c.observed(o.seen.Seen(), o.splicing.first.Load(), err)
	c.publish()
	c.judgeLate(o.session)
}
