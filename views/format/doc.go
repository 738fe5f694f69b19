// Package format turns values into the text that pages show: times, durations, fingerprints, sizes, numbers, and text
// from strangers with everything invisible in it made visible. It escapes nothing for HTML; templates do that.
package format
