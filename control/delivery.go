package control

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
)

// States of a delivery.
const (
	DeliveryPending   = "pending"   // to be tried, or tried again
	DeliveryDelivered = "delivered" // the receiver has said 2xx
	DeliveryDead      = "dead"      // all attempts have failed; it may be replayed
)

// A Delivery is one event on its way to one webhook.
type Delivery struct {
	ID       uuid.UUID // stable over attempts
	Webhook  uuid.UUID
	Event    Event
	Status   string
	Attempts int       // those that have begun
	DueAt    time.Time // of the next attempt; while one is under way, when it counts as lost
	Claim    uuid.UUID // of the attempt under way
	Attempt            // the last
	// CreatedAt and FinishedAt are when it was queued, and when it was
	// delivered or given up; the latter is zero while it is pending.
	CreatedAt  time.Time
	FinishedAt time.Time
}

// An Attempt is what came of sending once.
type Attempt struct {
	Response int           // the answer's status; 0: there was none
	Error    string        // in words for the tenant; empty: it was taken
	Duration time.Duration // until the answer
	again    time.Duration // what the receiver asked to wait
}

// A Finish is what storage writes after an attempt.
type Finish struct {
	Attempt
	Status string        // of the delivery from now on
	Retry  time.Duration // until the next attempt, where it is pending
	// Broken says that the attempt was not the receiver's fault, such as at the
	// end of the program: it does not count.
	Broken bool
	// A webhook is disabled after so many failures in a row, over so long.
	DisableAfter int
	DisableSpan  time.Duration
}

// DeliveryStore keeps deliveries. LocateX look over all tenants.
type DeliveryStore interface {
	// LocateDueWebhooks returns enabled webhooks with something to be sent now,
	// the longest waiting first, at most 1,000.
	LocateDueWebhooks(ctx context.Context) ([]Located, error)
	// OldestDue returns how long the longest waiting attempt of a webhook has
	// been due; 0: none is.
	OldestDue(ctx context.Context, webhook uuid.UUID) (time.Duration, error)
	// InsertDeliveries queues deliveries; of one event for one webhook there is
	// never a second.
	InsertDeliveries(ctx context.Context, list []Delivery) error
	// ClaimDeliveries takes what is due for an enabled webhook, at most one of a
	// session and only the first that is pending there, for the webhook's
	// timeout and so much longer. Another claim finds it when that is over.
	ClaimDeliveries(ctx context.Context, webhook uuid.UUID, most int, longer time.Duration) ([]Delivery, error)
	// FinishDelivery writes an attempt, and tells whether it was the one that
	// disabled the webhook; an event says so too. ErrConflict: the claim is lost.
	FinishDelivery(ctx context.Context, d Delivery, f Finish) (disabled bool, err error)
	// Deliveries lists a webhook's, newest first; status may be empty.
	Deliveries(ctx context.Context, webhook uuid.UUID, status string, p Page) ([]Delivery, error)
	// ReplayDeliveries makes one delivery pending again, or with a zero id all
	// dead ones of the webhook, and returns how many. ErrNotFound, or
	// ErrConflict if the one is pending.
	ReplayDeliveries(ctx context.Context, webhook, id uuid.UUID) (int, error)
}

// Defaults of [Deliveries].
const (
	deliveryLook    = time.Second     // between looks for what is due
	deliveryLanes   = 512             // webhooks at once
	deliverySlots   = 4               // sessions at once, of a webhook
	deliveryLonger  = 5 * time.Second // within which what came of it is written
	deliveryFirst   = 5 * time.Second // first pause after a failure; each further is twice as long
	deliveryMost    = time.Hour
	deliveryAsked   = 24 * time.Hour // longest pause that a receiver may ask for
	disableFailures = 20
	disableSpan     = time.Hour
)

