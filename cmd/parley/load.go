package main

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/control"
	"parley/media"
)

// ratedCalls are the telephone calls that a core carries with half of it to
// spare on a common server; `make bench` finds out for a machine.
const ratedCalls = 200

// rated is how many calls this process carries at once, where nobody says.
func rated() int { return ratedCalls * runtime.GOMAXPROCS(0) }

// A loadWatch knows how this process is doing: how late a clock like those that
// pace audio ticks, and how much memory there is.
type loadWatch struct {
	limit uint64 // bytes; math.MaxUint64 where nothing says

	mu   sync.Mutex
	late [watched]time.Duration // a ring
	n    int
}

// watched ticks are judged: 5 s.
const watched = int(5 * time.Second / media.Ptime)

func newLoadWatch() *loadWatch { return &loadWatch{limit: memoryLimit()} }

// run watches until ctx ends.
func (w *loadWatch) run(ctx context.Context) {
	due := time.Now()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Now()
		w.ticked(now.Sub(due))
		// A long stall is one late tick for each that it swallowed.
		for due = due.Add(media.Ptime); !due.After(now); due = due.Add(media.Ptime) {
			w.ticked(now.Sub(due))
		}
		t.Reset(due.Sub(now))
	}
}

func (w *loadWatch) ticked(late time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late[w.n%watched] = late
	w.n++
}

// load is what admission asks.
func (w *loadWatch) load() control.Load {
	w.mu.Lock()
	late := slices.Clone(w.late[:min(w.n, watched)])
	w.mu.Unlock()
	l := control.Load{Memory: float64(memoryUsed()) / float64(w.limit)}
	if len(late) > 0 {
		slices.Sort(late)
		l.Late = late[(len(late)-1)*95/100]
	}
	return l
}

// memoryUsed is what the runtime holds of the system's memory.
func memoryUsed() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

// memoryLimit is the least of GOMEMLIMIT, the control group's and the machine's.
func memoryLimit() uint64 {
	limit := uint64(debug.SetMemoryLimit(-1)) // only asked
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, _ := os.ReadFile(file) // absent, or "max": no limit
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 {
			limit = min(limit, n)
		}
	}
	b, _ := os.ReadFile("/proc/meminfo") // absent elsewhere
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			if n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64); err == nil && n > 0 {
				limit = min(limit, n<<10)
			}
		}
	}
	if limit == 0 {
		return math.MaxUint64
	}
	return limit
}
