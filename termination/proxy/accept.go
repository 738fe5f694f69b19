package proxy

import (
	"strconv"
	"strings"
)

// maxRanges bounds how much of an Accept header is looked at.
const maxRanges = 32

// preferred picks the media type that an Accept header likes best (RFC 9110, section 12.5.1). Of those it likes equally,
// a type that is named wins over one that only a wildcard covers, then the one that is named first, then the first
// offer; nothing that fits means the first offer too.
func preferred(accept []string, offers ...string) string {
	best, bestRank := offers[0], rank{}
	ranges := parseAccept(accept)
	for _, offer := range offers {
		if r := rankOf(ranges, offer); r.quality > 0 && r.better(bestRank) {
			best, bestRank = offer, r
		}
	}
	return best
}

// mediaRange is one entry of an Accept header.
type mediaRange struct {
	pattern string // type/subtype, lower case, either may be "*"
	quality float64
}

func parseAccept(lines []string) []mediaRange {
	var out []mediaRange
	for _, line := range lines {
		for entry := range strings.SplitSeq(line, ",") {
			if len(out) == maxRanges {
				return out
			}
			pattern, params, _ := strings.Cut(entry, ";")
			r := mediaRange{pattern: strings.ToLower(strings.TrimSpace(pattern)), quality: 1}
			for param := range strings.SplitSeq(params, ";") {
				name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
				if strings.EqualFold(name, "q") {
					q, err := strconv.ParseFloat(value, 64)
					if err != nil || !(q >= 0 && q <= 1) {
						q = 0
					}
					r.quality = q
				}
			}
			out = append(out, r)
		}
	}
	return out
}

// rank says how much an offer is liked; the zero rank is not at all.
type rank struct {
	quality  float64
	specific int // 3 type/subtype, 2 type/*, 1 */*
	position int // in the header
}

func (r rank) better(than rank) bool {
	if r.quality != than.quality {
		return r.quality > than.quality
	}
	if r.specific != than.specific {
		return r.specific > than.specific
	}
	return r.specific == 3 && r.position < than.position
}

// rankOf finds the most specific range that covers the offer: it alone says the quality.
func rankOf(ranges []mediaRange, offer string) rank {
	kind, _, _ := strings.Cut(offer, "/")
	var out rank
	for i, r := range ranges {
		specific := 0
		switch r.pattern {
		case offer:
			specific = 3
		case kind + "/*":
			specific = 2
		case "*/*":
			specific = 1
		}
		if specific > out.specific {
			out = rank{quality: r.quality, specific: specific, position: i}
		}
	}
	return out
}