// Deliveries sends events to webhooks. Its queue is its own table and not a
// general job queue's, since the order within a session and endpoint, and a
// queue for each endpoint, are what it is about: one claim states both, over
// rows that are the tenant's record of deliveries at the same time.
//
// Each webhook with something due has a lane of its own, with a few slots, so
// that a slow receiver delays nobody else's events. Run must run in at least
// one process; several share the work.
type Deliveries struct {
	Store    DeliveryStore
	Webhooks *Webhooks
	HTTP     effect.HTTP    // follows no redirects
	Secrets  effect.Secrets // nil: there are none
	Changed  func() <-chan struct{}
	Log      *slog.Logger
	// Noted is told of each attempt: "delivered", "failed" or "dead", and how
	// long it was due; Disabled of each webhook that was disabled; Oldest, at
	// each look, how long the longest waiting attempt of all has been due. They
	// may be nil.
	Noted    func(outcome string, waited time.Duration)
	Disabled func()
	Oldest   func(time.Duration)

	// First is the pause after a first failure, of which jitter takes up to
	// half; default 5 s. Each further is twice as long, up to 1 h.
	First time.Duration
	// DisableAfter failures in a row, over at least DisableSpan, disable a
	// webhook. Defaults 20 and 1 h.
	DisableAfter int
	DisableSpan  time.Duration
	// Slots is how many sessions' events are sent to a webhook at once; default
	// 4. Lanes is how many webhooks are sent to at once; default 512. Look is
	// the time between looks for what is due; default 1 s. Longer is how long
	// after the timeout an attempt counts as lost; default 5 s.
	Slots, Lanes int
	Look, Longer time.Duration

	mu    sync.Mutex
	lanes map[uuid.UUID]bool
}

// Reader queues deliveries for events.
func (s *Deliveries) Reader() EventReader { return EventReader{Name: "webhooks", Read: s.queue} }

