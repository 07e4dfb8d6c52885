package flowtest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"parley/agent/effect"
	"parley/agent/flow"
)

// A Report is the outcome of a case. Step counts from 0 and is -1 where the
// flow itself is at fault.
type Report struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Step int    `json:"step"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

// maxEffects bounds what one step may make the host do.
const maxEffects = 1000

// runner is the host of one case.
type runner struct {
	c        Case
	f        *flow.Flow
	s        flow.State
	now      time.Time
	messages []flow.Message
	trace    []string // everything that could leak
	net      network
	do       *effect.Performer
	timer    *timer
}

type timer struct {
	id string
	at time.Time
}

func newRunner(c Case) *runner {
	r := &runner{c: c, now: time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)}
	r.net = network{servers: c.HTTP, secrets: c.Secrets, now: &r.now, next: map[int]int{}}
	r.do = r.net.performer()
	r.do.Contents = c.Content
	r.do.Models = &answers{left: slices.Clone(c.Model)}
	return r
}

// Run runs a case.
func Run(c Case) Report {
	r := newRunner(c)
	bad := func(step int, want, got string) Report { return Report{c.Name, false, step, want, got} }
	problem, err := r.load()
	switch {
	case expects(c.PublishError):
		if problem == "" && err == nil {
			return bad(-1, "a publish error", "none")
		}
		return Report{Name: c.Name, OK: true}
	case err != nil && expects(c.AllowError), problem != "" && expects(c.AllowError):
		return Report{Name: c.Name, OK: true}
	case err != nil:
		return bad(-1, "a flow", err.Error())
	}
	for i, st := range c.Steps {
		if err := r.step(st); err != nil {
			return bad(i, "an event", err.Error())
		}
		if want, got, ok := r.check(st); !ok {
			return bad(i, want, got)
		}
	}
	return Report{Name: c.Name, OK: true}
}

func expects(raw json.RawMessage) bool {
	s := string(raw)
	return s != "" && s != "null" && s != "false"
}

// load compiles the flows. It returns the first error of the check.
func (r *runner) load() (string, error) {
	f, err := parseAs(r.c.Flow, r.c.Dialect)
	if err != nil {
		return "", err
	}
	subs := map[string]*flow.Flow{}
	for id, doc := range r.c.Subflows {
		if subs[id], err = parseAs(doc, r.c.Dialect); err != nil {
			return "", err
		}
	}
	r.f = f.With(subs)
	init := flow.Init{ID: "case", Channel: r.c.Channel}
	if init.Channel == "" {
		init.Channel = "chat"
	}
	scope := func(name string) map[string]any { m, _ := r.c.InitialState[name].(map[string]any); return m }
	init.User, init.Variables, init.Context, init.Temp, init.Env = scope("user"), scope("variables"), scope("context"), scope("temp"), scope("env")
	r.s = flow.New(r.f, init)
	for _, p := range r.f.Check() {
		if p.Severity == "error" {
			return p.String(), nil
		}
	}
	return "", nil
}

func parseAs(doc []byte, dialect string) (*flow.Flow, error) {
	if dialect != "" && dialect != "seed" {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(doc, &m); err != nil {
			return nil, err
		}
		m["dialect"], _ = json.Marshal(dialect)
		var err error
		if doc, err = json.Marshal(m); err != nil {
			return nil, err
		}
	}
	return flow.Parse(doc)
}

// step sends a step's event.
func (r *runner) step(st Step) error {
	r.messages = nil
	if st.Op != "" {
		return r.operate(st.Op, st.MS)
	}
	at := flow.At{At: r.now}
	voice := r.c.Channel == "voice"
	mode := "text"
	if voice {
		mode = "speech"
	}
	if s := string(st.Input); s == "" || s == "null" {
		return r.send(flow.Start{At: at})
	}
	var said string
	if json.Unmarshal(st.Input, &said) == nil {
		return r.send(flow.Input{At: at, Text: said, Mode: mode})
	}
	var in struct {
		Event, Digits, Text, Op string
		MS                      int
		At                      int `json:"at_ms"`
	}
	if err := json.Unmarshal(st.Input, &in); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	if in.Op != "" {
		return r.operate(in.Op, in.MS)
	}
	switch in.Event {
	case "dtmf":
		return r.send(flow.Input{At: at, Text: in.Digits, Mode: "dtmf"})
	case "silence":
		return r.silence(time.Duration(in.MS) * time.Millisecond)
	case "hangup":
		return r.send(flow.Hangup{At: at})
	case "barge_in":
		r.now = r.now.Add(time.Duration(in.At) * time.Millisecond)
		return r.send(flow.Input{At: flow.At{At: r.now}, Text: in.Text, Mode: mode})
	}
	return fmt.Errorf("unknown event %q", in.Event)
}

func (r *runner) operate(op string, ms int) error {
	if op != "advance_clock" {
		return fmt.Errorf("unknown op %q", op)
	}
	r.now = r.now.Add(time.Duration(ms) * time.Millisecond)
	if t := r.timer; t != nil && !t.at.After(r.now) {
		r.timer = nil
		return r.send(flow.Result{At: flow.At{At: r.now}, ID: t.id, Outcome: "timeout"})
	}
	return nil
}

// silence lets time pass: the no-input timer fires when it is over.
func (r *runner) silence(d time.Duration) error {
	timeout := 6 * time.Second // a host's default
	for _, e := range r.s.Pending() {
		if ask, ok := e.(flow.Ask); ok && ask.Voice.NoInput > 0 {
			timeout = ask.Voice.NoInput
		}
	}
	r.now = r.now.Add(d)
	if d < timeout {
		return nil
	}
	return r.send(flow.Silence{At: flow.At{At: r.now}})
}

// send runs an event and performs the effects that follow, until none do.
func (r *runner) send(ev flow.Event) error {
	queue := []flow.Event{ev}
	for n := 0; len(queue) > 0; n++ {
		if n > maxEffects {
			return fmt.Errorf("more than %d effects", maxEffects)
		}
		var effects []flow.Effect
		r.s, effects = flow.Step(r.f, r.s, queue[0])
		queue = queue[1:]
		b, err := flow.EncodeState(r.s)
		if err != nil {
			return err
		}
		if r.s, err = flow.DecodeState(b, flow.Hash(b)); err != nil {
			return err
		}
		r.trace = append(r.trace, string(b))
		for _, e := range effects {
			queue = append(queue, r.perform(e)...)
		}
	}
	return nil
}

// perform does an effect and returns what it came to.
func (r *runner) perform(e flow.Effect) []flow.Event {
	if b, err := json.Marshal(e); err == nil {
		r.trace = append(r.trace, string(b))
	}
	at := flow.At{At: r.now}
	played := func(id string, m []flow.Message) []flow.Event {
		r.messages = append(r.messages, m...)
		if r.c.Channel != "voice" {
			return nil
		}
		return []flow.Event{flow.Played{At: at, ID: id, Heard: flow.Text(m)}}
	}
	switch e := e.(type) {
	case flow.Say:
		return played(e.ID, e.Messages)
	case flow.Ask:
		return played(e.ID, e.Messages)
	case flow.Fetch:
		return []flow.Event{r.do.Perform(context.Background(), e)}
	case flow.Call:
		r.messages = append(r.messages, e.SayWhile...)
		res := r.do.Perform(context.Background(), e)
		if b, err := json.Marshal(res); err == nil {
			r.trace = append(r.trace, string(b))
		}
		return []flow.Event{res}
	case flow.Transfer:
		return []flow.Event{flow.Result{At: at, ID: e.ID, Outcome: "answered"}}
	case flow.Wait:
		r.timer = &timer{e.ID, r.now.Add(e.After)}
	case flow.Record:
		return []flow.Event{flow.Result{At: at, ID: e.ID, Outcome: "empty"}}
	case flow.Model:
		res := r.do.Perform(context.Background(), e)
		if b, err := json.Marshal(res); err == nil {
			r.trace = append(r.trace, string(b))
		}
		return []flow.Event{res}
	}
	return nil
}

func (r *runner) leaks(secret string) bool {
	for _, s := range r.trace {
		if strings.Contains(s, secret) {
			return true
		}
	}
	return false
}
