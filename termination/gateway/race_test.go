//go:build race

package gateway_test

// raceDetector reports whether everything takes ten times as long.
const raceDetector = true
