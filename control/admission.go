package control

import (
	"sync"
	"time"
)

// Reasons for which [Admission] refuses a call.
const (
	RefusedRated  = "rated"  // as many calls as the node is rated for
	RefusedLate   = "late"   // the node does not keep up: its clock ticks late
	RefusedMemory = "memory" // little memory is left
)

// A Load is how a node is doing.
type Load struct {
	Late   time.Duration // by which its audio clock lately ticked late, 95th percentile
	Memory float64       // share of the memory that it may use
}

// The shares of memory where calls begin to be refused, and where they are
// taken again.
const (
	memoryMost  = 0.90
	memoryAgain = 0.80
)

// judge says why a node under load l takes no new call, or "". late is what its
// clock may be late. was is what it said before: it is not taken back until the
// load is clearly less, so that a node does not flutter.
func (l Load) judge(late time.Duration, was string) string {
	memory := memoryMost
	switch was {
	case RefusedLate:
		late /= 2
	case RefusedMemory:
		memory = memoryAgain
	}
	switch {
	case l.Memory > memory:
		return RefusedMemory
	case late > 0 && l.Late > late:
		return RefusedLate
	}
	return ""
}

// Admission decides whether a node takes one more call. A call that is admitted
// has a slot at once, so that calls which come together cannot take the same
// one; it keeps the slot until its last line has ended, or gives it back when
// no line of it comes within Hold. Calls in progress are never asked.
//
// It is safe for concurrent use.
type Admission struct {
	Rated int           // calls at once
	Hold  time.Duration // for how long a slot waits for its call
	Late  time.Duration // that the node's clock may be late, 95th percentile; 0: not judged
	Load  func() Load   // nil: only Rated counts

	mu    sync.Mutex
	slots map[string]*slot  // by key
	keys  map[string]string // call id → key
	was   string
}

type slot struct {
	until time.Time // without a line, it is given back then
	lines int
	call  string // id, once known
}

// Reserve takes a slot for a call that has arrived, and returns why not, or "".
// key is the carrier's id of the call: for one that has a slot already it is
// the same one.
func (a *Admission) Reserve(key string) (refused string) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.slots[key]; s != nil {
		s.until = now.Add(a.Hold)
		return ""
	}
	if refused = a.judge(now); refused == "" {
		a.put(key, &slot{until: now.Add(a.Hold)})
	}
	return refused
}

// Name tells that the call of key's slot has this id. A call that has another
// slot keeps that one.
func (a *Admission) Name(key, callID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.slots[key]
	switch {
	case s == nil || s.call == callID:
	case a.keys[callID] != "":
		delete(a.slots, key)
	default:
		s.call = callID
		a.keys[callID] = key
	}
}

// Release gives a slot back whose call was not taken in after all.
func (a *Admission) Release(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.slots[key]; s != nil && s.call == "" {
		delete(a.slots, key)
	}
}

// Gone gives the slot of a call back that is over at the carrier, unless a line
// of it is still served.
func (a *Admission) Gone(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.slots[key]; s != nil && s.lines == 0 {
		a.drop(key, s)
	}
}

// Begin tells that a line of the call is served. A call that comes back has a
// slot whatever the load: it was taken in before.
func (a *Admission) Begin(callID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := a.keys[callID]
	if key == "" {
		key = callID
		a.put(key, &slot{call: callID})
		a.keys[callID] = key
	}
	a.slots[key].lines++
}

// End tells that a line of the call has ended. Each Begin needs one.
func (a *Admission) End(callID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := a.keys[callID]
	if s := a.slots[key]; s != nil {
		if s.lines--; s.lines <= 0 {
			a.drop(key, s)
		}
	}
}

// Refusing returns why a call that came now would be refused, or "".
func (a *Admission) Refusing() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.judge(time.Now())
}

// Slots returns how many are taken.
func (a *Admission) Slots() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweep(time.Now())
	return len(a.slots)
}

// judge is asked under the lock.
func (a *Admission) judge(now time.Time) string {
	if len(a.slots) >= a.Rated {
		if a.sweep(now); len(a.slots) >= a.Rated {
			return RefusedRated
		}
	}
	if a.Load != nil {
		a.was = a.Load().judge(a.Late, a.was)
	}
	return a.was
}

// sweep gives back the slots whose calls did not come.
func (a *Admission) sweep(now time.Time) {
	for key, s := range a.slots {
		if s.lines == 0 && !now.Before(s.until) {
			a.drop(key, s)
		}
	}
}

func (a *Admission) put(key string, s *slot) {
	if a.slots == nil {
		a.slots, a.keys = map[string]*slot{}, map[string]string{}
	}
	a.slots[key] = s
}

func (a *Admission) drop(key string, s *slot) {
	delete(a.slots, key)
	delete(a.keys, s.call)
}
