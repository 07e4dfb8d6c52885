package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"parley/agent/flow"
)

// What a flow does besides speaking, and what the caller hears meanwhile.

// What is said while something outside takes its time: first after holdFirst,
// then every holdNext, so that no silence is longer than a caller bears. Who is
// asked to wait for an event knows what for, and hears it every holdWait.
const (
	holdFirst = 1200 * time.Millisecond
	holdNext  = 4 * time.Second
	holdWait  = 10 * time.Second
)

// holdLines are by language. Read-only.
var holdLines = map[string]string{
	"en": "One moment, please.", "de": "Einen Moment bitte.", "es": "Un momento, por favor.", "fr": "Un instant, s'il vous plaît.",
	"it": "Un momento, per favore.", "nl": "Een moment alstublieft.", "pt": "Um momento, por favor.",
}

// holdLine is what is said in a language while something takes its time.
func holdLine(language string) string {
	primary, _, _ := strings.Cut(strings.ToLower(language), "-")
	return cmp.Or(holdLines[primary], holdLines["en"])
}

// hold is holdLine in the caller's language.
func (m *flowMind) hold(node string) []line {
	return []line{{text: holdLine(m.hearing(flow.Voice{}).Language), fixed: true, node: node}}
}

// outside does an effect that is not speech. The caller is told if it takes long.
func (m *flowMind) outside(ctx context.Context, e flow.Effect, say func(line) error) (flow.Event, error) {
	if q, ok := e.(flow.Model); ok {
		return m.consult(ctx, q, say)
	}
	fetch, reads := e.(flow.Fetch) // which changes nothing outside
	switch {
	case m.spec.Perform == nil && reads: // the flow has words of its own
		return flow.Result{At: flow.At{At: time.Now()}, ID: fetch.ID, Outcome: "error"}, nil
	case m.spec.Perform == nil:
		return nil, fmt.Errorf("flow wants %T, which this host cannot do", e)
	}
	c, isCall := e.(flow.Call)
	if !reads {
		m.effects = true
		if err := say(line{firm: true, yields: c.Cancel}); err != nil {
			return nil, err
		}
	}
	done := make(chan flow.Result, 1)
	go func() { done <- m.spec.Perform(ctx, e) }()
	after, filler := holdFirst, m.hold("")
	if isCall {
		after, filler = m.filler(c)
	}
	wait := time.NewTimer(after)
	defer wait.Stop()
	for {
		select {
		case r := <-done:
			if r.ID == "" { // an effect that nothing comes back of: the flow has gone on
				return nil, ctx.Err()
			}
			return r, ctx.Err() // given up in the middle, its result means nothing
		case <-wait.C:
			for _, l := range filler {
				if err := say(l); err != nil {
					<-done
					return nil, err
				}
			}
			filler = m.hold(c.Node)
			wait.Reset(holdNext)
		}
	}
}

// filler is what is said during a call first, and after how long.
func (m *flowMind) filler(c flow.Call) (after time.Duration, lines []line) {
	if lines = m.lines(c.Node, c.SayWhile); len(lines) == 0 {
		lines = m.hold(c.Node)
	}
	return cmp.Or(c.Filler, holdFirst), lines
}

// lines are messages as they are spoken.
func (m *flowMind) lines(node string, messages []flow.Message) (out []line) {
	_ = m.say(node, messages, flow.Voice{}, func(l line) error {
		out = append(out, l)
		return nil
	})
	return out
}

// await waits for a time, or for an event. A pause is quiet; who waits for an
// event is told so now and then.
func (m *flowMind) await(ctx context.Context, e flow.Wait, say func(line) error) (flow.Event, error) {
	m.effects = true
	if len(m.ended) > 0 {
		ev := m.ended[0]
		m.ended = nil
		return ev, ctx.Err()
	}
	if err := say(line{firm: true, quiet: true}); err != nil {
		return nil, err
	}
	over := time.NewTimer(e.After)
	defer over.Stop()
	if e.After == 0 {
		over.Stop()
	}
	filler := m.lines(e.Node, e.SayWhile)
	if len(filler) == 0 && e.Event != "" {
		filler = m.hold(e.Node)
	}
	told := time.NewTimer(cmp.Or(e.Filler, holdNext))
	defer told.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-over.C:
			return flow.Result{At: flow.At{At: time.Now()}, ID: e.ID, Outcome: "timeout"}, nil
		case ev := <-m.happened:
			if ev.Event == e.Event {
				return ev, nil
			}
			m.take(ctx, ev)
		case <-told.C:
			for _, l := range filler {
				if err := say(l); err != nil {
					return nil, err
				}
			}
			told.Reset(holdWait)
		}
	}
}

// takeEvents gives the flow what has happened since it was asked last. It says
// nothing to that: a wait to come finds it.
func (m *flowMind) takeEvents(ctx context.Context) {
	for {
		select {
		case ev := <-m.happened:
			if w, ok := m.unfinished().(flow.Wait); ok && w.Event == ev.Event {
				m.ended = append(m.ended, ev) // it ends the wait that is taken up now
				continue
			}
			m.take(ctx, ev)
		default:
			return
		}
	}
}

// take notes an event that nobody waits for.
func (m *flowMind) take(ctx context.Context, ev flow.Happened) {
	before := m.state
	next, effects := flow.Step(m.spec.Flow, before, ev)
	m.state = next
	m.store(ctx, before, ev, effects)
}

// record asks for a message: after the beep the conductor takes it.
func (m *flowMind) record(e flow.Record, say func(line) error) (move, error) {
	m.effects = true
	mv := move{kind: moveRecord, record: e, node: e.Node, hearing: m.hearing(flow.Voice{})}
	if !e.Beep {
		return mv, nil
	}
	return mv, say(line{beep: true, node: e.Node})
}

// cancels reports that what the caller says gives up an effect.
func cancels(e flow.Effect, in input) bool {
	c, ok := e.(flow.Call)
	return ok && c.Cancel && in.kind == inputSaid
}

// leadsToSensitive reports that the question behind the message that plays is a
// sensitive one: what is said over the message may be its answer.
func (m *flowMind) leadsToSensitive() bool {
	_, effects := flow.Step(m.spec.Flow, m.state, flow.Played{At: flow.At{At: m.state.Session.StartedAt}, ID: m.state.System.Playing})
	for _, e := range effects {
		if ask, ok := e.(flow.Ask); ok && ask.Voice.Sensitive {
			return true
		}
	}
	return false
}

// mustJSON writes a plain struct.
func mustJSON(v any) json.RawMessage {
	b, _ := json.Marshal(v) // of strings and numbers: cannot fail
	return b
}
