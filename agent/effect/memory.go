package effect

import (
	"context"
	"sync"
	"time"

	"parley/agent/flow"
)

// Bounds of a [Memory]; what is over them is forgotten.
const (
	maxCircuits    = 10_000
	maxAnswers     = 2_000
	maxAnswerBytes = 256 << 10
)

// Memory keeps circuits and answers of one process. The zero value is ready;
// it is safe for use by several goroutines.
type Memory struct {
	mu       sync.Mutex
	circuits map[string]circuit
	answers  map[string]kept
}

// A circuit is closed, open until a time, or half-open while a probe is out.
type circuit struct {
	failures, successes int
	open                bool
	until               time.Time // open: when a probe may go
	touched             time.Time
}

type kept struct {
	data  []byte
	until time.Time
}

// enter is the breaker's answer to a call that wants to go out, and its state
// after it.
func (c circuit) enter(at time.Time, b flow.Breaker) (_ circuit, probe bool, err error) {
	switch {
	case !c.open:
		return c, false, nil
	case at.Before(c.until):
		return c, false, ErrOpen
	}
	// One probe; if it never comes back, another goes after the same time.
	c.until, c.touched = at.Add(b.Timeout), at
	return c, true, nil
}

// leave is the breaker's state after a call.
func (c circuit) leave(at time.Time, b flow.Breaker, ok bool) circuit {
	c.touched = at
	switch {
	case !ok:
		c.successes = 0
		if c.failures++; c.open || c.failures >= b.Failures {
			c.open, c.until = true, at.Add(b.Timeout)
		}
	case c.open:
		c.until = at // the next probe may go at once
		if c.successes++; c.successes >= b.Successes {
			c = circuit{touched: at}
		}
	default:
		c.failures = 0
	}
	return c
}

// Enter implements [Circuits].
func (m *Memory) Enter(_ context.Context, key string, at time.Time, b flow.Breaker) (probe bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.circuits[key]
	if !ok {
		return false, nil
	}
	m.circuits[key], probe, err = c.enter(at, b)
	return probe, err
}

// Leave implements [Circuits].
func (m *Memory) Leave(_ context.Context, key string, at time.Time, b flow.Breaker, ok bool) (open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, known := m.circuits[key]
	if !known && ok {
		return false // nothing to remember
	}
	if m.circuits == nil {
		m.circuits = map[string]circuit{}
	}
	if !known {
		makeRoom(m.circuits, maxCircuits, func(c circuit) time.Time { return c.touched })
	}
	c = c.leave(at, b, ok)
	m.circuits[key] = c
	return c.open
}

// Keep implements [Answers].
func (m *Memory) Keep(_ context.Context, key string, at time.Time, ttl time.Duration, data []byte) {
	if len(data) > maxAnswerBytes {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.answers == nil {
		m.answers = map[string]kept{}
	}
	if _, known := m.answers[key]; !known {
		makeRoom(m.answers, maxAnswers, func(k kept) time.Time { return k.until })
	}
	m.answers[key] = kept{append([]byte(nil), data...), at.Add(ttl)}
}

// Kept implements [Answers].
func (m *Memory) Kept(_ context.Context, key string, at time.Time) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.answers[key]
	if !ok || !at.Before(k.until) {
		delete(m.answers, key)
		return nil, false
	}
	return append([]byte(nil), k.data...), true
}

// makeRoom forgets the oldest of a few entries when the map is full: exact
// order would cost more than it is worth.
func makeRoom[V any](m map[string]V, most int, age func(V) time.Time) {
	if len(m) < most {
		return
	}
	oldest, first, n := "", time.Time{}, 0
	for k, v := range m {
		if t := age(v); n == 0 || t.Before(first) {
			oldest, first = k, t
		}
		if n++; n == 16 {
			break
		}
	}
	delete(m, oldest)
}

var (
	_ Circuits = (*Memory)(nil)
	_ Answers  = (*Memory)(nil)
)
