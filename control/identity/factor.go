package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// Held is what second factors a member has.
type Held struct {
	TOTP        []byte    // the sealed secret; nil: none
	ConfirmedAt time.Time // of the secret; zero: waits for its first code
	Passkeys    []Passkey
	CodesLeft   int // recovery codes
}

// Any tells whether there is a factor to be asked for. Recovery codes stand in
// for one and are none.
func (h Held) Any() bool { return !h.ConfirmedAt.IsZero() || len(h.Passkeys) > 0 }

// A FactorStore keeps the second factors of the members of ctx's tenant. A
// factor belongs to the membership: what one tenant lets in can put nothing of
// its own into another.
type FactorStore interface {
	Factors(ctx context.Context, user uuid.UUID) (Held, error)
	// Try counts an attempt and returns how many there were within window, this
	// one included, and since when. Tried forgets them, after one that held.
	Try(ctx context.Context, user uuid.UUID, now time.Time, window time.Duration) (int, time.Time, error)
	Tried(ctx context.Context, user uuid.UUID) error

	// PutTOTP stores a secret that waits for its first code, in the place of
	// another such; control.ErrConflict if one is confirmed.
	PutTOTP(ctx context.Context, user uuid.UUID, sealed []byte) error
	// ConfirmTOTP confirms that secret by a code of the step.
	ConfirmTOTP(ctx context.Context, user uuid.UUID, sealed []byte, step int64, at time.Time) error
	// UseStep uses up a step and all before; false if it was.
	UseStep(ctx context.Context, user uuid.UUID, step int64) (bool, error)
	RemoveTOTP(ctx context.Context, user uuid.UUID) error

	ReplaceCodes(ctx context.Context, user uuid.UUID, hashes [][]byte) error
	// UseCode uses up a recovery code and returns how many are left; control.ErrNotFound
	// if it is none or used up.
	UseCode(ctx context.Context, user uuid.UUID, hash []byte, at time.Time) (int, error)

	LocatePasskey(ctx context.Context, credential []byte) (control.Located, error)
	Passkey(ctx context.Context, id uuid.UUID) (Passkey, error)
	InsertPasskey(ctx context.Context, k Passkey) error
	// UsePasskey stores what changed by using it, if its counter is still before.
	UsePasskey(ctx context.Context, k Passkey, before uint32) (bool, error)
	RenamePasskey(ctx context.Context, user, id uuid.UUID, name string) error
	RemovePasskey(ctx context.Context, user, id uuid.UUID) error

	// RemoveFactors takes all of a member's factors and codes.
	RemoveFactors(ctx context.Context, user uuid.UUID) error
	// SetFactorAt notes on a browser's session that a factor was given;
	// control.ErrNotFound if there is no such session.
	SetFactorAt(ctx context.Context, session uuid.UUID, at time.Time) error
}

// Factors is the service of second factors. Removing them and making new ones
// beside old ones is for who just gave one: see [control.SecondFactor].
type Factors struct {
	Store   FactorStore
	Users   UserStore
	Pending Pending
	Ring    *control.Keyring
	Audit   control.Audit
	// Passkeys of this site; nil: it has no name that browsers take, and there
	// are none.
	Passkeys *Site
}

// Attempts at a second factor: at most so many within the window, counted where
// no cache can forget them, and counted before they are looked at.
const (
	FactorTries  = 5
	FactorWindow = 5 * time.Minute
)

// TicketLife is how long who has given a password may take for the second factor.
const TicketLife = 5 * time.Minute

// A Proof of a second factor: one of the three.
type Proof struct {
	Code     string // of an authenticator app
	Recovery string // one of the recovery codes
	Passkey  *Assertion
}

// A Given factor says what a Proof was.
type Given struct {
	Kind string // "totp", "recovery", "passkey"
	Left int    // recovery codes left, for kind recovery
}

// ErrFactor is a second factor that does not hold.
var ErrFactor = errors.New("identity: the second factor does not hold")

// Held returns a member's factors.
func (s *Factors) Held(ctx context.Context, user uuid.UUID) (Held, error) {
	return s.Store.Factors(ctx, user)
}

// Check looks whether a proof holds for a member of ctx's tenant, and uses it
// up. Errors: [ErrFactor], a [*Throttled], a [*control.Invalid].
func (s *Factors) Check(ctx context.Context, user uuid.UUID, p Proof) (Given, error) {
	if err := s.attempt(ctx, user); err != nil {
		return Given{}, err
	}
	var g Given
	var err error
	switch {
	case p.Code != "" && p.Recovery == "" && p.Passkey == nil:
		g.Kind, err = "totp", s.useCode(ctx, user, p.Code)
	case p.Recovery != "" && p.Code == "" && p.Passkey == nil:
		g.Kind = "recovery"
		g.Left, err = s.recover(ctx, user, p.Recovery)
	case p.Passkey != nil && p.Code == "" && p.Recovery == "":
		g.Kind, err = "passkey", s.assertedBy(ctx, user, *p.Passkey)
	default:
		return g, control.Invalidf("code", "send one of code, recovery_code and passkey")
	}
	if errors.Is(err, ErrFactor) {
		return g, errors.Join(err, s.noteFailure(ctx, user, g.Kind))
	}
	if err == nil {
		err = s.Store.Tried(ctx, user)
	}
	return g, err
}

// attempt counts, before anything is looked at.
func (s *Factors) attempt(ctx context.Context, user uuid.UUID) error {
	now := time.Now().UTC()
	n, since, err := s.Store.Try(ctx, user, now, FactorWindow)
	if err != nil {
		return fmt.Errorf("count attempts: %w", err)
	}
	if n > FactorTries {
		return &Throttled{since.Add(FactorWindow).Sub(now)}
	}
	return nil
}

func (s *Factors) noteFailure(ctx context.Context, user uuid.UUID, kind string) error {
	detail, err := json.Marshal(map[string]string{"reason": "second_factor", "kind": kind})
	if err != nil {
		return err
	}
	return s.Audit.Note(ctx, control.AuditEntry{Action: "user.sign_in_failed", Object: "user:" + user.String(), Detail: detail})
}

// StepUp checks a proof of the person of p and notes on their session that it
// was given now. It is for browsers' sessions: who comes by a token takes a new
// one afterwards. Errors as of [Factors.Check], and control.ErrForbidden.
func (s *Factors) StepUp(ctx context.Context, p control.Principal, proof Proof) (Given, error) {
	if p.Kind != control.PrincipalUser {
		return Given{}, control.ErrForbidden
	}
	g, err := s.Check(ctx, p.User, proof)
	if err != nil {
		return g, err
	}
	return g, s.noteGiven(ctx, p)
}

func (s *Factors) noteGiven(ctx context.Context, p control.Principal) error {
	err := s.Store.SetFactorAt(ctx, p.ID, time.Now().UTC())
	return control.NotFoundIs(err, control.ErrForbidden)
}

// Reset takes all factors of a member who has lost them, at the wish of an
// administrator of the same tenant. Only owners may do so to owners.
func (s *Factors) Reset(ctx context.Context, user uuid.UUID) error {
	u, err := s.Users.User(ctx, user)
	if err != nil {
		return err
	}
	if by := control.PrincipalOf(ctx); u.Role == control.RoleOwner && by.Role != control.RoleOwner {
		return control.ErrForbidden
	}
	return s.Store.RemoveFactors(ctx, user)
}
