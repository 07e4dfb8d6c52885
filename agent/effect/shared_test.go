package effect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/agent/flow"
)

// cells are shared by the processes of a test.
type cells struct {
	mu     sync.Mutex
	m      map[string][]byte
	away   bool
	writes int
}

func (c *cells) Change(_ context.Context, key string, _ time.Duration, f func([]byte) []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return errors.New("away")
	}
	old := c.m[key]
	f(old) // it may be called again
	if now := f(old); !bytes.Equal(now, old) {
		c.m[key], c.writes = now, c.writes+1
	}
	return nil
}

// What one process learns of a server, the others go by.
func TestSharedCircuit(t *testing.T) {
	common := &cells{m: map[string][]byte{}}
	a := &server{answers: []any{status(500)}}
	b := &server{answers: []any{ok(`1`)}}
	pa, pb := a.performer(), b.performer()
	pa.Circuits, pb.Circuits = &Shared{Cells: common}, &Shared{Cells: common}
	pb.Now = pa.Now
	c := simple()
	c.Breaker = &flow.Breaker{Failures: 3, Successes: 2, Timeout: 30 * time.Second}
	if pb.Perform(t.Context(), c); common.writes != 0 {
		t.Errorf("a circuit without a failure was written %d times", common.writes)
	}
	for range 3 {
		pa.Perform(t.Context(), c)
	}
	if r := pb.Perform(t.Context(), c); r.Outcome != "error" || len(b.got) != 1 {
		t.Errorf("the other process: %s after %d requests, want none beside the first", r.Outcome, len(b.got))
	}
	a.now = a.now.Add(30 * time.Second)
	var probes int
	for range 5 {
		for _, s := range []Circuits{pa.Circuits, pb.Circuits} {
			if probe, err := s.Enter(t.Context(), pa.circuit(c), a.now, *c.Breaker); err == nil && probe {
				probes++
			}
		}
	}
	if probes != 1 {
		t.Errorf("%d probes of two processes, want 1", probes)
	}
	for n := range 2 {
		if open := pb.Circuits.Leave(t.Context(), pa.circuit(c), a.now, *c.Breaker, true); open != (n == 0) {
			t.Errorf("after success %d: open %v", n+1, open)
		}
	}
	a.answers = []any{ok(`2`)}
	if r := pa.Perform(t.Context(), c); r.Outcome != "success" {
		t.Errorf("after the probes: %s", r.Outcome)
	}
}

// Alone, each process goes by what it has seen itself.
func TestSharedWithoutCells(t *testing.T) {
	common := &cells{m: map[string][]byte{}}
	s := &server{answers: []any{status(500)}}
	p := s.performer()
	p.Circuits = &Shared{Cells: common}
	p.Answers = &Shared{Cells: common}
	c := simple()
	c.Breaker = &flow.Breaker{Failures: 2, Successes: 1, Timeout: time.Minute}
	p.Perform(t.Context(), c)
	common.away = true
	p.Perform(t.Context(), c)
	if p.Perform(t.Context(), c); len(s.got) != 2 {
		t.Errorf("%d requests, want 2: what was seen before counts", len(s.got))
	}
	p.Answers.Keep(t.Context(), "k", s.now, time.Minute, []byte(`1`))
	if got, ok := p.Answers.Kept(t.Context(), "k", s.now); !ok || string(got) != "1" {
		t.Errorf("%s, %v", got, ok)
	}
}

func TestSharedAnswers(t *testing.T) {
	common := &cells{m: map[string][]byte{}}
	here, there := &Shared{Cells: common}, &Shared{Cells: common}
	now := time.Now()
	here.Keep(t.Context(), "k", now, time.Minute, []byte(`{"a":1}`))
	if got, ok := there.Kept(t.Context(), "k", now.Add(time.Minute-1)); !ok || string(got) != `{"a":1}` {
		t.Errorf("%s, %v", got, ok)
	}
	if _, ok := there.Kept(t.Context(), "k", now.Add(time.Minute)); ok {
		t.Error("an answer was kept too long")
	}
	if _, ok := there.Kept(t.Context(), "other", now); ok {
		t.Error("an answer that nobody kept")
	}
}

// deaf never answers.
type deaf struct{}

func (deaf) Send(ctx context.Context, r Request) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	<-ctx.Done()
	return Response{}, fmt.Errorf("send: %w", ctx.Err())
}

// A server that never answers costs its timeout, as often as it is tried.
func TestDeafServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Performer{HTTP: deaf{}}
		c := simple()
		c.Timeout, c.Retry = 2*time.Second, flow.Retry{Attempts: 3}
		begun := time.Now()
		r := p.Perform(t.Context(), c)
		if took := time.Since(begun); r.Outcome != "timeout" || took > 3*2*time.Second+100*time.Millisecond {
			t.Errorf("%s after %v", r.Outcome, took)
		}
		if want := (flow.Spent{Calls: 3, Time: 6 * time.Second}); r.Spent != want {
			t.Errorf("spent %+v, want %+v", r.Spent, want)
		}
	})
}

func TestJitter(t *testing.T) {
	p, low, high := &Performer{}, time.Hour, time.Duration(0)
	for range 200 {
		d := p.jittered(time.Second)
		low, high = min(low, d), max(high, d)
	}
	if low < time.Second/2 || high > time.Second || high-low < time.Second/10 {
		t.Errorf("pauses from %v to %v, want them spread over 500ms to 1s", low, high)
	}
}

func TestOverspent(t *testing.T) {
	s := &server{answers: []any{ok(`{"n":1}`), fmt.Errorf("send: %w", &Overspent{"flow.calls"})}}
	p := s.performer()
	c := simple()
	c.CacheTTL, c.Retry.Attempts = time.Minute, 3
	if r := p.Perform(t.Context(), c); r.Spent.Calls != 1 || r.Spent.Bytes != int64(len(`{"n":1}`)) {
		t.Errorf("%+v", r)
	}
	if r := p.Perform(t.Context(), c); r.Outcome != flow.OverBudget || r.Error != "flow.calls" || len(s.got) != 2 || r.Spent.Calls != 0 {
		t.Errorf("%+v after %d requests", r, len(s.got))
	}
}

// Calls to the internal API say whose they are; the flow cannot say otherwise,
// and no other call does.
func TestInternalCalls(t *testing.T) {
	s := &server{answers: []any{ok(`{"echo": "the-token"}`)}}
	p := s.performer()
	p.Internal, _ = url.Parse("http://inside.example:9")
	p.Bearer = func(to *url.URL) (Secret, error) {
		if to.Host != "inside.example:9" {
			t.Errorf("a token for %s", to)
		}
		return "the-token", nil
	}
	c := simple()
	c.Headers = []flow.Field{{Name: "authorization", Value: text("Bearer mine")}}
	p.Perform(t.Context(), c)
	c.URL = text("/profile")
	r := p.Perform(t.Context(), c)
	if a, b := s.got[0].Header.Get("Authorization"), s.got[1].Header.Get("Authorization"); a != "Bearer mine" || b != "Bearer the-token" {
		t.Errorf("%q, then %q", a, b)
	}
	if string(r.Data) != `{"echo":"[redacted]"}` {
		t.Errorf("the token came back: %s", r.Data)
	}
	p.Bearer = func(*url.URL) (Secret, error) { return "", errors.New("no key") }
	if r := p.Perform(t.Context(), c); r.Outcome != "error" || len(s.got) != 2 {
		t.Errorf("%+v without a token", r)
	}
}
