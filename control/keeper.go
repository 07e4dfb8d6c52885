package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Due says what is to be deleted: of which class, and why.
type Due struct {
	Class   string
	Reason  string
	Before  time.Time // what ended, was written or was deleted before
	Erasure *Erasure  // reason erasure: whose
}

// KeepStore deletes. Each method takes the tenant's turn: only one process is
// at a tenant at a time, and no hold is placed meanwhile.
type KeepStore interface {
	Retentions
	LegalHolds
	Erasures

	// LocateErasures returns tenants, at most 500, with erasures to be done.
	LocateErasures(ctx context.Context) ([]Located, error)
	OpenErasures(ctx context.Context) ([]Erasure, error)
	// OpenDeletions returns what was begun and not finished.
	OpenDeletions(ctx context.Context) ([]Deletion, error)
	// BeginDeletion picks at most so many calls or sessions that are due and not
	// held, and notes that they go. ErrNotFound: there is nothing. ErrBusy:
	// another process has the tenant's turn.
	BeginDeletion(ctx context.Context, due Due, at time.Time, most int) (Deletion, error)
	// NoteBlobs writes what files a deletion is about, once.
	NoteBlobs(ctx context.Context, d Deletion) error
	// FinishDeletion deletes the rows and finishes the proof, in one
	// transaction; mac is over what there was.
	FinishDeletion(ctx context.Context, d Deletion, at time.Time, mac func(string) []byte) (Deletion, error)
	// DeleteAged deletes at most so many rows of a class that are older than
	// due.Before, with their proof. It returns how many.
	DeleteAged(ctx context.Context, due Due, at time.Time, most int, mac func(string) []byte) (int64, error)
	// SettleErasure deletes what names the person outside of sessions, and
	// writes how far the erasure is: done, or what it waits for.
	SettleErasure(ctx context.Context, e Erasure, at time.Time, mac func(string) []byte) error
	// ErasedSessions lists the calls and sessions of an erasure's proofs.
	ErasedSessions(ctx context.Context, erasure uuid.UUID) ([]uuid.UUID, error)
	// KeptAnswers lists kept answers by key.
	KeptAnswers(ctx context.Context, after []byte, most int) ([]NamedRequest, error)
	// EndedCalls returns those of ids that are calls, deleted ones too, with
	// whether they have ended before.
	EndedCalls(ctx context.Context, ids []uuid.UUID, before time.Time) (map[uuid.UUID]bool, error)
}

// A Blob is one file of an object, as a folder lists them.
type Blob struct {
	Object uuid.UUID // the call
	Key    string
	Part   bool // its writer was never closed
	BlobInfo
}

// BlobSweep lists and deletes by object.
type BlobSweep interface {
	// Blobs calls do with each blob of a tenant, parts too, until it fails.
	Blobs(ctx context.Context, tenant uuid.UUID, do func(Blob) error) error
	// Begins returns the first bytes of a blob as it is stored.
	Begins(ctx context.Context, b Blob) ([]byte, error)
	// Remove deletes it; one that is not there is no error.
	Remove(ctx context.Context, b Blob) error
}

// A Keeper deletes what nobody may or will keep any longer: by periods, by
// hand after the time to bring it back, and by erasures. All processes run one.
//
// Files go before the rows that name them, and before both a note is written of
// what goes: whoever finds the note goes on from there. What has ended between
// any two steps is ended by the next pass.
type Keeper struct {
	Store   KeepStore
	Tenants interface {
		// LocateAudited returns tenants by id, see [AuditSeals].
		LocateAudited(ctx context.Context, after uuid.UUID, most int) ([]uuid.UUID, error)
	}
	Files  BlobSweep
	Shared SharedMemory // nil: none
	Once   *Idempotency
	Ring   *Keyring
	Log    *slog.Logger

	// Now is the time. Default time.Now.
	Now func() time.Time
	// Every is the time between passes; a pass takes at most as long. Default
	// 10 minutes. Erasures are looked for every Soon, default 10 s.
	Every, Soon time.Duration
	// Batch is how many calls or sessions are deleted at once. Default 500.
	Batch int
	// Noted is told of finished deletions, and of files that nothing names. May
	// be nil.
	Noted func(class string, rows int64, blobs int)

	once   sync.Once
	woken  chan struct{}
	resume uuid.UUID // the tenant after which the next pass begins
}

func (k *Keeper) now() time.Time {
	if k.Now != nil {
		return k.Now().UTC()
	}
	return time.Now().UTC()
}

func (k *Keeper) waker() chan struct{} {
	k.once.Do(func() { k.woken = make(chan struct{}, 1) })
	return k.woken
}

func (k *Keeper) wake() {
	select {
	case k.waker() <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	every := time.NewTicker(cmp.Or(k.Every, 10*time.Minute))
	defer every.Stop()
	soon := time.NewTicker(cmp.Or(k.Soon, 10*time.Second))
	defer soon.Stop()
	for {
		work := k.EraseNow
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
			work = k.Pass
		case <-soon.C:
		case <-k.waker():
		}
		if err := work(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			k.Log.Warn("what is due to be deleted stays for now", "error", err)
		}
	}
}

