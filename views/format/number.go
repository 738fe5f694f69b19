package format

import (
	"math"
	"strconv"
	"strings"
	"time"

	"countersign/termination"
)

const thin = "\u2009" // thin space

// Int writes n with a thin space between groups of three digits, from five digits on.
func Int[N int | int64 | uint64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "\u2212", s[1:]
	}
	if len(s) < 5 {
		return sign + s
	}
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteString(thin)
		}
		b.WriteRune(c)
	}
	return sign + b.String()
}

// Count writes n and the noun that goes with it: "1 client", "2 clients", "no clients".
func Count(n int, one, many string) string {
	switch n {
	case 0:
		return "no " + many
	case 1:
		return "1 " + one
	}
	return Int(n) + " " + many
}

// Percent writes part of whole, with one decimal below 99.95 %; a dash when whole is zero.
func Percent(part, whole uint64) string {
	if whole == 0 {
		return "–"
	}
	p := float64(part) / float64(whole) * 100
	if part == whole {
		return "100" + thin + "%"
	}
	// Never round up to 100 %: one failure among many must stay visible.
	p = math.Min(math.Round(p*10)/10, 99.9)
	return strconv.FormatFloat(p, 'f', -1, 64) + thin + "%"
}

// Bytes writes a size in powers of 1000, as disks and networks are sold.
func Bytes(n int64) string {
	if n < 0 {
		return "–"
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	units := []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	v := float64(n)
	u := -1
	for v >= 999.95 && u < len(units)-1 {
		v /= 1000
		u++
	}
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64) + " " + units[u]
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[u]
}

// Limit writes a size that was set in powers of 1024, as limits are: "64 KiB", "1 MiB"; any other as [Bytes].
func Limit(n int) string {
	switch {
	case n > 0 && n%(1<<20) == 0:
		return Int(n>>20) + " MiB"
	case n > 0 && n%(1<<10) == 0:
		return Int(n>>10) + " KiB"
	}
	return Bytes(int64(n))
}

// Milliseconds writes a measured span without its unit: one decimal below 100 ms, none above; a dash for a span that was
// not run, which is negative.
func Milliseconds(d time.Duration) string {
	if d < 0 {
		return "–"
	}
	ms := float64(d) / float64(time.Millisecond)
	if ms < 99.95 {
		return strconv.FormatFloat(ms, 'f', 1, 64)
	}
	return Int(int64(math.Round(ms)))
}

// Duration writes a measured span with its unit.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "not run"
	case d < 10*time.Second:
		return Milliseconds(d) + " ms"
	}
	return Span(d)
}

// Span writes a length of time in one unit, as a person would say it: "4 seconds", "3 days", "6 years".
func Span(d time.Duration) string {
	if d < 0 {
		d = -d
	}
	const day = 24 * time.Hour
	say := func(unit time.Duration, one string) string {
		n := int(d / unit)
		if n == 1 {
			return "1 " + one
		}
		return Int(n) + " " + one + "s"
	}
	switch {
	case d < time.Minute:
		return say(time.Second, "second")
	case d < 2*time.Hour:
		return say(time.Minute, "minute")
	case d < 2*day:
		return say(time.Hour, "hour")
	case d < 2*365*day:
		return say(day, "day")
	}
	return say(365*day+6*time.Hour, "year")
}

// ShortSpan writes a length of time as a column or a setting shows it: "30 s", "15 min", "24 h", "7 d".
func ShortSpan(d time.Duration) string {
	const day = 24 * time.Hour
	n := func(unit time.Duration, s string) string { return Int(int64(d/unit)) + " " + s }
	switch {
	case d <= 0:
		return "0 s"
	case d < time.Minute:
		return n(time.Second, "s")
	case d < 2*time.Hour:
		return n(time.Minute, "min")
	case d < 2*day:
		return n(time.Hour, "h")
	case d < 2*365*day:
		return n(day, "d")
	}
	return n(365*day+6*time.Hour, "y")
}

// Fingerprint writes the whole of f in the form that openssl prints, upper case with colons.
func Fingerprint(f termination.Fingerprint) string {
	return colons(strings.ToUpper(f.String()))
}

// ShortFingerprint writes the first six bytes and the last one, with colons, as lists show it.
func ShortFingerprint(f termination.Fingerprint) string {
	s := f.String()
	return colons(s[:12]) + "…" + s[len(s)-2:]
}

func colons(hex string) string {
	var b strings.Builder
	for i := 0; i < len(hex); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(hex[i:min(i+2, len(hex))])
	}
	return b.String()
}
