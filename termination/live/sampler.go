package live

import (
	"math/rand/v2"
	"time"
)

// When more than samplingStarts events a second match, about sampledIn a second of those that were let in go out, and
// at most samplingStarts a second of those that failed.
const (
	samplingStarts = 2000
	sampledIn      = 1000

	samplerStep  = time.Second / 10
	samplerSlots = 10 + 1 // one second, and the running step
)

// sampler decides for one subscriber which events are left out. It looks back one second in ten steps.
type sampler struct {
	step     time.Duration // when the running step began
	current  int
	in       [samplerSlots]uint32
	failed   [samplerSlots]uint32
	inRate   oneOf
	failRate oneOf
}

// oneOf picks one of every n, at a random place among them, so that no regular pattern of clients is always missed.
type oneOf struct {
	n      uint32 // 0 means 1
	passed uint32 // of the running n
	pick   uint32
}

func (o *oneOf) set(n uint32) {
	if n = max(n, 1); n != o.n {
		*o = oneOf{n: n, pick: rand.Uint32N(n)} //nolint:gosec // chooses rows, no secrets
	}
}

func (o *oneOf) take() bool {
	if o.n <= 1 {
		return true
	}
	taken := o.passed == o.pick
	if o.passed++; o.passed == o.n {
		o.passed, o.pick = 0, rand.Uint32N(o.n) //nolint:gosec // chooses rows, no secrets
	}
	return taken
}

// take reports whether an event goes out. now only ever grows.
func (s *sampler) take(failed bool, now time.Duration) bool {
	s.advance(now)
	if failed {
		s.failed[s.current]++
		return s.failRate.take()
	}
	s.in[s.current]++
	return s.inRate.take()
}

func (s *sampler) advance(now time.Duration) {
	steps := int((now - s.step) / samplerStep)
	if steps <= 0 {
		return
	}
	s.step += samplerStep * time.Duration(steps)
	for range min(steps, samplerSlots) {
		s.current = (s.current + 1) % samplerSlots
		s.in[s.current], s.failed[s.current] = 0, 0
	}
	var in, failed uint32
	for i := range samplerSlots {
		in += s.in[i]
		failed += s.failed[i]
	}
	if in+failed <= samplingStarts {
		in, failed = 0, 0
	}
	s.inRate.set((in + sampledIn - 1) / sampledIn)
	s.failRate.set((failed + samplingStarts - 1) / samplingStarts)
}

// rates returns how many events one stands for: of those let in, and of those that failed.
func (s *sampler) rates() (in, failed uint32) {
	return max(s.inRate.n, 1), max(s.failRate.n, 1)
}