// EraseNow goes on with all open erasures.
func (k *Keeper) EraseNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(k.Every, 10*time.Minute))
	defer cancel()
	list, err := k.Store.LocateErasures(ctx)
	if err != nil {
		return fmt.Errorf("look for erasures: %w", err)
	}
	for _, at := range list {
		if err := k.eraseOf(WithTenant(ctx, at.Tenant)); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) eraseOf(ctx context.Context) error {
	if err := k.finishOpen(ctx); err != nil {
		return quiet(err)
	}
	list, err := k.Store.OpenErasures(ctx)
	for _, e := range list {
		if err == nil {
			err = k.erase(ctx, e)
		}
	}
	return quiet(err)
}

// quiet drops what another process sees to.
func quiet(err error) error {
	if errors.Is(err, ErrBusy) {
		return nil
	}
	return err
}

// Pass deletes what is due, of one tenant after the other. A pass that ran out
// of time is gone on with by the next.
func (k *Keeper) Pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(k.Every, 10*time.Minute))
	defer cancel()
	for {
		tenants, err := k.Tenants.LocateAudited(ctx, k.resume, 200)
		if err != nil {
			return fmt.Errorf("list tenants: %w", err)
		}
		if len(tenants) == 0 {
			k.resume = uuid.Nil
			return nil
		}
		for _, id := range tenants {
			if err := k.Tenant(WithTenant(ctx, id)); err != nil {
				return fmt.Errorf("tenant %s: %w", id, err)
			}
			k.resume = id
		}
	}
}

// Tenant deletes all that is due of ctx's tenant.
func (k *Keeper) Tenant(ctx context.Context) error {
	if err := k.eraseOf(ctx); err != nil {
		return err
	}
	r, err := k.Store.Retention(ctx)
	if err != nil {
		return fmt.Errorf("read the retention: %w", err)
	}
	for _, due := range r.dues(k.now()) {
		for n := 1; n > 0; {
			if n, err = k.batch(ctx, due); err != nil {
				return quiet(err)
			}
		}
	}
	for _, due := range r.aged(k.now()) {
		for n := int64(1); n > 0; {
			began := time.Now()
			if n, err = k.Store.DeleteAged(ctx, due, k.now(), k.size(), k.mac); err != nil {
				return quiet(fmt.Errorf("delete old %s: %w", due.Class, err))
			}
			k.note(due.Class, n, 0)
			if err := k.pause(ctx, time.Since(began)); err != nil {
				return err
			}
		}
	}
	return k.sweepParts(ctx)
}

func (k *Keeper) size() int { return cmp.Or(k.Batch, 500) }

func (k *Keeper) mac(text string) []byte { return k.Ring.MAC("deletion", text) }

func (k *Keeper) note(class string, rows int64, blobs int) {
	if k.Noted != nil && (rows > 0 || blobs > 0) {
		k.Noted(class, rows, blobs)
	}
}

// dues lists the classes of sessions whose time may have come.
func (r Retention) dues(now time.Time) []Due {
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	list := []Due{
		{Class: KeepCalls, Reason: ByHand, Before: ago(r.Restore)},
		{Class: KeepSessions, Reason: ByHand, Before: ago(r.Restore)},
		{Class: KeepStates, Reason: ByHand, Before: ago(r.Restore)},
		{Class: KeepRecordings, Reason: ByHand, Before: ago(r.Restore)},
	}
	for _, p := range []struct {
		class string
		days  int
	}{
		{KeepCalls, r.Calls}, {KeepTranscripts, r.Transcripts}, {KeepSessions, r.Transcripts}, {KeepRecordings, r.Recordings}, {KeepMessages, r.Messages},
	} {
		if p.days > 0 {
			list = append(list, Due{Class: p.class, Reason: ByPeriod, Before: ago(p.days)})
		}
	}
	return list
}

// aged lists the classes of rows that go by their own age.
func (r Retention) aged(now time.Time) []Due {
	list := []Due{{Class: KeepCredentials, Reason: ByPeriod, Before: now.AddDate(0, 0, -credentialKeepDays)}}
	for class, days := range map[string]int{KeepEvents: r.Events, KeepUsage: r.Usage} {
		if days > 0 {
			list = append(list, Due{Class: class, Reason: ByPeriod, Before: now.AddDate(0, 0, -days)})
		}
	}
	return list
}

// batch deletes one batch of calls or sessions, and returns how many.
func (k *Keeper) batch(ctx context.Context, due Due) (int, error) {
	began := time.Now()
	d, err := k.Store.BeginDeletion(ctx, due, k.now(), k.size())
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("begin to delete %s: %w", due.Class, err)
	}
	if err := k.finish(ctx, d); err != nil {
		return 0, err
	}
	return len(d.Objects), k.pause(ctx, time.Since(began))
}

// finishOpen ends what an earlier pass, or process, could not.
func (k *Keeper) finishOpen(ctx context.Context) error {
	open, err := k.Store.OpenDeletions(ctx)
	for _, d := range open {
		if err == nil {
			err = k.finish(ctx, d)
		}
	}
	return err
}

// pause lets others work for at least as long as a batch took.
func (k *Keeper) pause(ctx context.Context, took time.Duration) error {
	t := time.NewTimer(min(max(took, 2*time.Millisecond), 10*time.Second))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
