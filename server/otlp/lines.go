package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"

	"countersign/termination/live"
)

// lines tells the lines of the log.
type lines struct {
	doing
	tap    *live.Tap[line]
	to     sdklog.Exporter
	made   *madeRecords
	logger log.Logger
}

// line is one line of the log, as texts.
type line struct {
	at         time.Time
	level      slog.Level
	message    string
	handshake  string
	attributes []attribute.KeyValue
}

func newLines(to sdklog.Exporter, about *resource.Resource, warn *slog.Logger) *lines {
	l := &lines{doing: doing{what: "logs", log: warn}, to: to, made: &madeRecords{}}
	l.logger = sdklog.NewLoggerProvider(sdklog.WithResource(about), sdklog.WithProcessor(l.made)).Logger("countersign")
	l.tap = newTap(l.tell)
	return l
}

func (l *lines) tell(ctx context.Context, batch []line) {
	for i := range batch {
		l.record(ctx, &batch[i])
	}
	l.told(len(batch), l.to.Export(ctx, l.made.take()))
}

func (l *lines) record(ctx context.Context, x *line) {
	var r log.Record
	r.SetTimestamp(x.at)
	r.SetSeverity(severity(x.level))
	r.SetSeverityText(x.level.String())
	r.SetBody(attribute.StringValue(x.message))
	r.AddAttributes(x.attributes...)
	if id, ok := traceID(x.handshake); ok {
		ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID(id[8:])}))
	}
	l.logger.Emit(ctx, r)
}

func severity(level slog.Level) log.Severity {
	switch {
	case level >= slog.LevelError:
		return log.SeverityError
	case level >= slog.LevelWarn:
		return log.SeverityWarn
	case level >= slog.LevelInfo:
		return log.SeverityInfo
	}
	return log.SeverityDebug
}

// madeRecords keeps what is emitted until it is taken. The tap's goroutine alone emits.
type madeRecords struct{ all []sdklog.Record }

func (m *madeRecords) take() []sdklog.Record {
	all := m.all
	m.all = nil
	return all
}

// OnEmit implements [sdklog.Processor].
func (m *madeRecords) OnEmit(_ context.Context, r *sdklog.Record) error {
	m.all = append(m.all, r.Clone())
	return nil
}

// Enabled implements [sdklog.Processor].
func (m *madeRecords) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

// Shutdown implements [sdklog.Processor].
func (m *madeRecords) Shutdown(context.Context) error { return nil }

// ForceFlush implements [sdklog.Processor].
func (m *madeRecords) ForceFlush(context.Context) error { return nil }

// Logger is next that tells its lines here too.
func (e *Exporter) Logger(next *slog.Logger) *slog.Logger { return slog.New(e.Handler(next.Handler())) }

// Handler is a handler that lets next have each line and tells it here too.
func (e *Exporter) Handler(next slog.Handler) slog.Handler {
	if e.lines == nil {
		return next
	}
	return &handler{next: next, lines: e.lines}
}

// handler passes lines on, and takes them to be told. Groups become dotted names.
type handler struct {
	next  slog.Handler
	lines *lines
	group string
	with  []attribute.KeyValue
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	x := line{at: r.Time, level: r.Level, message: plain(r.Message, maxLine), attributes: slices.Clone(h.with)}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "handshake" {
			x.handshake = a.Value.String()
		}
		x.attributes = flatten(x.attributes, h.group, a)
		return true
	})
	h.lines.tap.Put(x)
	if err := h.next.Handle(ctx, r); err != nil {
		return fmt.Errorf("write a line of the log: %w", err)
	}
	return nil
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	out.next = h.next.WithAttrs(attrs)
	out.with = slices.Clone(h.with)
	for _, a := range attrs {
		out.with = flatten(out.with, h.group, a)
	}
	return &out
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	out := *h
	out.next = h.next.WithGroup(name)
	out.group = h.group + name + "."
	return &out
}

// Bounds of one line.
const (
	maxAttributes = 64
	maxLine       = 1024 // bytes of each text
)

func flatten(into []attribute.KeyValue, group string, a slog.Attr) []attribute.KeyValue {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, inner := range v.Group() {
			into = flatten(into, group+a.Key+".", inner)
		}
		return into
	}
	if len(into) >= maxAttributes {
		return into
	}
	key := plain(group+a.Key, maxText)
	switch v.Kind() { //nolint:exhaustive // all others as text
	case slog.KindInt64:
		return append(into, attribute.Int64(key, v.Int64()))
	case slog.KindBool:
		return append(into, attribute.Bool(key, v.Bool()))
	case slog.KindFloat64:
		return append(into, attribute.Float64(key, v.Float64()))
	}
	return append(into, attribute.String(key, plain(v.String(), maxLine)))
}
