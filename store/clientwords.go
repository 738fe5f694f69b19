package store

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
)

// Sentence says in one sentence what the alert is about. Names in it are hostile, but hold nothing that does not show.
func (a ClientAlert) Sentence(now time.Time) string {
	who := plainName(a.Client)
	switch a.Kind {
	case AlertEnded:
		return fmt.Sprintf("The certificate of %s ended %s ago; it is refused until it has a new one.", who, days(now.Sub(a.Client.NotAfter)))
	case AlertEnding:
		return fmt.Sprintf("The certificate of %s ends in %s, on %s; it is refused from then on.", who, days(a.Client.NotAfter.Sub(now)), day(a.Client.NotAfter))
	case AlertUsageEnds:
		return fmt.Sprintf("The certificate of %s comes from a public CA. These stop issuing for clients, so its next renewal is likely to be refused.", who)
	case AlertSoftware:
		return fmt.Sprintf("%s came with other software at %s, after %d times with the same: TLS version or cipher suites differ. If nobody changed it, its key may be in other hands.",
			who, a.Change.Time.UTC().Format("2 January 2006 15:04 UTC"), a.Change.Times)
	}
	return who
}

// OwnerText is a text to send to the client's owner: what ends when, and what to do. It names no address.
func (a ClientAlert) OwnerText(now time.Time) string {
	c := a.Client
	var b strings.Builder
	fmt.Fprintf(&b, "Client certificate of %s\n\n%s\n\n", plainName(c), a.Sentence(now))
	fmt.Fprintf(&b, "Issued by: %s\nGood from %s to %s\nSHA-256: %s\nUsed last: %s", plain(c.Issuer), day(c.NotBefore), day(c.NotAfter), c.Fingerprint, day(c.LastIn))
	if c.Endpoint != "" {
		fmt.Fprintf(&b, ", at %s", plain(c.Endpoint))
	}
	b.WriteString("\n\n")
	switch a.Kind {
	case AlertEnded, AlertEnding:
		b.WriteString("Please have a new one issued (with the extended key usage clientAuth), and install it with its key and the CA certificates in between. The old one may stay in place until then.\n")
	case AlertUsageEnds:
		b.WriteString("Please ask whoever runs the service for a certificate from a private CA, and install that before this one ends.\n")
	case AlertSoftware:
		fmt.Fprintf(&b, "Before: %s\nNow: %s\n\nPlease say whether the client was updated, or other software uses the same certificate. If not, treat its key as stolen: have the certificate blocked.\n", plain(a.Change.Before), plain(a.Change.After))
	}
	return b.String()
}

func day(t time.Time) string { return t.UTC().Format("2 January 2006") }

// days is a length of time in words.
func days(d time.Duration) string {
	unit, name := 24*time.Hour, "day"
	if d < 48*time.Hour {
		unit, name = time.Hour, "hour"
	}
	n := int(math.Floor(float64(d) / float64(unit)))
	if n != 1 {
		name += "s"
	}
	return fmt.Sprint(n, " ", name)
}

func plainName(c Client) string {
	for _, name := range []string{c.Identity, c.Name, c.Full} {
		if name = plain(name); name != "" {
			return name
		}
	}
	return "unknown " + c.Fingerprint.Short()
}

// plain is a stranger's text in one short line in which everything shows.
func plain(s string) string {
	const most = 120
	runes := []rune(strings.TrimSpace(s))
	if len(runes) > most {
		runes = append(runes[:most-1], '…')
	}
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = '\uFFFD'
		}
	}
	return string(runes)
}
