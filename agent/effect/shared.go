package effect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"parley/agent/flow"
)

// Cells keep small values that several processes change. They may be lost.
type Cells interface {
	// Change puts what f makes of key's value in its place, in one step: of two
	// who change it at once, one sees what the other wrote. old is nil where
	// there is none; where f returns what it was given, nothing is written. f
	// may be called again. The value is kept for life.
	Change(ctx context.Context, key string, life time.Duration, f func(old []byte) []byte) error
}

// Shared are the circuits and answers of several processes. While Cells fail,
// each process goes by what it has seen itself. It is safe for use by several
// goroutines.
type Shared struct {
	Cells Cells

	own Memory
}

// circuitLife is how long an idle circuit is remembered beyond its timeout.
const circuitLife = time.Hour

// storedCircuit is a circuit in a cell.
type storedCircuit struct {
	Failures  int       `json:"f,omitempty"`
	Successes int       `json:"s,omitempty"`
	Open      bool      `json:"o,omitempty"`
	Until     time.Time `json:"u,omitzero"`
}

// change lets fn change a circuit in its cell. One that is as if new, and stays
// so, is not written.
func (s *Shared) change(ctx context.Context, key string, b flow.Breaker, fn func(circuit) circuit) error {
	return s.Cells.Change(ctx, "circuit:"+digest(key), b.Timeout+circuitLife, func(old []byte) []byte {
		var st storedCircuit
		_ = json.Unmarshal(old, &st) // what cannot be read is forgotten
		c := fn(circuit{failures: st.Failures, successes: st.Successes, open: st.Open, until: st.Until})
		after := storedCircuit{c.failures, c.successes, c.open, c.until}
		if after.Until.Equal(st.Until) {
			after.Until = st.Until
		}
		if after == st {
			return old
		}
		data, _ := json.Marshal(after) // plain values
		return data
	})
}

// Enter implements [Circuits].
func (s *Shared) Enter(ctx context.Context, key string, at time.Time, b flow.Breaker) (probe bool, err error) {
	failed := s.change(ctx, key, b, func(c circuit) circuit {
		c, probe, err = c.enter(at, b)
		return c
	})
	if failed != nil {
		return s.own.Enter(ctx, key, at, b)
	}
	return probe, err
}

// Leave implements [Circuits].
func (s *Shared) Leave(ctx context.Context, key string, at time.Time, b flow.Breaker, ok bool) (open bool) {
	alone := s.own.Leave(ctx, key, at, b, ok) // for when the others cannot be asked
	err := s.change(ctx, key, b, func(c circuit) circuit {
		c = c.leave(at, b, ok)
		open = c.open
		return c
	})
	if err != nil {
		return alone
	}
	return open
}

// storedAnswer is an answer in a cell: the time it is good until, then the answer.
type storedAnswer struct {
	Until time.Time       `json:"u"`
	Data  json.RawMessage `json:"d"`
}

// Keep implements [Answers].
func (s *Shared) Keep(ctx context.Context, key string, at time.Time, ttl time.Duration, data []byte) {
	if len(data) > maxAnswerBytes {
		return
	}
	s.own.Keep(ctx, key, at, ttl, data)
	b, err := json.Marshal(storedAnswer{at.Add(ttl), data})
	if err == nil {
		_ = s.Cells.Change(ctx, "answer:"+digest(key), ttl, func([]byte) []byte { return b })
	}
}

// Kept implements [Answers].
func (s *Shared) Kept(ctx context.Context, key string, at time.Time) ([]byte, bool) {
	var a storedAnswer
	err := s.Cells.Change(ctx, "answer:"+digest(key), 0, func(old []byte) []byte {
		a = storedAnswer{}
		_ = json.Unmarshal(old, &a)
		return old
	})
	if err != nil {
		return s.own.Kept(ctx, key, at)
	}
	return bytes.Clone(a.Data), at.Before(a.Until)
}

// digest keeps keys short, and what they name out of sight.
func digest(key string) string {
	sum := sha256.Sum256([]byte(key))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

var (
	_ Circuits = (*Shared)(nil)
	_ Answers  = (*Shared)(nil)
)
