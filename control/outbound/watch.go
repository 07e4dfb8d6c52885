package outbound

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

const (
	// lookEvery is how late a signal may be noticed on a node.
	lookEvery = time.Second
	// usualLife is how long what is usual for a tenant is taken to be so.
	usualLife = 10 * time.Minute
	// watched bounds how many tenants are remembered; with more, all are looked
	// at again.
	watched = 10_000
)

// A Watch stops the outbound calls of tenants whose calls look like toll fraud.
// It counts anew whenever a tenant orders or is about to call, at most once a
// second on each node; the stop stands in storage, and nothing but an operator
// lifts it. A nil Watch stops nobody.
type Watch struct {
	Stops      Stops
	Traffic    Traffic
	Seen       Sightings // of risky numbers
	Thresholds Thresholds
	Pseudonym  func(number string) string // what is remembered of one
	// Raised is told of a stop, once, by whichever node made it. Nil: nobody is.
	Raised func(ctx context.Context, s Stop)

	mu     sync.Mutex
	looked map[uuid.UUID]look
}

// A look is what a node knows of a tenant without asking.
type look struct {
	at      time.Time
	usual   Money
	first   time.Time // its first call of those that are compared with
	usualAt time.Time
}

// Stopped returns the stop of ctx's tenant, which may hold or not, after it has
// looked for signals.
func (w *Watch) Stopped(ctx context.Context) (Stop, error) {
	if w == nil {
		return Stop{}, nil
	}
	tenant, _ := control.TenantOf(ctx)
	last, err := w.Stops.OutboundStop(ctx)
	if err != nil || last.Holds() {
		return last, err
	}
	now := time.Now()
	if !w.due(tenant, now) {
		return last, nil
	}
	found, err := w.look(ctx, tenant, now, last.Lifted)
	if err != nil || found.Signal == "" {
		return last, err
	}
	return w.raise(ctx, found)
}

// Refused tells that ctx's tenant ordered a number that is never called.
func (w *Watch) Refused(ctx context.Context, c Callee) error {
	if w == nil || w.Seen == nil || c.Risk == "" || w.Thresholds[RiskyNumbers] == 0 {
		return nil
	}
	tenant, _ := control.TenantOf(ctx)
	last, err := w.Stops.OutboundStop(ctx)
	if err != nil || last.Holds() {
		return err
	}
	// What was counted before the last stop was lifted counts no more.
	key := fmt.Sprintf("%s %s %d", RiskyNumbers, tenant, last.Lifted.Unix())
	n, _, _ := w.Seen.Sight(ctx, key, w.Pseudonym(c.Number), FraudWindow)
	if n < w.Thresholds[RiskyNumbers] {
		return nil
	}
	_, err = w.raise(ctx, Stop{Signal: RiskyNumbers, Count: n, By: control.ActorOf(ctx), At: time.Now().UTC()})
	return err
}

// raise makes a stop stand; who made it tells of it.
func (w *Watch) raise(ctx context.Context, s Stop) (Stop, error) {
	s.Threshold = w.Thresholds[s.Signal]
	fresh, err := w.Stops.PutOutboundStop(ctx, s)
	if err != nil {
		return s, err
	}
	if fresh && w.Raised != nil {
		w.Raised(ctx, s)
	}
	return s, nil
}

// due tells whether a tenant is to be looked at, and notes that it is.
func (w *Watch) due(tenant uuid.UUID, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looked == nil || len(w.looked) >= watched {
		w.looked = map[uuid.UUID]look{}
	}
	l := w.looked[tenant]
	if now.Sub(l.at) < lookEvery {
		return false
	}
	l.at = now
	w.looked[tenant] = l
	return true
}

// look counts; its answer has no signal where there is none.
func (w *Watch) look(ctx context.Context, tenant uuid.UUID, now, lifted time.Time) (Stop, error) {
	since := now.Add(-FraudWindow)
	if lifted.After(since) {
		since = lifted
	}
	for _, signal := range Signals() {
		most := w.Thresholds[signal]
		if most == 0 {
			continue
		}
		var t Tally
		var err error
		switch signal {
		case NewCountries:
			t, err = w.Traffic.NewCountries(ctx, since.Add(-knownFor), since)
		case NumberRange:
			t, err = w.Traffic.FullestRange(ctx, since)
		case ShortCalls:
			t, err = w.Traffic.ShortCalls(ctx, since, ShortCall)
		case SpendJump:
			t, err = w.jump(ctx, tenant, now, since)
		}
		if err != nil {
			return Stop{}, fmt.Errorf("look for %s: %w", signal, err)
		}
		if t.Count >= most {
			return Stop{Signal: signal, Count: t.Count, About: t.About, By: t.By, At: now.UTC()}, nil
		}
	}
	return Stop{}, nil
}

// jump tells how many times the usual was spent.
func (w *Watch) jump(ctx context.Context, tenant uuid.UUID, now, since time.Time) (Tally, error) {
	spent, err := w.Traffic.OutboundSpent(ctx, since)
	if err != nil || spent < LeastUsual {
		return Tally{}, err
	}
	w.mu.Lock()
	l := w.looked[tenant]
	w.mu.Unlock()
	if now.Sub(l.usualAt) >= usualLife {
		// The hour that is judged is none of those that it is compared with.
		if l.usual, l.first, err = w.Traffic.DearestHour(ctx, now.Add(-usualOver), now.Add(-FraudWindow)); err != nil {
			return Tally{}, err
		}
		l.usualAt = now
		w.mu.Lock()
		w.looked[tenant] = l
		w.mu.Unlock()
	}
	if l.first.IsZero() || now.Sub(l.first) < 24*time.Hour {
		return Tally{}, nil
	}
	return Tally{Count: int(spent / max(l.usual, LeastUsual))}, nil
}
