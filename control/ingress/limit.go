package ingress

import (
	"context"
	"sync"
	"time"
)

// An Ask is for one thing, counted under one key.
type Ask struct {
	Key    string
	Cost   int // units that it takes; 0: 1
	N      int // units that may be taken in Per, all at once if need be
	Per    time.Duration
	Strict bool // where each process counts alone, a fifth of N
}

// Units is what the ask takes, never more than there is.
func (a Ask) Units() int { return min(max(a.Cost, 1), max(a.N, 1)) }

// alone is what may be taken where others count by themselves too.
func (a Ask) alone() Ask {
	if a.Strict {
		a.N /= 5
	}
	a.N = max(a.N, 1)
	return a
}

// A Verdict is the answer to asks made together.
type Verdict struct {
	OK    bool
	Of    int           // the ask that refused; else the one with the least left
	Left  int           // units of that one
	Wait  time.Duration // until that one allows it again; 0 if OK
	Reset time.Duration // until that one is full again
	Alone bool          // this process counted by itself
}

// A Limiter counts. Where one of the asks is refused, none is counted. It does
// not block for long, and works without its storage.
type Limiter interface {
	Take(ctx context.Context, asks ...Ask) Verdict
}

// MemoryBound is how many keys one process limits by itself.
const MemoryBound = 20_000

// Memory is a [Limiter] of one process. When full it forgets whom it has not
// seen the longest. Make it with [NewMemory].
type Memory struct {
	mu   sync.Mutex
	when *lru[time.Time] // each key's theoretical arrival time
}

var _ Limiter = (*Memory)(nil)

// NewMemory returns an empty one.
func NewMemory() *Memory { return &Memory{when: newLRU[time.Time](MemoryBound)} }

// Take implements [Limiter], by the generic cell rate algorithm: a key holds the
// time at which all it has taken is given back, never further off than Per
// (ITU-T I.371 annex A).
func (m *Memory) Take(_ context.Context, asks ...Ask) Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	v := Verdict{OK: true, Left: -1, Alone: true}
	for i, a := range asks {
		a = a.alone()
		one := a.Per / time.Duration(a.N)
		full, then := m.after(a, now)
		over := then.Sub(now) - a.Per
		if over > 0 {
			return Verdict{Of: i, Wait: over, Reset: full.Sub(now), Alone: true}
		}
		if left := int(-over / max(one, 1)); v.Left < 0 || left < v.Left {
			v.Of, v.Left, v.Reset = i, left, then.Sub(now)
		}
	}
	for _, a := range asks {
		_, then := m.after(a.alone(), now)
		m.when.put(a.Key, then)
	}
	return v
}

// after is when a key has all back: as it is, and once it has taken what is
// asked for.
func (m *Memory) after(a Ask, now time.Time) (full, then time.Time) {
	full = now
	if at, ok := m.when.get(a.Key); ok && at.After(now) {
		full = *at
	}
	return full, full.Add(a.Per / time.Duration(a.N) * time.Duration(a.Units()))
}

// Len is how many keys are remembered.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.when.len()
}
