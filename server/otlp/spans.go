package otlp

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"countersign/termination"
	"countersign/termination/live"
)

// maxText bounds each text that is told, in bytes.
const maxText = 256

// spans tells handshakes as traces.
type spans struct {
	doing
	tap    *live.Tap[*termination.Handshake]
	to     sdktrace.SpanExporter
	made   *madeSpans
	tracer trace.Tracer
}

func newSpans(to sdktrace.SpanExporter, about *resource.Resource, log *slog.Logger) *spans {
	s := &spans{doing: doing{what: "traces", log: log}, to: to, made: &madeSpans{}}
	s.tracer = sdktrace.NewTracerProvider(
		sdktrace.WithResource(about), sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithIDGenerator(handshakeIDs{}), sdktrace.WithSpanProcessor(s.made),
	).Tracer("countersign")
	s.tap = newTap(s.tell)
	return s
}

func (s *spans) tell(ctx context.Context, batch []*termination.Handshake) {
	for _, h := range batch {
		s.record(ctx, h)
	}
	s.told(len(batch), s.to.ExportSpans(ctx, s.made.take()))
}

// madeSpans keeps what ends until it is taken. The tap's goroutine alone makes spans.
type madeSpans struct{ all []sdktrace.ReadOnlySpan }

func (m *madeSpans) take() []sdktrace.ReadOnlySpan {
	all := m.all
	m.all = nil
	return all
}

// OnStart implements [sdktrace.SpanProcessor].
func (m *madeSpans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements [sdktrace.SpanProcessor].
func (m *madeSpans) OnEnd(s sdktrace.ReadOnlySpan) { m.all = append(m.all, s) }

// Shutdown implements [sdktrace.SpanProcessor].
func (m *madeSpans) Shutdown(context.Context) error { return nil }

// ForceFlush implements [sdktrace.SpanProcessor].
func (m *madeSpans) ForceFlush(context.Context) error { return nil }

// record makes the span of a handshake and those of its stages.
func (s *spans) record(ctx context.Context, h *termination.Handshake) {
	end := h.Time.Add(max(h.Duration, 0))
	ctx, span := s.tracer.Start(withHandshake(ctx, h.ID), "TLS handshake",
		trace.WithTimestamp(h.Time), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes(h)...))
	if !h.Verdict.Outcome.In() {
		span.SetStatus(codes.Error, title(h.Verdict.Reason))
	}
	from := h.Time
	for _, stage := range []struct {
		name string
		took time.Duration
	}{{"hello", h.Stages.Hello}, {"reply", h.Stages.Reply}, {"wait", h.Stages.Wait}, {"check", h.Stages.Check}} {
		if stage.took < 0 {
			continue
		}
		to := from.Add(stage.took)
		if to.After(end) {
			to = end // stages are measured apart from the whole
		}
		_, child := s.tracer.Start(ctx, stage.name, trace.WithTimestamp(from))
		child.End(trace.WithTimestamp(to))
		from = to
	}
	span.End(trace.WithTimestamp(end))
}

func title(r termination.Reason) string {
	if info, ok := r.Info(); ok {
		return info.Title
	}
	return string(r)
}

// attributes are those of the semantic conventions for TLS, network, client and server, and under countersign.* what they have no word
// for. Texts of clients are hostile: bounded, and valid UTF-8, as protobuf demands.
func attributes(h *termination.Handshake) []attribute.KeyValue {
	a := list{}
	a.text("network.transport", "tcp")
	a.text("client.address", h.Peer.Addr().Unmap().String())
	a.number("client.port", int(h.Peer.Port()))
	a.text("network.local.address", h.Local.Addr().Unmap().String())
	a.number("network.local.port", int(h.Local.Port()))
	a.text("tls.protocol.name", "tls")
	a.flag("tls.established", h.Verdict.Outcome.In())
	if hello := h.Hello; hello != nil {
		a.text("server.address", hello.ServerName)
		a.text("tls.client.ja3", hello.JA3)
		a.text("countersign.client.ja4", hello.JA4)
	}
	if n := h.Chosen; n != nil {
		a.text("tls.protocol.version", strings.TrimPrefix(tls.VersionName(n.Version), "TLS "))
		a.text("tls.cipher", tls.CipherSuiteName(n.CipherSuite))
		if n.Group != 0 {
			a.text("tls.curve", tls.CurveID(n.Group).String())
		}
		a.text("tls.next_protocol", n.ALPN)
		a.flag("tls.resumed", n.Resumed)
		a.flag("countersign.post_quantum", n.PostQuantum)
	}
	if len(h.Presented) > 0 {
		leaf, f := h.Presented[0], termination.FingerprintOf(h.Presented[0])
		a.text("tls.client.hash.sha256", strings.ToUpper(hex.EncodeToString(f[:])))
		a.text("tls.client.subject", termination.NameText(leaf.Subject))
		a.text("tls.client.issuer", termination.NameText(leaf.Issuer))
		a.text("tls.client.not_before", leaf.NotBefore.UTC().Format(time.RFC3339))
		a.text("tls.client.not_after", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	a.text("countersign.handshake", h.ID)
	a.text("countersign.endpoint", h.Endpoint)
	a.text("countersign.outcome", string(h.Verdict.Outcome))
	a.text("countersign.reason", string(h.Verdict.Reason))
	a.text("countersign.client.name", h.Client.Name)
	a.text("countersign.client.identity", h.Client.Identity)
	a.text("countersign.client.authority", h.Client.Authority)
	a.number("countersign.revision", int(h.Revision)) //nolint:gosec // a count
	if !h.Verdict.Outcome.In() {
		a.text("error.type", string(h.Verdict.Reason))
	}
	return a
}

// list leaves out what is empty.
type list []attribute.KeyValue

func (l *list) text(key, value string) {
	if value != "" && value != "invalid IP" {
		*l = append(*l, attribute.String(key, plain(value, maxText)))
	}
}

func (l *list) number(key string, value int) {
	if value != 0 {
		*l = append(*l, attribute.Int(key, value))
	}
}

func (l *list) flag(key string, value bool) { *l = append(*l, attribute.Bool(key, value)) }

// plain makes a hostile text one that protobuf can carry and a terminal can show.
func plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' {
			return utf8.RuneError
		}
		return r
	}, s[:min(len(s), most)])
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
