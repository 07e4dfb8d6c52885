package ingress_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"parley/control/ingress"
	"parley/control/ingress/ingresstest"
)

func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ingresstest.Limiter(t, ingress.NewMemory(), time.Sleep, true)
	})
}

// A flood of strangers pushes out who was not seen the longest, one by one: it
// makes nobody forget who is over his limit.
func TestMemoryForgetsTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := ingress.NewMemory()
		busy := ingress.Ask{Key: "busy", N: 3, Per: time.Hour}
		for range 3 {
			m.Take(t.Context(), busy)
		}
		for i := range 3 * ingress.MemoryBound {
			m.Take(t.Context(), ingress.Ask{Key: fmt.Sprint(i), N: 3, Per: time.Hour})
			if i%1000 == 0 && m.Take(t.Context(), busy).OK {
				t.Fatalf("after %d strangers the busy one is forgotten", i)
			}
		}
		if n := m.Len(); n != ingress.MemoryBound {
			t.Errorf("%d are remembered, want %d", n, ingress.MemoryBound)
		}
	})
}

func BenchmarkMemory(b *testing.B) {
	m := ingress.NewMemory()
	b.ReportAllocs()
	for b.Loop() {
		m.Take(b.Context(), ingress.Ask{Key: "GET /v1/calls key:1", N: 1 << 40, Per: time.Hour}, ingress.Ask{Key: "tenant:1", N: 1 << 40, Per: time.Hour})
	}
}
