package control

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"parley/agent"
)

const (
	// followBound is how many notes wait for one who looks on: 10 s of a listener's
	// audio, or half a minute of a lively call. Behind it the oldest go.
	followBound = 256
	// wantEvery is how often other processes are told that somebody looks on here,
	// and wantLife how long they believe it.
	wantEvery = 2 * time.Second
	wantLife  = 3 * wantEvery
	// hubBound is how many notes wait for other processes, and wantBound how many
	// topics these may follow.
	hubBound  = 1024
	wantBound = 4096

	wantTopic = "live-want"
)

// A Note is one thing that happened in a live call. It is not kept anywhere.
type Note struct {
	Type string `json:"t"`
	Data []byte `json:"d,omitempty"` // JSON, or audio
}

// CallsTopic has the states of all calls of a tenant.
func CallsTopic(tenant uuid.UUID) string { return "calls/" + tenant.String() }

// CallTopic has all that is said in a call, and its states.
func CallTopic(tenant, call uuid.UUID) string { return "call/" + tenant.String() + "/" + call.String() }

// SoundTopic has the sound of a call.
func SoundTopic(tenant, call uuid.UUID) string {
	return "sound/" + tenant.String() + "/" + call.String()
}

// A Hub carries what happens in live calls to those who look on, in this process
// and in others. Nobody who looks on holds up a call: what does not fit in a
// queue is dropped, and said to be. What nobody follows costs a look into a map.
// [Hub.Run] must run beside it.
type Hub struct {
	Net  Announcer // between processes; nil: this one alone
	Ring *Keyring  // seals what travels; nil: it is in clear
	Node uuid.UUID
	Log  *slog.Logger

	mu     sync.RWMutex
	live   map[uuid.UUID]*livePhase
	topics map[string]map[*Follower]struct{}
	wanted map[string]time.Time // by other processes, until then
	out    []outward
	wake   chan struct{}
}

// A livePhase is where a call's session here stands.
type livePhase struct {
	CallPhase
	lastCaller string
	noted      bool // in storage
}

type outward struct {
	topic string
	note  Note
}

// NewHub returns a Hub.
func NewHub(net Announcer, ring *Keyring, node uuid.UUID, log *slog.Logger) *Hub {
	return &Hub{Net: net, Ring: ring, Node: node, Log: log, live: map[uuid.UUID]*livePhase{},
		topics: map[string]map[*Follower]struct{}{}, wanted: map[string]time.Time{}, wake: make(chan struct{}, 1)}
}

// Wanted tells whether anybody follows a topic.
func (h *Hub) Wanted(topic string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if len(h.topics[topic]) > 0 {
		return true
	}
	until, ok := h.wanted[topic]
	return ok && time.Now().Before(until)
}

