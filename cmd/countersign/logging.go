package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"

	"countersign/store/declared"
	"countersign/termination"
	"countersign/termination/live"
)

// logWords say how the log is written, in the words of the flags and of the configuration file. Empty: not said.
type logWords struct{ level, format, handshakes string }

func (w logWords) check() error {
	if w.level != "" && !slices.Contains([]string{"debug", "info", "warn", "error"}, w.level) {
		return fmt.Errorf("%w: --log-level %q is unknown; use debug, info, warn or error", errUsage, w.level)
	}
	if w.format != "" && w.format != "text" && w.format != "json" {
		return fmt.Errorf("%w: --log-format %q is unknown; use text or json", errUsage, w.format)
	}
	return nil
}

// newLogger writes lines to out. Their texts can come from anybody: they are shown as text whatever they hold.
func newLogger(out io.Writer, w logWords) *slog.Logger {
	if out == nil {
		return slog.New(slog.DiscardHandler)
	}
	o := &slog.HandlerOptions{ReplaceAttr: plainText}
	var level slog.Level
	if level.UnmarshalText([]byte(cmp.Or(w.level, "info"))) == nil { // they were checked
		o.Level = level
	}
	if w.format == "json" {
		return slog.New(slog.NewJSONHandler(out, o))
	}
	return slog.New(slog.NewTextHandler(out, o))
}

// maxLogText bounds each text of a line; the stack of a panic is the longest that is meant.
const maxLogText = 16 << 10

// plainText keeps what a terminal would obey, or a reader misread, out of the log: JSON lets characters through that turn
// the direction of text, or that begin a command in eight bits.
func plainText(_ []string, a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	var s string
	switch x := v.Any().(type) {
	case string:
		s = x
	case error:
		s = x.Error()
	case fmt.Stringer:
		if v.Kind() != slog.KindAny {
			return a // a time or a duration
		}
		s = x.String()
	default:
		return a
	}
	return slog.String(a.Key, printable(s))
}

func printable(s string) string {
	bad := func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }
	s = s[:min(len(s), maxLogText)]
	if !strings.ContainsFunc(s, bad) {
		return s
	}
	var out strings.Builder
	for _, r := range s {
		if bad(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}

// useLogWords writes the log as the configuration file says, where no flag says otherwise. Nothing else logs yet.
func (a *app) useLogWords(d declared.Log) {
	w := &a.options.LogWords
	w.level, w.format, w.handshakes = cmp.Or(w.level, d.Level), cmp.Or(w.format, d.Format), d.Handshakes
	if a.options.LogTo == nil {
		return
	}
	a.log = newLogger(a.options.LogTo, *w)
	a.pen.log = a.log
}

const (
	// logWaiting is how many handshakes may wait for their line.
	logWaiting = 1024
	// logPerSecond bounds the lines: a stranger can fail as often as a port takes it.
	logPerSecond = 100
)

// handshakeLog writes a line for each handshake, or for each that failed.
type handshakeLog struct {
	log *slog.Logger
	all bool
	tap *live.Tap[*termination.Handshake]

	// These belong to the tap's goroutine.
	second  int64
	lines   int    // in that second
	left    uint64 // handshakes without a line, since the last that said so
	dropped uint64 // by the tap, as far as it was said
}

func newHandshakeLog(log *slog.Logger, all bool) *handshakeLog {
	l := &handshakeLog{log: log, all: all}
	l.tap = live.NewTap(logWaiting, 0, l.write)
	return l
}

func (l *handshakeLog) observe(h *termination.Handshake) {
	if !h.Proof && (l.all || !h.Verdict.Outcome.In()) {
		l.tap.Put(h)
	}
}

func (l *handshakeLog) write(ctx context.Context, batch []*termination.Handshake) {
	for _, h := range batch {
		if now := time.Now().Unix(); now != l.second {
			l.sayLeft()
			l.second, l.lines = now, 0
		}
		level := levelOf(h)
		if !l.log.Enabled(ctx, level) {
			continue
		}
		if l.lines++; l.lines > logPerSecond {
			l.left++
			continue
		}
		l.log.LogAttrs(ctx, level, "handshake", handshakeAttrs(h)...)
	}
}

// close writes what waits, as far as ctx allows, and says what got no line.
func (l *handshakeLog) close(ctx context.Context) {
	l.tap.Close(ctx)
	l.sayLeft()
}

// sayLeft says how many handshakes got no line.
func (l *handshakeLog) sayLeft() {
	dropped := l.tap.Dropped()
	if n := l.left + dropped - l.dropped; n > 0 {
		l.log.Warn("handshakes without a line of their own: there were too many at once; the history and the counters have them", "handshakes", n)
	}
	l.left, l.dropped = 0, dropped
}

// levelOf: what knocks at every open port is for those who look for it, a client that came in is as it should be, one
// that did not wants to be looked at.
func levelOf(h *termination.Handshake) slog.Level {
	switch {
	case h.Noise != "":
		return slog.LevelDebug
	case h.Verdict.Outcome.In():
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

func handshakeAttrs(h *termination.Handshake) []slog.Attr {
	attrs := []slog.Attr{slog.String("handshake", h.ID), slog.String("outcome", string(h.Verdict.Outcome))}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("reason", string(h.Verdict.Reason))
	if info, ok := h.Verdict.Reason.Info(); ok {
		add("why", info.Title)
	}
	add("endpoint", h.Endpoint)
	add("client", h.Client.Name)
	add("identity", h.Client.Identity)
	add("address", h.Peer.String())
	if h.Hello != nil {
		add("server_name", h.Hello.ServerName)
	}
	return append(attrs, slog.Duration("took", h.Duration))
}
