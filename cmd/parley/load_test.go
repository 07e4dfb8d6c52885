package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// On a clock that is never late nothing is late; a stall counts for as long as
// it lasted, and is forgotten.
func TestLoadWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLoadWatch()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.run(ctx) }()
		time.Sleep(10 * time.Second)
		if l := w.load(); l.Late != 0 || l.Memory <= 0 || l.Memory >= 1 {
			t.Errorf("at rest: %+v", l)
		}
		cancel()
		<-done
		for range watched / 10 { // ten ticks of a hundred
			w.ticked(30 * time.Millisecond)
		}
		if l := w.load(); l.Late != 30*time.Millisecond {
			t.Errorf("after late ticks: %v, want 30ms", l.Late)
		}
		for range watched {
			w.ticked(time.Millisecond)
		}
		if l := w.load(); l.Late != time.Millisecond {
			t.Errorf("later: %v, want 1ms", l.Late)
		}
	})
}