// Publish gives a note to all who follow a topic. It does not block, and keeps
// n.Data.
func (h *Hub) Publish(topic string, n Note) {
	h.mu.Lock()
	for f := range h.topics[topic] {
		f.push(n)
	}
	until, ok := h.wanted[topic]
	send := ok && time.Now().Before(until)
	if send {
		if len(h.out) == hubBound {
			h.out = append(h.out[:0], h.out[1:]...)
		}
		h.out = append(h.out, outward{topic, n})
	}
	h.mu.Unlock()
	if send {
		signal(h.wake)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Observe returns what a call's session tells of itself: see [agent.Spec]. It is
// called once a session, and the session's end takes the call out.
func (h *Hub) Observe(c Call) func(agent.Event) {
	at := &livePhase{CallPhase: CallPhase{Hold: c.Hold()}}
	h.mu.Lock()
	h.live[c.ID] = at
	h.mu.Unlock()
	all, one := CallsTopic(c.Tenant), CallTopic(c.Tenant, c.ID)
	return func(e agent.Event) {
		h.mu.Lock()
		switch {
		case e.Type == "state":
			at.Phase, at.At, at.FlowNode, at.noted = e.State, e.At.UTC(), e.Node, false
		case e.Type == "transcript" && e.Text != "":
			at.lastCaller = e.Text
		case e.Type == "ended" && h.live[c.ID] == at:
			delete(h.live, c.ID)
		}
		h.mu.Unlock()
		toAll := (e.Type == "state" || e.Type == "latency") && h.Wanted(all)
		toOne := h.Wanted(one)
		if !toAll && !toOne {
			return
		}
		text, err := json.Marshal(struct {
			Call uuid.UUID `json:"call_id"`
			agent.Event
		}{c.ID, e})
		if err != nil {
			return // plain fields: cannot fail
		}
		if toAll {
			h.Publish(all, Note{e.Type, text})
		}
		if toOne {
			h.Publish(one, Note{e.Type, text})
		}
	}
}

// phase is where a call's session here stands; false: it has none.
func (h *Hub) phase(call uuid.UUID) (livePhase, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if p := h.live[call]; p != nil {
		return *p, true
	}
	return livePhase{}, false
}

// phases are those of calls that have changed since they were noted last.
func (h *Hub) phases(calls []uuid.UUID) (changed []CallPhase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range calls {
		if p := h.live[id]; p != nil && !p.noted && !p.At.IsZero() {
			p.noted = true
			changed = append(changed, p.CallPhase)
		}
	}
	return changed
}

// A Follower is one who looks on.
type Follower struct {
	wake chan struct{}

	mu    sync.Mutex
	queue []Note
	lost  int
	hears bool
}

func (f *Follower) push(n Note) {
	f.mu.Lock()
	if len(f.queue) == followBound {
		f.queue = append(f.queue[:0], f.queue[1:]...)
		f.lost++
	}
	f.queue = append(f.queue, n)
	f.mu.Unlock()
	signal(f.wake)
}

// News gets a value when there may be notes.
func (f *Follower) News() <-chan struct{} { return f.wake }

// Take returns what has come since, and how many notes before it were dropped.
func (f *Follower) Take() (notes []Note, lost int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	notes, lost = f.queue, f.lost
	f.queue, f.lost = nil, 0
	return notes, lost
}

// Hears tells whether other processes are heard.
func (f *Follower) Hears() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hears
}

// Follow has look see a topic's notes as they come, and returns what it returns.
func (h *Hub) Follow(ctx context.Context, topic string, look func(*Follower) error) error {
	f := &Follower{wake: make(chan struct{}, 1)}
	h.mu.Lock()
	if h.topics[topic] == nil {
		h.topics[topic] = map[*Follower]struct{}{}
	}
	h.topics[topic][f] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		if delete(h.topics[topic], f); len(h.topics[topic]) == 0 {
			delete(h.topics, topic)
		}
		h.mu.Unlock()
	}()
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	defer func() { cancel(); _ = g.Wait() }() // its functions return no error
	if h.Net != nil {
		want := func() { _ = h.Net.Announce(ctx, wantTopic, h.Node.String()+" "+topic) } // else at the next beat
		g.Go(func() error {
			return h.Net.Listen(ctx, "live/"+topic, func(text string) { h.arrived(f, topic, text) }, func(hears bool) {
				f.mu.Lock()
				f.hears = hears
				f.mu.Unlock()
				if hears {
					want()
				}
			})
		})
		g.Go(func() error { every(ctx, wantEvery, func(context.Context) { want() }); return nil })
	}
	return look(f)
}

// A parcel is a note between processes.
type parcel struct {
	Node uuid.UUID `json:"n"`
	Note
}

func (h *Hub) arrived(f *Follower, topic, text string) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil && h.Ring != nil {
		b, err = h.Ring.Unseal("live", topic, b)
	}
	var p parcel
	if err != nil || json.Unmarshal(b, &p) != nil || p.Node == h.Node {
		return // not ours, or our own
	}
	f.push(p.Note)
}

// Run brings notes to other processes until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	if h.Net == nil {
		return nil
	}
	var g errgroup.Group
	g.Go(func() error {
		return h.Net.Listen(ctx, wantTopic, h.want, func(bool) {})
	})
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-h.wake:
				h.send(ctx)
			}
		}
	})
	return g.Wait()
}

// want notes that another process follows a topic.
func (h *Hub) want(text string) {
	const id = 36
	if len(text) <= id+1 || text[:id] == h.Node.String() {
		return
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.wanted) >= wantBound {
		for t, until := range h.wanted {
			if now.After(until) {
				delete(h.wanted, t)
			}
		}
	}
	if len(h.wanted) < wantBound {
		h.wanted[text[id+1:]] = now.Add(wantLife)
	}
}

func (h *Hub) send(ctx context.Context) {
	h.mu.Lock()
	out := h.out
	h.out = nil
	h.mu.Unlock()
	for _, o := range out {
		b, err := json.Marshal(parcel{h.Node, o.note})
		if err != nil {
			continue // plain fields: cannot fail
		}
		if h.Ring != nil {
			b = h.Ring.Seal("live", o.topic, b)
		}
		if err := h.Net.Announce(ctx, "live/"+o.topic, base64.StdEncoding.EncodeToString(b)); err != nil {
			return // those who look on elsewhere find out that they hear nothing
		}
	}
}
