// Package ingresstest holds every limiter to one contract.
package ingresstest

import (
	"fmt"
	"testing"
	"time"

	"parley/control/ingress"
)

// A Clock moves the time of what is tested.
type Clock func(time.Duration)

// Limiter holds l, which has counted nothing yet, to what [ingress.Limiter]
// promises. Alone says whether it counts by itself.
func Limiter(t *testing.T, l ingress.Limiter, advance Clock, alone bool) {
	t.Helper()
	burst(t, l, advance)
	costs(t, l)
	together(t, l, advance)
	strict(t, l, alone)
	if v := l.Take(t.Context(), ingress.Ask{Key: "alone", N: 5, Per: time.Minute}); v.Alone != alone {
		t.Errorf("it counts alone: %v, want %v", v.Alone, alone)
	}
}

func took(t *testing.T, l ingress.Limiter, tries int, a ingress.Ask) (n int) {
	for range tries {
		if l.Take(t.Context(), a).OK {
			n++
		}
	}
	return n
}

// A burst gets what there is and no more; then it comes back evenly.
func burst(t *testing.T, l ingress.Limiter, advance Clock) {
	t.Helper()
	a := ingress.Ask{Key: "burst", N: 10, Per: time.Minute}
	if n := took(t, l, 50, a); n != 10 {
		t.Errorf("a burst of 50 gets %d, want 10", n)
	}
	v := l.Take(t.Context(), a)
	if v.OK || v.Left != 0 || v.Wait <= 5*time.Second || v.Wait > 6*time.Second || v.Reset < 59*time.Second || v.Reset > time.Minute {
		t.Errorf("over the limit: %+v, want a wait of 6 s and a minute until all is back", v)
	}
	advance(6*time.Second + time.Millisecond)
	if n := took(t, l, 5, a); n != 1 {
		t.Errorf("6 s later %d pass, want 1", n)
	}
	advance(30*time.Second + time.Millisecond)
	if n := took(t, l, 50, a); n != 5 {
		t.Errorf("30 s later %d pass, want 5", n)
	}
	advance(time.Hour)
	if v := l.Take(t.Context(), a); !v.OK || v.Left != 9 {
		t.Errorf("an hour later: %+v, want 9 left", v)
	}
}

// What costs more takes more; what costs more than there is takes it all.
func costs(t *testing.T, l ingress.Limiter) {
	t.Helper()
	if n := took(t, l, 50, ingress.Ask{Key: "cost", Cost: 20, N: 100, Per: time.Minute}); n != 5 {
		t.Errorf("%d of cost 20 pass of 100 units, want 5", n)
	}
	if n := took(t, l, 3, ingress.Ask{Key: "dear", Cost: 1000, N: 100, Per: time.Minute}); n != 1 {
		t.Errorf("%d of cost 1000 pass of 100 units, want 1", n)
	}
}

// Asks are counted together or not at all, and the verdict says which decided.
func together(t *testing.T, l ingress.Limiter, advance Clock) {
	t.Helper()
	wide, narrow := ingress.Ask{Key: "wide", N: 100, Per: time.Minute}, ingress.Ask{Key: "narrow", N: 2, Per: time.Minute}
	for i := range 10 {
		v := l.Take(t.Context(), wide, narrow)
		if v.OK != (i < 2) || v.Of != 1 {
			t.Errorf("ask %d: %+v", i, v)
		}
	}
	if v := l.Take(t.Context(), wide); v.Left != 97 {
		t.Errorf("%d are left of the wide one, want 97: what was refused was counted", v.Left)
	}
	for i := range 50 { // one's keys are nobody else's
		if v := l.Take(t.Context(), ingress.Ask{Key: fmt.Sprint("other", i), N: 1, Per: time.Minute}); !v.OK {
			t.Errorf("client %d is refused for what others did", i)
		}
	}
	advance(2 * time.Minute)
}

// Where each process counts alone, strict asks get a fifth.
func strict(t *testing.T, l ingress.Limiter, alone bool) {
	t.Helper()
	want := 10
	if alone {
		want = 2
	}
	if n := took(t, l, 20, ingress.Ask{Key: "strict", N: 10, Per: time.Minute, Strict: true}); n != want {
		t.Errorf("%d strict ones pass, want %d", n, want)
	}
}
