package socket

import (
	"sync"
	"time"
)

// A pulse calls a function every [pingEvery] on a timer, so that no goroutine
// and its stack wait for the next.
type pulse struct {
	mu    sync.Mutex // held while it beats
	timer *time.Timer
	over  bool
}

// begin starts it. It beats until end, or until beat returns false.
func (p *pulse) begin(beat func() (goOn bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(pingEvery, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.over && beat() {
			p.timer.Reset(pingEvery)
		}
	})
}

// end waits for a beat that is under way. Nothing beats after it.
func (p *pulse) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.timer.Stop()
}
