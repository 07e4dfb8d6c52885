package redis

import (
	"sync"
	"time"
)

// usedBound is how many keys one node remembers by itself.
const usedBound = 100_000

// usedSweep is how many keys may lie there, expired or not.
const usedSweep = 1000

// A usedSet remembers keys until they expire.
type usedSet struct {
	mu    sync.Mutex
	until map[string]time.Time
	sweep int // expired keys are taken out when there are as many as this
}

func newUsedSet() *usedSet { return &usedSet{until: map[string]time.Time{}} }

// add returns true if key was not there. A set full of keys that are still
// alive refuses all others: a replay must not pass because of a flood.
func (u *usedSet) add(key string, life time.Duration, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if until, ok := u.until[key]; ok && now.Before(until) {
		return false
	}
	if len(u.until) >= max(u.sweep, usedSweep) {
		for k, until := range u.until {
			if !now.Before(until) {
				delete(u.until, k)
			}
		}
		u.sweep = min(2*len(u.until), usedBound) // so that sweeping costs little a key
	}
	if len(u.until) >= usedBound {
		return false
	}
	u.until[key] = now.Add(life)
	return true
}