func (s *Deliveries) queue(ctx context.Context, events []Event) error {
	hooks, err := s.Webhooks.Store.EnabledWebhooks(ctx)
	if err != nil {
		return err
	}
	var list []Delivery
	for _, e := range events {
		for _, w := range hooks {
			if w.wants(e) {
				list = append(list, Delivery{ID: NewID(), Webhook: w.ID, Event: e, Status: DeliveryPending})
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	return s.Store.InsertDeliveries(ctx, list)
}

// Replay has one delivery sent again, delivered or dead, or with a zero id all
// dead ones of the webhook, and returns how many. Within a session they come
// late: who needs order looks at the sequence. Errors: ErrNotFound, ErrConflict
// for one that is on its way.
func (s *Deliveries) Replay(ctx context.Context, webhook, id uuid.UUID) (int, error) {
	if _, err := s.Webhooks.Store.Webhook(ctx, webhook); err != nil {
		return 0, err
	}
	return s.Store.ReplayDeliveries(ctx, webhook, id)
}

// Run sends until ctx ends, and waits for what is under way to be let go.
func (s *Deliveries) Run(ctx context.Context) error {
	look := time.NewTicker(cmp.Or(s.Look, deliveryLook))
	defer look.Stop()
	var lanes sync.WaitGroup
	defer lanes.Wait()
	away := false
	for {
		changed := s.Changed()
		due, err := s.Store.LocateDueWebhooks(ctx)
		if err == nil {
			err = s.age(ctx, due)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !(away && errors.Is(err, ErrUnavailable)) {
			s.Log.Error("webhooks wait", "error", err)
		}
		away = err != nil
		for _, l := range due {
			if s.enter(l.ID) {
				lanes.Go(func() {
					defer s.leave(l.ID)
					s.lane(WithTenant(ctx, l.Tenant), l.ID)
				})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-look.C:
		}
	}
}

// age tells how long the first of what is due has waited.
func (s *Deliveries) age(ctx context.Context, due []Located) (err error) {
	var oldest time.Duration
	if s.Oldest == nil {
		return nil
	}
	if len(due) > 0 {
		oldest, err = s.Store.OldestDue(WithTenant(ctx, due[0].Tenant), due[0].ID)
	}
	s.Oldest(oldest)
	return err
}

// enter takes a webhook's lane, unless it is taken or there are too many.
func (s *Deliveries) enter(webhook uuid.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lanes[webhook] || len(s.lanes) >= cmp.Or(s.Lanes, deliveryLanes) {
		return false
	}
	if s.lanes == nil {
		s.lanes = map[uuid.UUID]bool{}
	}
	s.lanes[webhook] = true
	return true
}

func (s *Deliveries) leave(webhook uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lanes, webhook)
}

// lane sends what is due to one webhook, until nothing is.
func (s *Deliveries) lane(ctx context.Context, webhook uuid.UUID) {
	slots := cmp.Or(s.Slots, deliverySlots)
	free := slots
	done := make(chan struct{}, slots)
	look := time.NewTicker(cmp.Or(s.Look, deliveryLook))
	defer look.Stop()
	defer func() {
		for ; free < slots; free++ {
			<-done
		}
	}()
	for ctx.Err() == nil {
		changed := s.Changed()
		var due []Delivery
		var err error
		if free > 0 {
			due, err = s.Store.ClaimDeliveries(ctx, webhook, free, cmp.Or(s.Longer, deliveryLonger))
		}
		if err != nil {
			if ctx.Err() == nil {
				s.Log.Warn("a webhook waits", "webhook", webhook, "error", err)
			}
			return
		}
		for _, d := range due {
			free--
			go func() {
				s.deliver(ctx, d)
				done <- struct{}{}
			}()
		}
		if free == slots {
			return
		}
		select {
		case <-done:
			free++
		case <-changed:
		case <-look.C: // another session's pause may be over
		}
	}
}

// deliveryGrace is how long an attempt may go on after the end of Run was asked
// for, so that a restart does not send twice what is being answered.
const deliveryGrace = 3 * time.Second

// late returns a context that ends a while after ctx.
func late(ctx context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(while):
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
}

// deliver makes one attempt and writes what came of it.
func (s *Deliveries) deliver(ctx context.Context, d Delivery) {
	ctx, cancel := late(ctx, deliveryGrace)
	defer cancel()
	w, err := s.Webhooks.Store.Webhook(ctx, d.Webhook)
	var a Attempt
	if err == nil {
		a, err = s.send(ctx, w, d.Event, d.ID)
	}
	f := Finish{Attempt: a, Status: DeliveryDelivered, DisableAfter: cmp.Or(s.DisableAfter, disableFailures),
		DisableSpan: cmp.Or(s.DisableSpan, disableSpan)}
	outcome := "delivered"
	switch {
	case err != nil: // not the receiver's fault
		if ctx.Err() == nil {
			s.Log.Error("a webhook's event is not sent", "webhook", d.Webhook, "error", err)
		}
		f.Status, f.Broken, f.Retry, f.Error, outcome = DeliveryPending, true, time.Second, "not sent", ""
	case a.Error != "" && d.Attempts >= w.MaxAttempts:
		f.Status, outcome = DeliveryDead, "dead"
	case a.Error != "":
		f.Status, f.Retry, outcome = DeliveryPending, s.pause(d.Attempts, a.again), "failed"
	}
	// What was sent is written even if the program ends.
	write, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer done()
	disabled, err := s.Store.FinishDelivery(write, d, f)
	if err != nil {
		if !errors.Is(err, ErrNotFound) { // else the webhook is gone
			s.Log.Warn("an attempt is not written down: it will be made again", "webhook", d.Webhook, "delivery", d.ID, "error", err)
		}
		return
	}
	if outcome != "" && s.Noted != nil {
		s.Noted(outcome, time.Since(d.DueAt))
	}
	if disabled {
		s.Log.Warn("a webhook is disabled: it has failed for too long", "webhook", d.Webhook, "last", f.Error)
		if s.Disabled != nil {
			s.Disabled()
		}
	}
}
