package agent

import (
	"context"
	"time"
)

// A hello is what the agent waits for where it has placed the call itself:
// whoever picks up speaks first.
type hello struct {
	first input     // what it begins with
	until time.Time // it waits no longer for a voice
}

const (
	// helloRest is the quiet after which a hello is over.
	helloRest = 400 * time.Millisecond
	// helloMost is how long a voice may go on that the agent waits for.
	helloMost = 4 * time.Second
)

// open begins the conversation: at once, or after the callee's hello.
func (c *conductor) open(ctx context.Context, first input) {
	now := time.Now()
	if c.spec.AwaitHello <= 0 || c.spec.Turns > 0 || first.kind != inputStart {
		c.answer(ctx, first, now)
		return
	}
	c.hello = &hello{first: first, until: now.Add(c.spec.AwaitHello)}
	c.setState("listening")
}

// checkHello begins once the callee has said hello, or keeps silent.
func (c *conductor) checkHello(ctx context.Context, now time.Time) time.Time {
	h := c.hello
	at := h.until
	switch {
	case c.said.empty():
	case c.said.speaking:
		at = h.until.Add(helloMost - c.spec.AwaitHello)
	default:
		at = c.said.ended.Add(helloRest)
	}
	if now.Before(at) {
		return at
	}
	c.hello = nil
	if text := c.callers(); text != "" {
		c.callerSaid(text, "speech", now)
	}
	if !c.said.empty() {
		c.taken = taken{until: now.Add(lateWords)} // its last words are no turn
	}
	c.answer(ctx, h.first, now)
	return now
}
