package termination

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bounds that keep arithmetic on times from overflowing.
const (
	maxFilterMilliseconds = 1_000_000_000                   // 11 days
	maxFilterAgo          = 10 * 365 * 24 * time.Hour       // ten years
	timeOfFilter          = "2006-01-02T15:04:05.999Z07:00" // canonical; RFC 3339 in milliseconds
)

// readMilliseconds reads a comparison with a duration, such as ">50" or "<=0.5".
func readMilliseconds(raw string) (FilterValue, error) {
	var v FilterValue
	wrong := fmt.Errorf("%q compares nothing; expected >, >=, < or <= and milliseconds, as in ms:>50", shorten(raw))
	number := raw
	for _, c := range []Comparison{GreaterOrEqual, LessOrEqual, Greater, Less} {
		if rest, ok := strings.CutPrefix(raw, string(c)); ok {
			v.Compare, number = c, rest
			break
		}
	}
	whole, fraction, dotted := strings.Cut(number, ".")
	if v.Compare == "" || !isDigits(whole) || dotted && !isDigits(fraction) || len(whole) > 10 || len(fraction) > 6 {
		return v, wrong
	}
	ms, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return v, wrong
	}
	ns, err := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	if err != nil {
		return v, wrong
	}
	if ms > maxFilterMilliseconds {
		return v, fmt.Errorf("%d ms is longer than any handshake", ms)
	}
	v.Duration = time.Duration(ms)*time.Millisecond + time.Duration(ns)
	v.Text = string(v.Compare) + strconv.FormatInt(ms, 10)
	if ns > 0 {
		v.Text += "." + strings.TrimRight(fmt.Sprintf("%06d", ns), "0")
	}
	return v, nil
}

// readTime reads a time, or how long ago it was.
func readTime(raw string, now time.Time) (FilterValue, error) {
	if d, ok, err := readAgo(raw); ok || err != nil {
		return FilterValue{Text: formatAgo(d), Duration: d, Time: now.Add(-d).UTC()}, err
	}
	t, ok := readMoment(raw, now)
	if !ok {
		return FilterValue{}, fmt.Errorf("%q is no time; expected how long ago, as in 15m, 2h or 7d, or a time, as in 14:58, 2026-03-01 or 2026-03-01T14:58:07Z", shorten(raw))
	}
	t = t.UTC().Truncate(time.Millisecond)
	if t.Year() < 1970 || t.Year() > 9999 {
		return FilterValue{}, fmt.Errorf("the year %d is out of reach", t.Year())
	}
	return FilterValue{Text: t.Format(timeOfFilter), Time: t}, nil
}

func readMoment(raw string, now time.Time) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339, strings.ToUpper(raw)); err == nil {
		return t, true
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, strings.ToUpper(raw), now.Location()); err == nil {
			return t, true
		}
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if c, err := time.Parse(layout, raw); err == nil {
			t := time.Date(now.Year(), now.Month(), now.Day(), c.Hour(), c.Minute(), c.Second(), c.Nanosecond(), now.Location())
			if t.After(now) { // the last time the clock showed it
				t = t.AddDate(0, 0, -1)
			}
			return t, true
		}
	}
	return time.Time{}, false
}

type agoUnit struct {
	letter byte
	span   time.Duration
}

// agoUnits are the units of a duration, the longest first.
func agoUnits() []agoUnit {
	return []agoUnit{{'w', 7 * 24 * time.Hour}, {'d', 24 * time.Hour}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second}}
}

// readAgo reads numbers with a unit each, such as "15m" or "1h30m"; false if raw is nothing of that kind.
func readAgo(raw string) (time.Duration, bool, error) {
	var sum time.Duration
	rest := strings.ToLower(raw)
	for rest != "" {
		n := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if n == 0 || n == len(rest) {
			return 0, false, nil
		}
		var span time.Duration
		for _, u := range agoUnits() {
			if rest[n] == u.letter {
				span = u.span
			}
		}
		if span == 0 {
			return 0, false, nil
		}
		count, err := strconv.ParseInt(rest[:n], 10, 32)
		if err != nil || time.Duration(count) > maxFilterAgo/span {
			return 0, false, errors.New("that is more than ten years")
		}
		sum += time.Duration(count) * span
		rest = rest[n+1:]
	}
	if raw != "" && sum == 0 {
		return 0, false, errors.New("expected more than no time")
	}
	if sum > maxFilterAgo {
		return 0, false, errors.New("that is more than ten years")
	}
	return sum, raw != "", nil
}

// formatAgo writes d in the longest unit that needs no fraction. Weeks are written in days.
func formatAgo(d time.Duration) string {
	for _, u := range agoUnits()[1:] {
		if d%u.span == 0 {
			return strconv.FormatInt(int64(d/u.span), 10) + string(u.letter)
		}
	}
	return d.String()
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
