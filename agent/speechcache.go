package agent

import (
	"container/list"
	"sync"
)

// A SpeechCache keeps the speech of fixed lines (greetings, prompts, the
// apology) over calls, by voice and text. It is safe for concurrent use.
type SpeechCache struct {
	// Limit bounds the audio held, in samples. Default 16 million: 32 MiB.
	Limit int
	// Store has speech that was made beforehand. Nil: there is none.
	Store SpeechStore

	mu      sync.Mutex
	entries map[speechKey]*list.Element
	order   list.List // of cacheEntry, latest first
	samples int
}

type speechKey struct {
	voice string
	how   Delivery
	rate  int
	text  string
}

type cacheEntry struct {
	key speechKey
	spoken
}

func (c *SpeechCache) get(k speechKey) (spoken, bool) {
	if c == nil {
		return spoken{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[k]
	if !ok {
		return spoken{}, false
	}
	c.order.MoveToFront(e)
	return e.Value.(cacheEntry).spoken, true
}

func (c *SpeechCache) put(k speechKey, s spoken) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.Limit
	if limit == 0 {
		limit = 16 << 20
	}
	if c.entries == nil {
		c.entries = make(map[speechKey]*list.Element)
	}
	if _, ok := c.entries[k]; ok || len(s.pcm) > limit {
		return
	}
	c.entries[k] = c.order.PushFront(cacheEntry{k, s})
	c.samples += len(s.pcm)
	for c.samples > limit {
		last := c.order.Back()
		e := c.order.Remove(last).(cacheEntry)
		c.samples -= len(e.pcm)
		delete(c.entries, e.key)
	}
}
