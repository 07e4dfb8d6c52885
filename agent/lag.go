package agent

import (
	"slices"
	"sync"
	"time"
)

// A Lag learns how late a vendor's last words come: the time from the pause it
// was told of to the transcript that answers it. It is shared by the calls of a
// vendor, and safe for concurrent use. The zero value is ready.
type Lag struct {
	// Declared is taken until enough was measured. Default 800 ms.
	Declared time.Duration

	mu   sync.Mutex
	seen [lagWindow]time.Duration // a ring of the latest
	n    int                      // seen in all
	p99  time.Duration
}

const (
	lagWindow = 256
	// lagEnough is how many measurements outweigh what was declared.
	lagEnough   = 50
	lagDeclared = 800 * time.Millisecond
	// A wait shorter than the floor would lose words to a single slow packet;
	// longer than the ceiling, the caller has taken the line for dead.
	lagFloor   = 250 * time.Millisecond
	lagCeiling = 2 * time.Second
)

// Note takes a measurement. Later than the ceiling counts as the ceiling.
func (l *Lag) Note(d time.Duration) {
	if d < 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[l.n%lagWindow] = min(d, lagCeiling)
	l.n++
	all := l.seen
	sorted := all[:min(l.n, lagWindow)]
	slices.Sort(sorted)
	l.p99 = sorted[(len(sorted)*99+99)/100-1]
}

// Bound is how long a final transcript is worth waiting for: the 99th
// percentile of what was measured and a tenth more, between 250 ms and 2 s.
func (l *Lag) Bound() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.p99 + l.p99/10
	if l.n < lagEnough {
		declared := l.Declared
		if declared == 0 {
			declared = lagDeclared
		}
		d = max(d, declared)
	}
	return min(max(d, lagFloor), lagCeiling)
}
