package control

import (
	"errors"
	"time"
)

// SecondFactor says of which people a second factor is asked, on top of what
// [Allow] says. Programs are held to their scopes alone.
type SecondFactor string

// The rules.
const (
	// FactorRequired asks everybody: a person without one may not administer.
	FactorRequired SecondFactor = "required"
	// FactorEnrolled asks those who have one.
	FactorEnrolled SecondFactor = "enrolled"
)

// How old a second factor may be.
const (
	FactorLife = 12 * time.Hour   // to administer
	StepUpLife = 10 * time.Minute // for what is dangerous
)

// Why a second factor is asked for.
var (
	ErrFactorMissing = errors.New("control: a second factor must be enrolled first")
	ErrFactorOld     = errors.New("control: a second factor must be given")
	ErrStepUp        = errors.New("control: a second factor must be given anew")
)

// Demand returns nil if p has given a second factor as lately as admin routes
// and dangerous acts ask for; else one of the errors above. The zero value asks
// as FactorRequired does.
func (f SecondFactor) Demand(p Principal, admin, stepUp bool, now time.Time) error {
	switch {
	case p.Kind != PrincipalUser || !admin && !stepUp:
		return nil
	case p.NoFactor && f == FactorEnrolled:
		return nil
	case p.NoFactor:
		return ErrFactorMissing
	}
	given := now.Sub(p.FactorAt)
	switch {
	case stepUp && given > StepUpLife:
		return ErrStepUp
	case given > FactorLife:
		return ErrFactorOld
	}
	return nil
}
