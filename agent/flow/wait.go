package flow

import (
	"encoding/json"
	"slices"
	"time"
)

const (
	maxArrived     = 20       // events kept for waits to come
	maxArrivedData = 16 << 10 // bytes of one
	// MaxEventName is the longest name of an event from outside.
	MaxEventName = 100
)

// Wait comes back as a Result "timeout" after the time, or "default" when Event
// happens before. Without a time only the event ends it.
type Wait struct {
	effect
	ID    string        `json:"id"`
	Node  string        `json:"node"`
	After time.Duration `json:"after"`
	Event string        `json:"event,omitempty"`
	// SayWhile is spoken while a caller waits, once the wait has lasted for
	// Filler (0: the host's default).
	SayWhile []Message     `json:"say_while,omitempty"`
	Filler   time.Duration `json:"filler,omitempty"`
}

// An Arrival is an event from outside that is kept for a wait.
type Arrival struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data,omitempty"`
}

type waitBody struct {
	event    template
	variable *ref
	after    time.Duration
	sayWhile []messageTemplate
}

func compileWait(c *compiler, n *node) any {
	b := &waitBody{event: parseTemplate(str(n.content["event"]), c.flow.bare), variable: c.target(n.content["variable"], n.at+"/variable")}
	for _, k := range []string{"ms", "timeout_ms", "duration_ms"} {
		b.after = max(b.after, millis(n.content[k]))
	}
	if b.after == 0 {
		b.after = seconds(n.content["seconds"])
	}
	if v := n.content["say_while"]; v != nil {
		b.sayWhile = c.messages(v, n.at+"/say_while")
	}
	if b.after == 0 && str(n.content["event"]) == "" {
		c.problem("warning", n.at, "missing-field", "the wait is for nothing", "add \"seconds\" or \"event\"")
	}
	return b
}

func enterWait(t *turn, n *node) move {
	b := n.body.(*waitBody)
	e := Wait{ID: t.id(), Node: n.id, Event: t.render(b.event), After: b.after, Filler: n.voice.Filler}
	if e.After == 0 && e.Event == "" || t.s.System.Left {
		return move{outcome: "default"}
	}
	if i := slices.IndexFunc(t.s.System.Arrived, func(a Arrival) bool { return a.Event == e.Event }); i >= 0 {
		a := t.s.System.Arrived[i]
		t.s.System.Arrived = slices.Delete(slices.Clone(t.s.System.Arrived), i, i+1)
		return t.awaited(b, a.Data)
	}
	e.SayWhile = t.show(b.sayWhile)
	t.out = append(t.out, e)
	t.pend(e.ID, "wait", e)
	return t.waitFor(ForResult, e.ID)
}

func resultWait(t *turn, n *node, r Result) move {
	b := n.body.(*waitBody)
	if r.Outcome == "timeout" && str(n.content["event"]) != "" {
		return move{outcome: "timeout"}
	}
	return t.awaited(b, r.Data)
}

// awaited stores what an event brought.
func (t *turn) awaited(b *waitBody, data json.RawMessage) move {
	if v, err := decodeValue(data); err == nil && b.variable != nil {
		t.set(*b.variable, clean(v, MaxStateDepth-8))
	}
	return move{outcome: "default"}
}

// happened ends a wait for an event, or keeps the event.
func (t *turn) happened(ev Happened) {
	if t.s.System.Left {
		return
	}
	name, data := cleanText(ev.Event), ev.Data
	if len(data) > maxArrivedData || !json.Valid(data) {
		data = nil
	}
	t.emit("event_received", map[string]any{"event": name})
	if ev.Operator {
		t.noted(data)
	}
	if w := t.s.System.Waiting; w.For == ForResult {
		for _, p := range t.s.System.Pending {
			if e, ok := p.Effect.(Wait); ok && p.ID == w.ID && e.Event == name {
				t.result(Result{At: ev.At, ID: p.ID, Outcome: "default", Data: data})
				return
			}
		}
	}
	kept := t.s.System.Arrived[max(0, len(t.s.System.Arrived)-maxArrived+1):]
	t.s.System.Arrived = append(slices.Clone(kept), Arrival{name, data})
}

// cancel gives up a call that may be cancelled by the caller who speaks: it
// takes "error", and what was said answers the question that follows.
func (t *turn) cancel(ev Input) {
	for _, p := range t.s.System.Pending {
		if c, ok := p.Effect.(Call); ok && p.ID == t.s.System.Waiting.ID && c.Cancel {
			ev.Text = cleanText(ev.Text)
			t.s.System.Held = &ev
			t.emit("cancelled", map[string]any{"node": c.Node})
			t.result(Result{At: ev.At, ID: p.ID, Outcome: "error", Error: "cancelled by the caller"})
			return
		}
	}
}
