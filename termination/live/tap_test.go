package live_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"countersign/termination/live"
)

// TestTapNeverWaits: whoever puts something in goes on at once, what does not fit is counted, and the order stays.
func TestTapNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int
		block := make(chan struct{})
		tap := live.NewTap(8, time.Second, func(_ context.Context, batch []int) {
			<-block
			got = append(got, batch...)
		})
		tap.Put(0)
		synctest.Wait()
		time.Sleep(2 * time.Second) //nolint:forbidigo // in the bubble no time passes; now the first is being taken
		synctest.Wait()
		for i := 1; i <= 20; i++ {
			tap.Put(i)
		}
		if tap.Dropped() != 12 {
			t.Errorf("%d are dropped", tap.Dropped())
		}
		close(block)
		tap.Close(t.Context())
		tap.Put(99)
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8}; !slices.Equal(got, want) || tap.Dropped() != 13 {
			t.Errorf("%v came, %d are dropped", got, tap.Dropped())
		}
	})
}

// TestTapEndsInTime: one who does not take what comes is told to stop, and the rest is dropped.
func TestTapEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := live.NewTap(1000, 0, func(ctx context.Context, _ []int) { <-ctx.Done() })
		for i := range 1000 {
			tap.Put(i)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tap.Close(ctx)
		if tap.Dropped() < 700 {
			t.Errorf("%d are dropped", tap.Dropped())
		}
		tap.Close(ctx)
	})
}
