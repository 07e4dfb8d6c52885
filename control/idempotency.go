package control

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Errors of a request that names itself by an Idempotency-Key.
var (
	ErrOtherRequest = errors.New("control: the idempotency key was used for another request")
	ErrInProgress   = errors.New("control: a request with the same idempotency key is in progress")
)

const (
	// AnswerLife is how long an answer is given again.
	AnswerLife = 24 * time.Hour
	// MaxKeptAnswer is the longest body of an answer that is kept, in bytes.
	MaxKeptAnswer = 256 << 10
	// attemptLease is how long an attempt may take before its process is taken
	// to be dead and the request may be made again: twice a request's own time.
	attemptLease = 30 * time.Second
	// answerSweep is how often expired answers are deleted.
	answerSweep = 10 * time.Minute
)

// A KeptAnswer is what a request was answered.
type KeptAnswer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header,omitempty"`
	Body   []byte            `json:"body,omitempty"`
	// Dropped is an answer whose body was longer than MaxKeptAnswer.
	Dropped bool `json:"dropped,omitempty"`
}

// A NamedRequest is one try at a request that names itself. Key and Fingerprint are
// MACs: of who asks, the route and the client's key; and of the request.
type NamedRequest struct {
	Key, Fingerprint []byte
	Claim            uuid.UUID // of the attempt that may answer
	Answer           []byte    // sealed; nil while there is none
}

// NamedStore keeps such requests, each tenant's apart.
type NamedStore interface {
	// ClaimRequest keeps a if its key is new, has expired, or belongs to an
	// attempt at the same request that began longer than lease ago without an
	// answer. It returns what is kept now: a's own claim, or another's.
	ClaimRequest(ctx context.Context, a NamedRequest, life, lease time.Duration) (NamedRequest, error)
	// AnswerRequest keeps a's answer while its claim holds.
	AnswerRequest(ctx context.Context, a NamedRequest) error
	// DropRequest forgets a while its claim holds.
	DropRequest(ctx context.Context, a NamedRequest) error
	// LocateExpiredAnswers returns tenants, at most 500, that have expired ones.
	LocateExpiredAnswers(ctx context.Context) ([]Located, error)
	// DropExpiredAnswers deletes those of ctx's tenant, and returns how many.
	DropExpiredAnswers(ctx context.Context) (int64, error)
}

// Idempotency lets a request that names itself take effect once: the second
// time it gets the first one's answer (draft-ietf-httpapi-idempotency-key-header).
//
// Answers are sealed by the Keyring, since some hold what is shown once. A
// process that dies between an effect and its answer leaves an attempt that may
// be made again after 30 s: what it did by then may be done twice.
type Idempotency struct {
	Store NamedStore
	Ring  *Keyring
	Log   *slog.Logger
}

// Begin claims a request of ctx's principal by the client's key; route is the
// method and pattern, request all that must be equal the second time. A nil
// KeptAnswer means: make it, then call Answer or Forget. Errors: ErrOtherRequest,
// ErrInProgress, ErrUnavailable.
func (i *Idempotency) Begin(ctx context.Context, route, key, request string) (NamedRequest, *KeptAnswer, error) {
	who := ActorOf(ctx)
	a := NamedRequest{Claim: uuid.New(), Key: i.Ring.MAC("idempotency-key", who+"\n"+route+"\n"+key),
		Fingerprint: i.Ring.MAC("idempotency-request", request)}
	kept, err := i.Store.ClaimRequest(ctx, a, AnswerLife, attemptLease)
	switch {
	case err != nil:
		return a, nil, fmt.Errorf("claim an idempotency key: %w", err)
	case kept.Claim == a.Claim:
		return a, nil, nil
	case string(kept.Fingerprint) != string(a.Fingerprint):
		return a, nil, ErrOtherRequest
	case kept.Answer == nil:
		return a, nil, ErrInProgress
	}
	text, err := i.Ring.Unseal("idempotency-answer", place(ctx, a), kept.Answer)
	var answer KeptAnswer
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		return a, nil, fmt.Errorf("open the answer of an idempotency key: %w", err)
	}
	return a, &answer, nil
}

// Answer keeps what the attempt was answered.
func (i *Idempotency) Answer(ctx context.Context, a NamedRequest, answer KeptAnswer) error {
	if len(answer.Body) > MaxKeptAnswer {
		answer.Body, answer.Dropped = nil, true
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("keep an answer: %w", err)
	}
	a.Answer = i.Ring.Seal("idempotency-answer", place(ctx, a), text)
	if err := i.Store.AnswerRequest(ctx, a); err != nil {
		return fmt.Errorf("keep an answer: %w", err)
	}
	return nil
}

// Forget lets the request be made again.
func (i *Idempotency) Forget(ctx context.Context, a NamedRequest) error {
	if err := i.Store.DropRequest(ctx, a); err != nil {
		return fmt.Errorf("forget an idempotency key: %w", err)
	}
	return nil
}

// emptyIf takes the body of an answer that holds one of the words, and tells
// whether it did. That there was an answer stays.
func (i *Idempotency) emptyIf(ctx context.Context, a NamedRequest, words []string) (bool, error) {
	text, err := i.Ring.Unseal("idempotency-answer", place(ctx, a), a.Answer)
	var answer KeptAnswer
	if err != nil || json.Unmarshal(text, &answer) != nil {
		answer = KeptAnswer{Dropped: true} // under an older key file: nobody reads it again
	}
	if err == nil && !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(string(answer.Body), w) }) {
		return false, nil
	}
	answer.Body, answer.Dropped = nil, true
	return true, i.Answer(ctx, a, answer)
}

// place is where an answer stands: another tenant's row, or another key's, does
// not open.
func place(ctx context.Context, a NamedRequest) string {
	t, _ := TenantOf(ctx)
	return t.String() + "/" + hex.EncodeToString(a.Key)
}

// Run deletes what has expired, until ctx ends.
func (i *Idempotency) Run(ctx context.Context) error {
	every := time.NewTicker(answerSweep)
	defer every.Stop()
	for {
		if err := i.Sweep(ctx); err != nil && ctx.Err() == nil {
			i.Log.WarnContext(ctx, "expired answers stay for now", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}

// Sweep deletes what has expired, of up to 500 tenants.
func (i *Idempotency) Sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tenants, err := i.Store.LocateExpiredAnswers(ctx)
	for _, at := range tenants {
		if err == nil {
			_, err = i.Store.DropExpiredAnswers(WithTenant(ctx, at.Tenant))
		}
	}
	return err
}
