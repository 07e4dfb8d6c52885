package control

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"parley/agent/effect"
)

// How long what was read of a secret counts.
const (
	secretLife     = 5 * time.Minute // while changes elsewhere are heard of
	secretLifeDeaf = 5 * time.Second // while they are not
	secretNone     = 5 * time.Second // that there is none
	secretStale    = time.Hour       // past its time, while its store is away
	secretRetry    = 5 * time.Second // the store is not asked again so soon, if there is a stale value
	secretAway     = time.Second     // and if there is none
	secretMissed   = time.Minute     // a store that did not answer is held to be away, if nobody asks it again
	secretLoad     = 2 * time.Second // longest read of one
	secretCached   = 10_000          // entries at most
)

// A cachedSecret is what calls need of a secret.
type cachedSecret struct {
	value effect.Secret
	hosts []string
	life  time.Duration // at most; zero: as long as any
}

// SecretStats counts reads of secrets since the start.
type SecretStats struct {
	Hits   int64 // served from memory within its time
	Loads  int64 // asked of the store
	Stale  int64 // served past its time, because the store was away or being asked
	Failed int64 // not served: the store was away, and nothing was in memory
}

// A secretCache keeps secrets in memory, and asks for each one once at a time.
type secretCache struct {
	log *slog.Logger

	mu      sync.Mutex
	entries map[string]*list.Element // of *cacheEntry
	recent  list.List                // the last used first
	deaf    bool                     // changes elsewhere are not heard of
	epoch   time.Time                // what was loaded before is past its time
	changes int                      // counts what was dropped or expired
	away    bool                     // said already
	missed  time.Time                // when a store last did not answer; zero: one has since
	stats   SecretStats
}

type cacheEntry struct {
	key     string
	v       cachedSecret
	err     error     // nil: v counts
	at      time.Time // when the load began; zero: never
	retry   time.Time // not loaded before
	has     bool      // v was loaded at some time
	loading chan struct{}
}

func newSecretCache(log *slog.Logger) *secretCache {
	return &secretCache{log: log, entries: map[string]*list.Element{}}
}

// get returns a secret from memory, or has load read it. ErrNotFound is
// remembered for a while; so is ErrUnavailable, shortly.
func (c *secretCache) get(ctx context.Context, key string, load func(context.Context) (cachedSecret, error)) (cachedSecret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entry(key)
	for {
		now := time.Now()
		switch {
		case c.fresh(e, now):
			c.stats.Hits++
			return e.v, e.err
		case e.loading == nil && now.Before(e.retry), e.loading != nil && c.servable(e, now):
			return c.past(e, now)
		case e.loading == nil:
			return c.load(ctx, e, load)
		}
		if err := c.wait(ctx, e.loading); err != nil {
			return cachedSecret{}, err
		}
	}
}

// wait lets go of the lock until somebody's load is done.
func (c *secretCache) wait(ctx context.Context, loading chan struct{}) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-loading:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// load reads e anew. It serves all who want it, so it does not end with ctx.
func (c *secretCache) load(ctx context.Context, e *cacheEntry, load func(context.Context) (cachedSecret, error)) (cachedSecret, error) {
	e.loading = make(chan struct{})
	began, changes := time.Now(), c.changes
	c.stats.Loads++
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), secretLoad)
	v, err := load(ctx)
	cancel()
	c.mu.Lock()
	close(e.loading)
	e.loading = nil
	now := time.Now()
	if c.changes != changes {
		began = now.Add(-secretLife) // perhaps read before a change: good for now, not for later
	}
	switch {
	case err == nil:
		e.v, e.err, e.at, e.has, e.retry = v, nil, began, true, time.Time{}
		c.missed = time.Time{}
		if c.away {
			c.away = false
			c.log.Info("secrets can be read again")
		}
		return v, nil
	case errors.Is(err, ErrNotFound):
		e.v, e.err, e.at, e.has, e.retry = cachedSecret{}, err, began, false, time.Time{}
		return cachedSecret{}, err
	case !errors.Is(err, ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded):
		e.has = false // refused: what was read before does not count either
	default:
		c.missed = now
	}
	e.err = err
	e.retry = now.Add(secretAway)
	if c.servable(e, now) {
		e.retry = now.Add(secretRetry)
	}
	if !c.away {
		c.away = true
		c.log.Warn("secrets cannot be read; those in memory serve for an hour past their time", "err", err)
	}
	return c.past(e, now)
}

// past serves what is past its time, or says why not.
func (c *secretCache) past(e *cacheEntry, now time.Time) (cachedSecret, error) {
	if c.servable(e, now) {
		c.stats.Stale++
		return e.v, nil
	}
	c.stats.Failed++
	return cachedSecret{}, e.err
}

func (c *secretCache) life(e *cacheEntry) time.Duration {
	life := secretLife
	switch {
	case e.err != nil:
		life = secretNone
	case c.deaf:
		life = secretLifeDeaf
	}
	if e.v.life > 0 {
		life = min(life, e.v.life)
	}
	return life
}

func (c *secretCache) fresh(e *cacheEntry, now time.Time) bool {
	return !e.at.IsZero() && e.at.After(c.epoch) && (e.err == nil || errors.Is(e.err, ErrNotFound)) && now.Sub(e.at) < c.life(e)
}

// servable tells whether e may be served past its time.
func (c *secretCache) servable(e *cacheEntry, now time.Time) bool {
	return e.has && now.Sub(e.at) < secretLife+secretStale
}

// entry returns the entry of key, the most recently used from now on.
func (c *secretCache) entry(key string) *cacheEntry {
	if at, ok := c.entries[key]; ok {
		c.recent.MoveToFront(at)
		return at.Value.(*cacheEntry)
	}
	if len(c.entries) >= secretCached {
		oldest := c.recent.Back()
		delete(c.entries, c.recent.Remove(oldest).(*cacheEntry).key)
	}
	e := &cacheEntry{key: key}
	c.entries[key] = c.recent.PushFront(e)
	return e
}

// expire has a secret read anew when it is next asked for; gone forgets it.
func (c *secretCache) expire(key string, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	at, ok := c.entries[key]
	if !ok {
		return
	}
	e := at.Value.(*cacheEntry)
	e.retry = time.Time{}
	if gone {
		c.recent.Remove(at)
		delete(c.entries, key)
		return
	}
	if e.err != nil { // that there is none
		e.at = time.Time{}
	} else if limit := time.Now().Add(-secretLife); e.at.After(limit) {
		e.at = limit // past its time, and good for an hour
	}
}

// hears says whether changes elsewhere are heard of. What happened until now
// may have been missed.
func (c *secretCache) hears(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if yes && c.deaf {
		c.epoch = time.Now()
		c.changes++
	}
	c.deaf = !yes
}

// isAway tells whether a store did not answer shortly before, and none has since.
func (c *secretCache) isAway(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.missed.IsZero() && now.Sub(c.missed) < secretMissed
}

func (c *secretCache) counts() SecretStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}
