package identity

import (
	"context"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"parley/control"
)

// Codes of authenticator apps (RFC 6238): six digits, SHA-1, 30 s, as all of
// them know; those of the step before and after are taken too.
const (
	totpStep = 30 // seconds
	totpSkew = 1  // steps
)

const totpPurpose = "totp"

// An Enrolment is what an authenticator app is told. It is shown once.
type Enrolment struct {
	Secret string // base32
	URL    string // otpauth://totp/…
}

// EnrolTOTP makes a secret for the person of p that counts once it is
// confirmed; a second call replaces it. control.ErrConflict: there is one
// already, which must be removed first.
func (s *Factors) EnrolTOTP(ctx context.Context, p control.Principal) (Enrolment, error) {
	if p.Kind != control.PrincipalUser {
		return Enrolment{}, control.ErrForbidden
	}
	u, err := s.Users.User(ctx, p.User)
	if err != nil {
		return Enrolment{}, err
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: "Parley", AccountName: u.Email, SecretSize: 20, Period: totpStep})
	if err != nil {
		return Enrolment{}, fmt.Errorf("make a secret: %w", err)
	}
	sealed := s.Ring.Seal(totpPurpose, member(p.Tenant, p.User), []byte(key.Secret()))
	if err := s.Store.PutTOTP(ctx, p.User, sealed); err != nil {
		return Enrolment{}, err
	}
	return Enrolment{key.Secret(), key.URL()}, nil
}

// ConfirmTOTP makes the secret count, by a first code of it, and counts as the
// person's second factor now. It returns recovery codes if there were none.
func (s *Factors) ConfirmTOTP(ctx context.Context, p control.Principal, code string) ([]string, error) {
	if p.Kind != control.PrincipalUser {
		return nil, control.ErrForbidden
	}
	if err := s.attempt(ctx, p.User); err != nil {
		return nil, err
	}
	h, err := s.Store.Factors(ctx, p.User)
	switch {
	case err != nil:
		return nil, err
	case h.TOTP == nil:
		return nil, control.ErrNotFound
	case !h.ConfirmedAt.IsZero():
		return nil, control.ErrConflict
	}
	step, err := s.matches(p.Tenant, p.User, h.TOTP, code, time.Now())
	if err != nil {
		return nil, err
	}
	if err := s.Store.ConfirmTOTP(ctx, p.User, h.TOTP, step, time.Now().UTC()); err != nil {
		return nil, err
	}
	return s.enrolled(ctx, p, h)
}

// enrolled ends every enrolment: the session has a factor now, and the first
// comes with recovery codes.
func (s *Factors) enrolled(ctx context.Context, p control.Principal, before Held) ([]string, error) {
	if err := s.Store.Tried(ctx, p.User); err != nil {
		return nil, err
	}
	if err := s.noteGiven(ctx, p); err != nil {
		return nil, err
	}
	if before.CodesLeft > 0 {
		return nil, nil
	}
	return s.NewCodes(ctx, p)
}

// useCode checks a code of a confirmed secret and uses it up.
func (s *Factors) useCode(ctx context.Context, user uuid.UUID, code string) error {
	tenant, _ := control.TenantOf(ctx)
	h, err := s.Store.Factors(ctx, user)
	if err != nil {
		return err
	}
	if h.ConfirmedAt.IsZero() {
		return ErrFactor
	}
	step, err := s.matches(tenant, user, h.TOTP, code, time.Now())
	if err != nil {
		return err
	}
	first, err := s.Store.UseStep(ctx, user, step)
	if err == nil && !first {
		err = ErrFactor
	}
	return err
}

// matches returns the step that a code is of; ErrFactor if none near now.
func (s *Factors) matches(tenant, user uuid.UUID, sealed []byte, code string, now time.Time) (int64, error) {
	secret, err := s.Ring.Unseal(totpPurpose, member(tenant, user), sealed)
	if err != nil {
		return 0, fmt.Errorf("second factor: %w", err)
	}
	code = strings.ReplaceAll(code, " ", "")
	at, found := now.Unix()/totpStep, int64(0)
	for step := at - totpSkew; step <= at+totpSkew; step++ {
		want, err := hotp.GenerateCodeCustom(string(secret), uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix})
		if err != nil {
			return 0, fmt.Errorf("second factor: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(code), []byte(want)) == 1 {
			found = step
		}
	}
	if found == 0 {
		return 0, ErrFactor
	}
	return found, nil
}

// RemoveTOTP takes the authenticator app of the person of p.
func (s *Factors) RemoveTOTP(ctx context.Context, p control.Principal) error {
	return s.Store.RemoveTOTP(ctx, p.User)
}

// recoveryCodes are made at a time.
const recoveryCodes = 10

const recoveryPurpose = "recovery-code"

// NewCodes makes ten recovery codes of 80 bits for the person of p, in the place
// of the old ones. They are shown once: storage has their MACs.
func (s *Factors) NewCodes(ctx context.Context, p control.Principal) ([]string, error) {
	codes, hashes := make([]string, recoveryCodes), make([][]byte, recoveryCodes)
	for i := range codes {
		text := base32.StdEncoding.EncodeToString(random(10))
		codes[i] = strings.ToLower(text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:])
		hashes[i] = s.recoveryHash(p.Tenant, p.User, codes[i])
	}
	return codes, s.Store.ReplaceCodes(ctx, p.User, hashes)
}

func (s *Factors) recover(ctx context.Context, user uuid.UUID, code string) (int, error) {
	tenant, _ := control.TenantOf(ctx)
	left, err := s.Store.UseCode(ctx, user, s.recoveryHash(tenant, user, code), time.Now().UTC())
	return left, control.NotFoundIs(err, ErrFactor)
}

func (s *Factors) recoveryHash(tenant, user uuid.UUID, code string) []byte {
	code = strings.NewReplacer("-", "", " ", "").Replace(strings.ToLower(code))
	return s.Ring.MAC(recoveryPurpose, member(tenant, user)+" "+code)
}

// member names a membership, where something is sealed beside it.
func member(tenant, user uuid.UUID) string { return tenant.String() + " " + user.String() }
