package format

import "time"

// Clock is the moment a page is made for and the zone its reader lives in.
type Clock struct {
	Now  time.Time
	Zone *time.Location
}

func (c Clock) in(t time.Time) time.Time {
	if c.Zone == nil {
		return t.UTC()
	}
	return t.In(c.Zone)
}

// Time writes the time of day with milliseconds: 14:58:07.912.
func (c Clock) Time(t time.Time) string { return c.in(t).Format("15:04:05.000") }

// Date writes a day: "19 Nov" within the year, "3 Nov 2036" beyond it.
func (c Clock) Date(t time.Time) string {
	t = c.in(t)
	if t.Year() == c.in(c.Now).Year() {
		return t.Format("2 Jan")
	}
	return t.Format("2 Jan 2006")
}

// Moment writes a day and a time to the minute, with the zone: "19 Nov 09:14 UTC".
func (c Clock) Moment(t time.Time) string {
	return c.Date(t) + " " + c.in(t).Format("15:04 MST")
}

// Minute writes a moment that has passed: "14:02" on the day of the page, "26 Nov 14:02" before it.
func (c Clock) Minute(t time.Time) string {
	if day := c.in(t).Format(time.DateOnly); day == c.in(c.Now).Format(time.DateOnly) {
		return c.in(t).Format("15:04")
	}
	return c.Date(t) + " " + c.in(t).Format("15:04")
}

// Exact writes everything, in UTC: "2026-11-19 09:14:02.123 UTC". It is what titles hold.
func (c Clock) Exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 UTC") }

// Machine writes t for a datetime attribute (RFC 3339, UTC, milliseconds).
func (c Clock) Machine(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Relative writes how far t is from now, up to seven days, and the date beyond: "just now", "4 seconds ago", "in 3 hours".
func (c Clock) Relative(t time.Time) string {
	d := t.Sub(c.Now)
	far := max(d, -d)
	switch {
	case t.IsZero():
		return "never"
	case far < time.Second:
		return "just now"
	case far >= 7*24*time.Hour:
		return c.Date(t)
	case d < 0:
		return Span(d) + " ago"
	}
	return "in " + Span(d)
}

// Left says how much of a certificate's life remains: "56 days left", "ended 3 days ago", "begins in 2 hours".
func (c Clock) Left(from, until time.Time) string {
	switch {
	case c.Now.Before(from):
		return "begins in " + Span(from.Sub(c.Now))
	case c.Now.After(until):
		return "ended " + Span(c.Now.Sub(until)) + " ago"
	}
	return Span(until.Sub(c.Now)) + " left"
}
