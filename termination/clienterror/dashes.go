package clienterror

import (
	"strings"
	"unicode/utf8"

	"countersign/termination"
)

// readDashes recognises a command that went through a word processor, a chat or a web page, which turned its hyphens into
// dashes and its quotes into curly ones. The shell passes them on: curl takes “–-cert” for a host name, and sends no
// certificate.
func readDashes(line string) (Reading, bool) {
	if !isCommand(line) && !strings.Contains(strings.ToLower(line), "could not resolve host: xn--") {
		return Reading{}, false
	}
	fixed, dashes, quotes := straighten(line)
	if host, ok := punycodeDash(line); ok {
		return dashReading("curl could not resolve “"+host+"”: that is an option whose hyphens are dashes, which curl took for a host name.", ""), true
	}
	switch {
	case dashes > 0 && quotes > 0:
		return dashReading("This command has typographic dashes and curly quotes where hyphens and straight quotes belong, so its options are not read as options.", fixed), true
	case dashes > 0:
		return dashReading("This command has typographic dashes where hyphens belong, so its options are not read as options: a “–-cert” sends no certificate.", fixed), true
	case quotes > 0:
		return dashReading("This command has curly quotes, which the shell takes for a part of the file's name.", fixed), true
	}
	return Reading{}, false
}

func dashReading(meaning, fixed string) Reading {
	r := Reading{
		Tool: "shell", Meaning: meaning, Fault: FaultClient,
		Do:      []string{"Type the hyphens and quotes anew, or copy the command from a plain text."},
		Reasons: []termination.Reason{termination.ReasonCertMissing, termination.ReasonClientRefusedUsCA},
	}
	if fixed != "" {
		r.Do = []string{"Use this instead: " + shorten(fixed, 600)}
	}
	return r
}

// isCommand reports whether a line looks like a command of which the options matter here.
func isCommand(line string) bool {
	line = strings.TrimLeft(line, "$#> \t")
	for _, name := range []string{"curl", "curl.exe", "openssl", "wget", "git", "psql", "mosquitto_pub", "mosquitto_sub", "grpcurl", "http", "https", "countersign", "sudo", "kubectl"} {
		if rest, ok := strings.CutPrefix(line, name); ok && strings.HasPrefix(rest, " ") {
			return true
		}
	}
	return false
}

// straighten replaces what belongs to options alone: dashes at the beginning of a word, and quotes anywhere.
func straighten(line string) (fixed string, dashes, quotes int) {
	var b strings.Builder
	start := true // of a word, or within its leading dashes
	for _, r := range line {
		switch {
		case isDash(r) && start:
			dashes++
			if r != '\u2014' && r != '\u2015' {
				b.WriteByte('-')
			} else {
				b.WriteString("--") // the long dash is what two hyphens are turned into
			}
		case r == '\u201c' || r == '\u201d' || r == '\u201e' || r == '\u00ab' || r == '\u00bb':
			quotes++
			b.WriteByte('"')
		case r == '\u2018' || r == '\u2019' || r == '\u201a':
			quotes++
			b.WriteByte('\'')
		default:
			b.WriteRune(r)
		}
		start = r == ' ' || r == '\t' || r == 0xa0 || start && (r == '-' || isDash(r))
	}
	return b.String(), dashes, quotes
}

func isDash(r rune) bool {
	switch r {
	case '\u2010', '\u2011', '\u2012', '\u2013', '\u2014', '\u2015', '\u2212', '\ufe58', '\ufe63', '\uff0d':
		return true
	}
	return false
}

// punycodeDash finds the host that curl looked for in place of an option: xn---cert-xu3b is –-cert, xn--cert-486a —cert.
func punycodeDash(line string) (string, bool) {
	_, host, found := strings.Cut(line, "Could not resolve host: ")
	if !found {
		return "", false
	}
	host, _, _ = strings.Cut(strings.TrimSpace(host), " ")
	if len(host) > 80 || utf8.RuneCountInString(host) != len(host) {
		return "", false
	}
	for _, option := range []string{"cert", "key", "cacert", "cert-type", "pass", "resolve", "header", "data", "servername", "tlsv1", "verbose", "insecure"} {
		for _, prefix := range []string{"xn--" + option + "-", "xn---" + option + "-", "xn----" + option + "-"} {
			if strings.HasPrefix(host, prefix) {
				return host, true
			}
		}
	}
	return "", false
}
