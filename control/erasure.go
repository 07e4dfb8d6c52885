package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ErrHeld says that a legal hold keeps what was to be deleted.
var ErrHeld = fmt.Errorf("%w: a legal hold keeps it", ErrConflict)

// Erasures keeps wishes to be forgotten, and the proofs of all deletions.
type Erasures interface {
	// InsertErasure returns the open erasure of the same subject if there is one.
	// ErrHeld if a legal hold keeps anything of it.
	InsertErasure(ctx context.Context, e Erasure) (Erasure, error)
	Erasure(ctx context.Context, id uuid.UUID) (Erasure, error)
	Erasures(ctx context.Context, p Page) ([]Erasure, error)
	// Deletions lists proofs, newest first; those of one erasure if it is given.
	Deletions(ctx context.Context, erasure uuid.UUID, p Page) ([]Deletion, error)
}

// maxSubject bounds what names a person, in bytes.
const maxSubject = 200

// RequestErasure asks that all of a caller, or of a user, be forgotten; the
// [Keeper] does it soon after. Asked again before it is done, it is the same.
// Errors: an [*Invalid], ErrHeld.
func (k *Keeper) RequestErasure(ctx context.Context, caller, user string) (Erasure, error) {
	caller, user = strings.TrimSpace(caller), strings.TrimSpace(user)
	switch {
	case (caller == "") == (user == ""):
		return Erasure{}, Invalidf("caller", "must be a number, unless user_id is given: one of the two")
	case len(caller) > maxSubject || len(user) > maxSubject:
		return Erasure{}, Invalidf("caller", "must be at most %d bytes, as user_id must", maxSubject)
	}
	e := Erasure{ID: NewID(), Caller: caller, User: user, Subject: k.subject(ctx, caller, user), Status: ErasureRunning,
		RequestedBy: orSystem(ActorOf(ctx)), RequestedAt: k.now()}
	e, err := k.Store.InsertErasure(ctx, e)
	if errors.Is(err, ErrHeld) {
		return e, Refuse(err, "a legal hold keeps what there is of them, and nothing was erased: lift it first, by DELETE /v1/holds/{id}")
	}
	if err != nil {
		return e, fmt.Errorf("ask for an erasure: %w", err)
	}
	k.wake()
	return e, nil
}

// subject names somebody without saying who: another tenant's is another.
func (k *Keeper) subject(ctx context.Context, caller, user string) []byte {
	return k.Ring.MAC("erasure", tenantOf(ctx).String()+"\ncaller "+caller+"\nuser "+user)
}

func orSystem(actor string) string {
	if actor == "" {
		return "system"
	}
	return actor
}

// erase does what is to be done for one erasure, as far as it can be: sessions
// in batches, then all else that names the person. Run again, it goes on.
func (k *Keeper) erase(ctx context.Context, e Erasure) error {
	for {
		n, err := k.batch(ctx, Due{Class: KeepCalls, Reason: ByErasure, Erasure: &e})
		if err == nil {
			var m int
			m, err = k.batch(ctx, Due{Class: KeepSessions, Reason: ByErasure, Erasure: &e})
			n += m
		}
		if err != nil {
			return fmt.Errorf("erasure %s: %w", e.ID, err)
		}
		if n == 0 {
			break
		}
	}
	cached, err := k.forgetShared(ctx, e)
	if err != nil {
		return fmt.Errorf("erasure %s: empty shared memory: %w", e.ID, err)
	}
	answers, err := k.emptyAnswers(ctx, e)
	if err != nil {
		return fmt.Errorf("erasure %s: empty kept answers: %w", e.ID, err)
	}
	e.Cached, e.Answers = cached, answers
	if err := k.Store.SettleErasure(ctx, e, k.now(), k.mac); err != nil {
		return fmt.Errorf("erasure %s: %w", e.ID, err)
	}
	return nil
}

func (k *Keeper) forgetShared(ctx context.Context, e Erasure) (int, error) {
	if k.Shared == nil {
		return 0, nil
	}
	return k.Shared.Forget(ctx, e.Caller+e.User)
}

// answersAtOnce is how many kept answers are looked through in one transaction.
const answersAtOnce = 200

// emptyAnswers takes the bodies of kept answers that name the person, or a
// session of theirs. That the request was answered stays known, so that it does
// not take effect twice.
func (k *Keeper) emptyAnswers(ctx context.Context, e Erasure) (emptied int, err error) {
	ids, err := k.Store.ErasedSessions(ctx, e.ID)
	if err != nil {
		return 0, err
	}
	words := []string{e.Caller + e.User}
	for _, id := range ids {
		words = append(words, id.String())
	}
	var after []byte
	for {
		list, err := k.Store.KeptAnswers(ctx, after, answersAtOnce)
		if err != nil || len(list) == 0 {
			return emptied, err
		}
		for _, a := range list {
			after = a.Key
			did, err := k.Once.emptyIf(ctx, a, words)
			if err != nil {
				return emptied, err
			}
			if did {
				emptied++
			}
		}
		if err := k.pause(ctx, 0); err != nil {
			return emptied, err
		}
	}
}

// SharedMemory is what processes share and may lose.
type SharedMemory interface {
	// Forget drops what others' servers have answered, and what has word in its
	// name; it returns how much.
	Forget(ctx context.Context, word string) (int, error)
}

// SettleAfter is how long a call must be over before it is erased: until then
// its line may come back, and what it left may still be on its way.
const SettleAfter = 2 * time.Minute
