package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// secretTopic is where changes of secrets are announced: "tenant/key", of one
// that is gone with a minus before it.
const secretTopic = "secrets"

// useFlush is how often it is written which secrets were used.
const useFlush = 20 * time.Second

// Run hears of changes that other processes make, and writes when secrets were
// used, until ctx ends.
func (s *SecretService) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if s.o.Announcer != nil {
		g.Go(func() error { return s.o.Announcer.Listen(ctx, secretTopic, s.heard, s.cache.hears) })
	}
	g.Go(func() error {
		tick := time.NewTicker(useFlush)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.flush(ctx)
			case <-ctx.Done():
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
				defer cancel()
				s.flush(last)
				return nil
			}
		}
	})
	return g.Wait()
}

func (s *SecretService) heard(text string) {
	key, gone := strings.CutPrefix(text, "-")
	s.cache.expire(key, gone)
}

// announce has this process and all others read a secret anew. Who does not
// hear it finds out by the short life of what they have.
func (s *SecretService) announce(ctx context.Context, tenant uuid.UUID, key string, gone bool) {
	text := cacheKey(tenant, key)
	s.cache.expire(text, gone)
	if s.o.Announcer == nil {
		return
	}
	if gone {
		text = "-" + text
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.o.Announcer.Announce(ctx, secretTopic, text); err != nil {
		s.o.Log.Warn("other processes hear later of a changed secret", "within", secretLifeDeaf, "err", err)
	}
}

func (s *SecretService) flush(ctx context.Context) {
	for u, at := range s.used.take() {
		err := s.o.Store.NoteSecretUse(WithTenant(ctx, u.tenant), u.key, at)
		if errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			s.used.again(u, at)
		} else if err != nil {
			s.o.Log.Warn("it is not noted when a secret was used", "err", fmt.Errorf("note use: %w", err))
		}
	}
}

// secretUses remembers which secrets were used in which minute.
type secretUses struct {
	mu   sync.Mutex
	last map[secretUse]time.Time // not written yet
	done map[secretUse]time.Time // written
}

type secretUse struct {
	tenant uuid.UUID
	key    string
}

func (u *secretUses) note(tenant uuid.UUID, key string, at time.Time) {
	use, at := secretUse{tenant, key}, at.UTC().Truncate(time.Minute)
	u.mu.Lock()
	defer u.mu.Unlock()
	if !at.After(u.done[use]) {
		return
	}
	if u.last == nil || len(u.last) >= secretCached {
		u.last = map[secretUse]time.Time{}
	}
	u.last[use] = at
}

// again has a use written later.
func (u *secretUses) again(use secretUse, at time.Time) {
	u.mu.Lock()
	delete(u.done, use)
	u.mu.Unlock()
	u.note(use.tenant, use.key, at)
}

func (u *secretUses) take() map[secretUse]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	due := u.last
	if u.last = nil; u.done == nil || len(u.done) >= secretCached {
		u.done = map[secretUse]time.Time{}
	}
	for use, at := range due {
		u.done[use] = at
	}
	return due
}
