package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"countersign/server/client"
	"countersign/termination"
)

// Bounds of what tail reads from the history.
const (
	tailLines    = 10     // before the stream, unless told otherwise
	tailMost     = 10_000 // lines from the history at most
	tailPage     = 1000
	tailFresh    = 5 * time.Second // how long a handshake takes into the history at most
	tailPatience = 6 * time.Second // for the history while the stream waits: the gateway closes a reader that is silent for longer
)

// tailOptions are the flags of tail.
type tailOptions struct {
	gateway  gatewayFlags
	since    string
	lines    int // -1: not given
	asJSON   bool
	noFollow bool
	noColour bool
}

func (p *program) tailCommand() *cobra.Command {
	o := tailOptions{lines: -1}
	c := &cobra.Command{
		Use: "tail [FILTER…]", Short: "Watch handshakes live, one a line",
		Long: `Watch the handshakes of a running gateway live, one a line: when, how far it got, who, which name was asked for, the key
exchange, the outcome with its reason, and how long it took. Without a filter, all of them.

Filters are those of the Live page; several must all hold:
  countersign tail outcome:failed endpoint:payments
  countersign tail reason:cert_expired,cert_missing -client:probe
  countersign tail 'client:"billing batch"' is:pq 'ms:>50'

Keys: outcome (verified, open, passed, refused, client_refused, broken_off; failed: the last three), reason, beat (1 to 5), endpoint,
sni, client, identity, ca, fp (how the certificate's SHA-256 begins), ip (or a network), tls, kx, is (pq, would_refuse, noise,
new, marked), alpn, ja4, ms, since and until. A comma means or, a minus before the key not, an asterisk any text. A word alone is
looked for in the client's name, the server name, the address and the reason.

The last ten that were recorded come first, or with --since all from then on. A connection that is lost comes back by
itself; what could not be shown meanwhile is said in a line of its own. Ctrl-C ends it.

With --json each line is a document: kind is handshake, update (the same id again, with what became known later) or
gap. The whole record of a handshake is GET /api/v1/handshakes/ID.`,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := untilInterrupted(c.Context())
			defer stop()
			err := p.tail(ctx, &o, args)
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return nil // it was told to end
			}
			return err
		},
	}
	o.gateway.flags(c, "server")
	c.Flags().StringVar(&o.since, "since", "", "begin with what was recorded since this `time`, as in 15m, 2h, 14:58 or 2026-03-01")
	c.Flags().IntVarP(&o.lines, "lines", "n", -1, "how `many` recorded handshakes come first at most: 10 unless it is given, and 10000 with --since")
	c.Flags().Lookup("lines").DefValue = "0" // which is not printed; -1 stands for "not given"
	c.Flags().BoolVar(&o.noFollow, "no-follow", false, "print what was recorded, and end")
	c.Flags().BoolVar(&o.noColour, "no-colour", false, "no colours on a terminal either (as $NO_COLOR does)")
	c.Flags().BoolVar(&o.asJSON, "json", false, "print a JSON document a line")
	return c
}

func (p *program) tail(ctx context.Context, o *tailOptions, args []string) error {
	filter, history, err := o.filters(args, time.Now())
	if err != nil {
		return err
	}
	if o.lines > tailMost {
		return fmt.Errorf("%w: --lines %d is more than the %d that are read at most; narrow the filter, or read the history over the API", errUsage, o.lines, tailMost)
	}
	c, err := p.client(&o.gateway)
	if err != nil {
		return err
	}
	t := &tail{client: c, history: history, most: o.most(history), rows: p.tailRows(o), said: p.err}
	if o.noFollow || ended(filter, time.Now()) {
		return p.away(&o.gateway, t.recorded(ctx))
	}
	err = c.Watch(ctx, filter.String(), func(f client.Frame) error { return t.frame(ctx, f) })
	if wrong, is := errors.AsType[*client.FilterError](err); is {
		return fmt.Errorf("%w: the gateway does not understand the filter: %w", errUsage, wrong)
	}
	return p.away(&o.gateway, err)
}

// filters reads the filter of the stream, and that of the history before it.
func (o *tailOptions) filters(args []string, now time.Time) (filter, history termination.Filter, err error) {
	text := strings.Join(args, " ")
	if filter, err = termination.ParseFilter(text, now); err != nil {
		return filter, history, fmt.Errorf("%w: the filter %q: %w; what can be said: countersign tail --help", errUsage, text, err)
	}
	history = termination.Filter{Terms: slices.Clone(filter.Terms)}
	if o.since != "" {
		since, err := termination.ParseFilter(string(termination.FilterSince)+":"+o.since, now)
		if err != nil || len(since.Terms) != 1 {
			return filter, history, fmt.Errorf("%w: --since %q is no time; expected how long ago, as in 15m, 2h or 7d, or a time, as in 14:58, 2026-03-01 or 2026-03-01T14:58:07Z", errUsage, o.since)
		}
		history.Terms = append(history.Terms, since.Terms...)
	}
	return filter, history, nil
}

// most is how many recorded handshakes come first.
func (o *tailOptions) most(history termination.Filter) int {
	switch {
	case o.lines >= 0:
		return o.lines
	case slices.ContainsFunc(history.Terms, func(t termination.FilterTerm) bool {
		return t.Key == termination.FilterSince || t.Key == termination.FilterUntil
	}):
		return tailMost
	}
	return tailLines
}

// ended reports whether the filter selects nothing that is still to come.
func ended(f termination.Filter, now time.Time) bool {
	return slices.ContainsFunc(f.Terms, func(t termination.FilterTerm) bool {
		return t.Key == termination.FilterUntil && !t.Negate && !t.Values[0].Time.After(now)
	})
}

// tailRows chooses how rows look.
func (p *program) tailRows(o *tailOptions) tailPrinter {
	if o.asJSON {
		return &jsonRows{out: p.out}
	}
	rows := &textRows{out: p.out, unicode: p.unicode(), width: func() int { return 0 }, zone: time.Local}
	if f, is := p.out.(*os.File); is && isTerminal(f) {
		rows.width = func() int { return terminalWidth(f) }
		rows.colour = !o.noColour && p.getenv("NO_COLOR") == "" && p.getenv("TERM") != "dumb"
	}
	return rows
}

// unicode reports whether the locale's characters are Unicode's (POSIX, section 8.2 says which variable counts).
func (p *program) unicode() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(p.getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
