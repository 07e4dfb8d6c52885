package control

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// A TestCall has a scripted caller talk to an agent, over no line: its vendors,
// tools and flow are the real ones, and so are its records.
type TestCall struct {
	Agent   uuid.UUID
	Version uuid.UUID // zero: what is live
	Script  []TestAct // none: the caller listens to the greeting and leaves
}

// A TestAct is one thing that the caller does, once the agent has spoken and is
// silent again.
type TestAct struct {
	Say       string  `json:"say,omitempty" maxLength:"500" doc:"What the caller says, by the program's own voice or the agent's."`
	Press     string  `json:"press,omitempty" maxLength:"32" doc:"Keys: 0-9 * # A-D."`
	Wait      float64 `json:"wait_seconds,omitempty" minimum:"0" maximum:"60" doc:"Silence that the caller keeps first."`
	Interrupt bool    `json:"interrupt,omitempty" doc:"The caller does it while the agent speaks, one second into it."`
}

// ErrTestCalls means that [MaxTestCalls] of the tenant are in progress already.
var ErrTestCalls = errors.New("control: as many test calls as there may be are in progress")

// A TestCaller makes test calls.
type TestCaller interface {
	// TestCall returns once the call has begun, within 20 s. ErrTestCalls: when one
	// of the tenant's has ended. ErrBusy: this process takes no more calls at the moment.
	TestCall(ctx context.Context, c TestCall) (Call, error)
}

const (
	// MaxTestCalls is how many a tenant may have at once.
	MaxTestCalls = 2
	// TestCallLife ends a test call that does not end by itself.
	TestCallLife = 10 * time.Minute

	maxTestActs = 20
)

var testKeys = regexp.MustCompile(`^[0-9*#A-D]{1,32}$`)

// Validate reports what is wrong with the script.
func (c TestCall) Validate() error {
	if len(c.Script) > maxTestActs {
		return Invalidf("script", "must be at most %d acts", maxTestActs)
	}
	for i, a := range c.Script {
		at := fmt.Sprintf("script[%d].", i)
		switch {
		case a.Say != "" && a.Press != "":
			return Invalidf(at+"press", "is an act of its own: say in one, press in the next")
		case a.Say == "" && a.Press == "" && a.Wait == 0:
			return Invalidf(at+"say", "give say, press or wait_seconds")
		case len(a.Say) > 500:
			return Invalidf(at+"say", "must be at most 500 bytes")
		case a.Press != "" && !testKeys.MatchString(a.Press):
			return Invalidf(at+"press", "must be 1 to 32 of 0-9 * # A-D")
		case a.Wait < 0 || a.Wait > 60:
			return Invalidf(at+"wait_seconds", "must be 0 to 60")
		}
		if err := RefuseSecret(at+"say", a.Say); err != nil {
			return err
		}
	}
	return nil
}
