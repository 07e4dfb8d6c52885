package control

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
)

const (
	// shelfLife is how long content is taken for what it was: every process
	// sees a change within a second, without being told.
	shelfLife = 900 * time.Millisecond
	maxShelf  = 10_000 // contents and draws kept
)

// A Candidate is a content that may be drawn.
type Candidate struct {
	ID     uuid.UUID
	Locale string
}

// ShelfStore reads what flows show. Both read published content only.
type ShelfStore interface {
	// Candidates returns what fits a type, or any, and has all the tags: the
	// newest 5000.
	Candidates(ctx context.Context, typ string, tags []string) ([]Candidate, error)
	// Published returns those of ids that are there, with their variants, by one
	// query.
	Published(ctx context.Context, ids []uuid.UUID) ([]flow.Content, error)
}

// A Shelf keeps the content that flows show for 0.9 s. It implements
// [effect.Contents]; the tenant is that of the context. It is safe for use by
// several goroutines; nothing of it runs by itself.
type Shelf struct {
	Store ShelfStore

	mu   sync.Mutex
	kept map[shelfKey]shelved
}

var _ effect.Contents = (*Shelf)(nil)

// A shelfKey names a content, by its id, or a draw.
type shelfKey struct {
	tenant uuid.UUID
	what   string
}

// A shelved thing is a content, nil where there is none, or candidates.
type shelved struct {
	content    *flow.Content
	candidates []Candidate
	until      time.Time
}

// Candidates implements [effect.Contents].
func (s *Shelf) Candidates(ctx context.Context, w flow.Want) ([]string, error) {
	begun := time.Now()
	key, _ := json.Marshal([]any{w.Type, w.Tags}) // texts
	v, ok := s.take(ctx, string(key))
	if !ok {
		var err error
		if v.candidates, err = s.Store.Candidates(ctx, w.Type, tags(w.Tags)); err != nil {
			return nil, err
		}
		s.put(ctx, string(key), v, begun)
	}
	locales := make(map[string]string, len(v.candidates))
	for _, c := range v.candidates {
		locales[c.ID.String()] = c.Locale
	}
	return flow.InLocale(locales, w.Locale), nil
}

// Contents implements [effect.Contents]. What is not kept comes by one query.
func (s *Shelf) Contents(ctx context.Context, ids []string) ([]flow.Content, error) {
	begun := time.Now()
	var found []flow.Content
	var missing []uuid.UUID
	for _, id := range ids {
		u, err := uuid.Parse(id)
		if err != nil || u.String() != id {
			continue // nobody's
		}
		switch v, ok := s.take(ctx, id); {
		case !ok:
			missing = append(missing, u)
		case v.content != nil:
			found = append(found, *v.content)
		}
	}
	if len(missing) > 0 {
		list, err := s.Store.Published(ctx, missing)
		if err != nil {
			return nil, err
		}
		for _, id := range missing {
			v := shelved{}
			if i := slices.IndexFunc(list, func(c flow.Content) bool { return c.ID == id.String() }); i >= 0 {
				v.content = &list[i]
			}
			s.put(ctx, id.String(), v, begun)
		}
		found = append(found, list...)
	}
	return found, nil
}

// take returns what is kept and fresh.
func (s *Shelf) take(ctx context.Context, what string) (shelved, bool) {
	t, _ := TenantOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.kept[shelfKey{t, what}]
	return v, ok && time.Now().Before(v.until)
}

// put keeps v, which was asked for at begun, and forgets others if there are
// too many.
func (s *Shelf) put(ctx context.Context, what string, v shelved, begun time.Time) {
	t, _ := TenantOf(ctx)
	v.until = begun.Add(shelfLife)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil || len(s.kept) >= maxShelf {
		s.kept = map[shelfKey]shelved{} // what is wanted is back in a second
	}
	s.kept[shelfKey{t, what}] = v
}

// forget lets go of all that is a tenant's.
func (s *Shelf) forget(tenant uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.kept {
		if k.tenant == tenant {
			delete(s.kept, k)
		}
	}
}
