package agent

import (
	"context"
	"iter"
	"sync"
	"time"
)

// promptLLM says what it was told last, and knows how many of its requests run.
type promptLLM struct {
	delay time.Duration

	mu      sync.Mutex
	prompts []Prompt
	active  int
}

func (m *promptLLM) running() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.active
}

func (m *promptLLM) count(n int) {
	m.mu.Lock()
	m.active += n
	m.mu.Unlock()
}

func (m *promptLLM) Reply(ctx context.Context, p Prompt) iter.Seq2[Delta, error] {
	m.mu.Lock()
	m.prompts = append(m.prompts, p)
	m.mu.Unlock()
	return func(yield func(Delta, error) bool) {
		m.count(1)
		defer m.count(-1)
		select {
		case <-time.After(m.delay):
		case <-ctx.Done():
			yield(Delta{}, ctx.Err())
			return
		}
		text("You said: " + p.Messages[len(p.Messages)-1].Text)(yield)
	}
}
