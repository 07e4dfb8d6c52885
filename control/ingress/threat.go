package ingress

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// A Signal is a pattern over many requests that looks like an attack.
type Signal string

// The signals.
const (
	// StuffingFrom: one network fails to sign in to many accounts.
	StuffingFrom Signal = "stuffing_from"
	// StuffingOf: one account is tried from many networks.
	StuffingOf Signal = "stuffing_of"
	// KeyMoved: a key is used from a network that it was never used from.
	KeyMoved Signal = "key_moved"
	// Enumeration: one client asks for many different things that are not there.
	Enumeration Signal = "enumeration"
)

// Signals lists all.
func Signals() []Signal { return []Signal{StuffingFrom, StuffingOf, KeyMoved, Enumeration} }

// A threshold is how many different things in how long raise a signal. Each
// leaves people room who mistype, change networks and follow old links.
type threshold struct {
	n     int
	in    time.Duration
	block bool // the network can be blocked for it
}

var thresholds = map[Signal]threshold{
	StuffingFrom: {10, 10 * time.Minute, true},
	StuffingOf:   {10, time.Hour, false}, // blocking strangers would not help, locking the owner out would hurt
	KeyMoved:     {2, 90 * 24 * time.Hour, false},
	Enumeration:  {50, time.Minute, true},
}

// An Alert is a signal that was raised, once in its window.
type Alert struct {
	Signal  Signal
	Tenant  string     // whom it concerns; empty where that is not known
	Object  string     // "key:id"; empty where it names a person
	From    netip.Addr // of the last request
	Count   int
	Blocked time.Duration // the network is kept out for so long; 0: it is not
}

// Sightings remember what was seen with what, for all processes or, where that
// is not to be had, for this one. They must not block for long.
type Sightings interface {
	// Sight notes member under key and returns how many different ones were
	// noted in the window, which begins with the first and counts to at most
	// maxSightings, and whether this one is new. Alone: only this process knows.
	Sight(ctx context.Context, key, member string, window time.Duration) (n int, fresh, alone bool)
}

// MaxSightings is how far different members are counted.
const MaxSightings = 1000

// Watch raises signals. It is safe for concurrent use, and bounded.
type Watch struct {
	Seen   Sightings
	Blocks *Blocks // nil: nobody is blocked
	// BlockFor is how long a network is kept out for a signal that is its own
	// doing; 0: it is not.
	BlockFor time.Duration
	Key      []byte // makes pseudonyms of what is remembered
	Raise    func(context.Context, Alert)

	mu    sync.Mutex
	known *lru[struct{}] // keys and networks that the shared memory knows together
}

// SignInFailed tells that somebody gave a wrong password or code for an account.
func (w *Watch) SignInFailed(ctx context.Context, account string, from netip.Addr) {
	if w == nil || !from.IsValid() {
		return
	}
	network, account := Pseudonym(w.Key, Name(Network(from))), Pseudonym(w.Key, "account "+account)
	w.sight(ctx, StuffingFrom, network, account, Alert{From: from})
	w.sight(ctx, StuffingOf, account, network, Alert{From: from})
}

// KeyUsed tells that a key of a tenant was used. It costs no question to the
// shared memory for what was seen before.
func (w *Watch) KeyUsed(ctx context.Context, tenant, key string, from netip.Addr) {
	if w == nil || !from.IsValid() {
		return
	}
	network := neighbourhood(from)
	both := key + " " + network
	w.mu.Lock()
	if w.known == nil {
		w.known = newLRU[struct{}](MemoryBound)
	}
	_, known := w.known.get(both)
	if !known {
		w.known.put(both, struct{}{})
	}
	w.mu.Unlock()
	if known {
		return
	}
	if alone := w.sight(ctx, KeyMoved, key, Pseudonym(w.Key, network), Alert{Tenant: tenant, Object: "key:" + key, From: from}); alone {
		w.mu.Lock()
		w.known.remove(both) // to be told when the shared memory is back
		w.mu.Unlock()
	}
}

// neighbourhood is a network as people's providers move them within: /24, /48.
func neighbourhood(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

// Missed tells that a client asked for something that is not there: an id of
// another tenant, or of nobody. Who is its key or its network.
func (w *Watch) Missed(ctx context.Context, tenant, who, what string, from netip.Addr) {
	if w == nil {
		return
	}
	w.sight(ctx, Enumeration, who, Pseudonym(w.Key, what), Alert{Tenant: tenant, From: from})
}

func (w *Watch) sight(ctx context.Context, s Signal, key, member string, a Alert) (alone bool) {
	t := thresholds[s]
	n, fresh, alone := w.Seen.Sight(ctx, string(s)+" "+key, member, t.in)
	// The first network of a key is where it lives; each other one is told of.
	again := s == KeyMoved && n > t.n
	if !fresh || n != t.n && !again || s == KeyMoved && alone {
		return alone
	}
	a.Signal, a.Count = s, n
	if t.block && w.Blocks != nil && w.BlockFor > 0 && a.From.IsValid() {
		b := Block{Network: Network(a.From), Until: time.Now().Add(w.BlockFor), Reason: string(s)}
		if err := w.Blocks.Add(ctx, b); err == nil || w.held(a.From) {
			a.Blocked = w.BlockFor
		}
	}
	if w.Raise != nil {
		w.Raise(ctx, a)
	}
	return alone
}

func (w *Watch) held(a netip.Addr) bool { _, ok := w.Blocks.Blocked(a); return ok }

// Recent is [Sightings] of one process: at most so many keys. Make it with
// [NewRecent].
type Recent struct {
	mu   sync.Mutex
	seen *lru[*sighted]
}

type sighted struct {
	until   time.Time
	members map[string]struct{}
}

// recentBound is how many keys are remembered: those with the most members hold
// some 60 KB each, and there are few of them.
const recentBound = 5_000

// NewRecent returns an empty one.
func NewRecent() *Recent { return &Recent{seen: newLRU[*sighted](recentBound)} }

// Sight implements [Sightings].
func (r *Recent) Sight(_ context.Context, key, member string, window time.Duration) (n int, fresh, alone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	at, ok := r.seen.get(key)
	if !ok || !now.Before((*at).until) {
		r.seen.put(key, &sighted{now.Add(window), map[string]struct{}{}})
		at, _ = r.seen.get(key)
	}
	s := *at
	if _, ok := s.members[member]; ok {
		return len(s.members), false, true
	}
	if len(s.members) < MaxSightings {
		s.members[member] = struct{}{}
	}
	return len(s.members), true, true
}
