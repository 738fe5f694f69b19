package declared

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// text reads a string, with ${ENV} expanded in it. It reports whether it could.
func (r *reader) text(n ast.Node, into *string) bool {
	var s string
	ok := true
	switch v := r.resolve(n).(type) {
	case nil:
		return false
	case *ast.StringNode:
		s, ok = r.expand(n, v.Value)
	case *ast.LiteralNode:
		s, ok = r.expand(n, v.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode:
		s = v.GetToken().Value // an unquoted 1.2 is meant as text where text is wanted
	case *ast.NullNode:
		r.fail(n, "there is no value", "give one, or remove the key")
		return false
	default:
		r.fail(n, "text is wanted here", "put it in quotes")
		return false
	}
	if ok {
		*into = s
	}
	return ok
}

// word reads a text that must be one of a few, which wanted lists.
func (r *reader) word(n ast.Node, what string, into *string, wanted ...string) bool {
	var s string
	if !r.text(n, &s) {
		return false
	}
	for _, w := range wanted {
		if s == w {
			*into = s
			return true
		}
	}
	r.fail(n, fmt.Sprintf("%s: %q is unknown", what, s), "use "+orList(wanted))
	return false
}

func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// expand replaces ${NAME} by the environment's value. An unset variable is an error, never empty text. "$${" is "${".
func (r *reader) expand(n ast.Node, s string) (string, bool) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		if !found {
			out.WriteString(s)
			return out.String(), true
		}
		if strings.HasSuffix(before, "$") {
			out.WriteString(before + "{")
			s = rest
			continue
		}
		out.WriteString(before)
		name, after, closed := strings.Cut(rest, "}")
		if !closed || name == "" {
			r.fail(n, "${ begins the name of an environment variable, and none follows", "write ${NAME}, or $${ for a literal ${")
			return "", false
		}
		value, set := r.getenv(name)
		if !set {
			r.fail(n, fmt.Sprintf("the environment variable %q is not set", name), "set it, or write $${ for a literal ${")
			return "", false
		}
		out.WriteString(value)
		s = after
	}
}

// scalar returns what a number or a truth value is written as: plain, or as a text that holds ${ENV}. ok says that it is
// not of another kind; said that an error was noted.
func (r *reader) scalar(n ast.Node) (s string, ok, said bool) {
	switch v := r.resolve(n).(type) {
	case nil:
		return "", false, true
	case *ast.IntegerNode, *ast.BoolNode:
		return v.GetToken().Value, true, false
	case *ast.StringNode:
		if !strings.Contains(v.Value, "${") {
			return "", false, false
		}
		s, ok = r.expand(n, v.Value)
		return s, ok, !ok
	default:
		return "", false, false
	}
}

func (r *reader) texts(n ast.Node, what string, into *[]string) {
	r.list(n, what, func(_ int, e ast.Node) {
		var s string
		if r.text(e, &s) {
			*into = append(*into, s)
		}
	})
}

func (r *reader) boolean(n ast.Node, into *bool) {
	s, ok, said := r.scalar(n)
	switch {
	case said:
	case ok && strings.EqualFold(s, "true"):
		*into = true
	case ok && strings.EqualFold(s, "false"):
		*into = false
	default:
		r.fail(n, "true or false is wanted here", "write true or false, without quotes")
	}
}

func (r *reader) integer(n ast.Node, least, most int, into *int) {
	s, ok, said := r.scalar(n)
	if said {
		return
	}
	// Plain decimal digits only: 010 is 8 to some readers and 10 to others.
	i, err := strconv.Atoi(s)
	if !ok || err != nil || strconv.Itoa(i) != s {
		r.fail(n, "a whole number is wanted here", fmt.Sprintf("write it in plain digits, %d to %d", least, most))
		return
	}
	if i < least || i > most {
		r.fail(n, fmt.Sprintf("%d is out of range", i), fmt.Sprintf("use %d to %d", least, most))
		return
	}
	*into = i
}

// duration reads 10s, 5m, 2h, 7d.
func (r *reader) duration(n ast.Node, least, most time.Duration, into *time.Duration) {
	var s string
	if !r.text(n, &s) {
		return
	}
	d, err := parseDuration(s)
	switch {
	case err != nil:
		r.fail(n, fmt.Sprintf("%q is no duration", s), "write it as in 10s, 5m, 2h or 7d")
	case d < least || d > most:
		r.fail(n, fmt.Sprintf("%s is out of range", s), fmt.Sprintf("use %s to %s", durationInWords(least), durationInWords(most)))
	default:
		*into = d
	}
}

const day = 24 * time.Hour

func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * day, err
	}
	return time.ParseDuration(s)
}

func durationInWords(d time.Duration) string {
	switch {
	case d >= day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// size reads 64KiB, 2GB, or a plain number of bytes.
func (r *reader) size(n ast.Node, least, most int64, into *int64) {
	var s string
	if !r.text(n, &s) {
		return
	}
	v, err := parseSize(s)
	switch {
	case err != nil:
		r.fail(n, fmt.Sprintf("%q is no size", s), "write it as in 64KiB, 10MB or 2GB")
	case v < least || v > most:
		r.fail(n, fmt.Sprintf("%s is out of range", s), fmt.Sprintf("use %s to %s", sizeInWords(least), sizeInWords(most)))
	default:
		*into = v
	}
}

func parseSize(s string) (int64, error) {
	units := []struct {
		suffix string
		factor int64
	}{
		{"KiB", 1 << 10},
		{"MiB", 1 << 20},
		{"GiB", 1 << 30},
		{"TiB", 1 << 40},
		{"kB", 1e3},
		{"KB", 1e3},
		{"MB", 1e6},
		{"GB", 1e9},
		{"TB", 1e12},
		{"B", 1},
		{"", 1},
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseUint(strings.TrimSuffix(digits, " "), 10, 63)
		if err == nil && v > uint64(math.MaxInt64/u.factor) { //nolint:gosec // factors are positive
			err = strconv.ErrRange
		}
		return int64(v) * u.factor, err
	}
	return 0, strconv.ErrSyntax
}

func sizeInWords(n int64) string {
	for _, u := range []struct {
		factor int64
		suffix string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.factor && n%u.factor == 0 {
			return fmt.Sprintf("%d%s", n/u.factor, u.suffix)
		}
	}
	return fmt.Sprintf("%dB", n)
}
