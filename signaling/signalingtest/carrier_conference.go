package signalingtest

import (
	"context"
	"net/url"
	"slices"
	"sync"
)

// A meeting is a <Conference>: those who are in it, by their sids.
// https://www.twilio.com/docs/voice/twiml/conference
type meeting struct {
	in   []string
	all  []string // who have ever been in it
	over chan struct{}
	end  sync.Once
}

// meet is in a conference until somebody leaves whose leaving ends it, or the
// call is moved or over. All who are in one share the same [REST].
func (c *CarrierCall) meet(ctx context.Context, room *verb) {
	if c.o.REST == nil {
		return
	}
	m := c.o.REST.join(room.text(), c.SID)
	c.note("conference", room.text())
	select {
	case <-m.over:
	case <-ctx.Done():
	}
	c.o.REST.part(m, c.SID, room.attr("endConferenceOnExit") == "true")
}

func (r *REST) join(room, sid string) *meeting {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rooms == nil {
		r.rooms = map[string]*meeting{}
	}
	m := r.rooms[room]
	if m == nil {
		m = &meeting{over: make(chan struct{})}
		r.rooms[room] = m
	}
	m.in, m.all = append(m.in, sid), append(m.all, sid)
	return m
}

func (r *REST) part(m *meeting, sid string, ends bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.in = slices.DeleteFunc(m.in, func(s string) bool { return s == sid })
	if ends {
		m.end.Do(func() { close(m.over) })
	}
}

// Met returns the sids of those who are in a conference now.
func (r *REST) Met(room string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.rooms[room]; m != nil {
		return slices.Clone(m.in)
	}
	return nil
}

// gather says its words and takes the keys; without any the document goes on.
func (c *CarrierCall) gather(ctx context.Context, v *verb, base string) *step {
	words := v.noun("Say").text()
	c.note("say", words)
	keys := ""
	if c.o.Keys != nil {
		keys = c.o.Keys(ctx, words)
	}
	if keys == "" || ctx.Err() != nil {
		return nil
	}
	return &step{address: resolve(base, v.attr("action")), form: url.Values{"Digits": {keys}}}
}
