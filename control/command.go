package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
)

// Kinds of commands. The first three are decisive: a call goes one way at a time.
const (
	CommandHangup   = "hangup"        // words: the goodbye; none: at once
	CommandTransfer = "transfer"      // target; words: what the caller is told before
	CommandWarm     = "warm_transfer" // target; words: what the colleague is told; aloud: what the caller is
	CommandWhisper  = "whisper"       // words for the agent, which the caller does not hear
	CommandSay      = "say"           // words for the caller
)

// States of a command.
const (
	CommandPending = "pending" // for the process that serves the call
	CommandTaken   = "taken"   // the call's session is at it
	CommandDone    = "done"
	CommandFailed  = "failed" // Reason says why
)

// Stages of a warm transfer: how far the colleague has come.
const (
	StageCalling  = "calling"  // the carrier was asked
	StageOffered  = "offered"  // picked up, and hears the summary
	StageAccepted = "accepted" // the two are being joined
	StageOver     = "over"     // will not take the call: Reason says why
)

const (
	// MaxWords is how much an operator may have said or noted at once, in bytes.
	MaxWords = 2000
	// commandLife is how long a command waits for whoever serves its call: for
	// as long as a caller whose process died is away.
	commandLife = 30 * time.Second
	// consultLife bounds asking a colleague, from the first ring to the key.
	consultLife = 2 * time.Minute
	// maxCommands is how many may be open for one call.
	maxCommands = 16
)

// A Command is what an operator wants of a call in progress.
type Command struct {
	ID     uuid.UUID
	Call   uuid.UUID
	Kind   string
	Target string // E.164, sip: or client:
	Words  string // sealed at rest, and gone once the command is over
	Aloud  string // likewise
	Status string
	Stage  string // kind warm_transfer
	Leg    string // kind warm_transfer: the carrier's call to the colleague
	Reason string // status failed: for people
	Actor  string // as audit entries name them

	CreatedAt time.Time
	ExpiresAt time.Time // while it is pending, and a warm transfer altogether
	EndedAt   time.Time // zero: not over
}

// Decisive tells whether the command decides where the call goes.
func (c Command) Decisive() bool { return c.Kind != CommandWhisper && c.Kind != CommandSay }

// AnyRevision is a call as it stands, whatever was done to it meanwhile.
const AnyRevision = -1

// CommandStore keeps commands. LocateX look over all tenants.
type CommandStore interface {
	LocateCommand(ctx context.Context, id uuid.UUID) (Located, error)

	// PutCommand keeps a command for a call that has not ended, and counts the
	// call's revision. Errors: ErrNotFound; ErrEnded; ErrConflict if the call is
	// not at revision, too many commands are open, or the command is decisive and
	// another one is open. With the call's own revision a hang-up takes the place
	// of one that is open.
	PutCommand(ctx context.Context, c Command, revision int) (Command, error)
	Command(ctx context.Context, id uuid.UUID) (Command, error)
	// Commands returns a call's, the newest first.
	Commands(ctx context.Context, call uuid.UUID, p Page) ([]Command, error)
	// TakeCommands gives whoever serves calls the commands that wait for them,
	// once, in order, and once more a warm transfer that was accepted or is over.
	// What is taken under a hold that is not the last is nothing.
	TakeCommands(ctx context.Context, holds []Hold) ([]Command, error)
	// StageCommand notes how far a warm transfer has come; leg "" leaves it.
	// ErrEnded for a command that is not open.
	StageCommand(ctx context.Context, id uuid.UUID, stage, leg string) (Command, error)
	// EndCommand closes an open command: done where reason is "", else failed. A
	// session that knows of it already is not told. One that is closed stays as it
	// is, which is no error.
	EndCommand(ctx context.Context, id uuid.UUID, reason string, told bool) error
}

// An Obeyed is a session that takes commands; see [Calls.Obey].
type Obeyed func(c Command, settle func(reason string))

// Obey has obey told of operators' commands. It must not block, and calls settle
// once the command was carried out, with "" or with why it was not, from any
// goroutine; not for what the call's own end tells. It is called once.
func (s *Calls) Obey(v *Serving, obey Obeyed) {
	s.mu.Lock()
	v.obey = obey
	s.mu.Unlock()
}

// Order has a call do what an operator of the tenant of ctx wants. It returns the
// command as it was kept: the process that serves the call carries it out, and
// [CommandStore.Command] tells what came of it. Where nobody serves the call it is
// done, or not, when Order returns. Errors: [Invalid], ErrNotFound, ErrEnded,
// ErrConflict.
func (s *Calls) Order(ctx context.Context, c Command, revision int) (Command, error) {
	if err := c.check(); err != nil {
		return c, err
	}
	if s.Commands == nil {
		return c, ErrUnavailable
	}
	c.ID, c.Actor, c.Status, c.CreatedAt = NewID(), ActorOf(ctx), CommandPending, time.Now().UTC()
	c.ExpiresAt = c.CreatedAt.Add(commandLife)
	if c.Kind == CommandWarm {
		c.ExpiresAt = c.CreatedAt.Add(consultLife)
	}
	call, err := s.Store.Call(ctx, c.Call)
	if err != nil {
		return c, err
	}
	if err := s.allows(call, c); err != nil {
		return c, err
	}
	if err := s.reaches(ctx, c); err != nil {
		return c, err
	}
	if c, err = s.Commands.PutCommand(ctx, c, revision); err != nil {
		return c, err
	}
	switch {
	case s.serving(c.Call) != nil:
		s.obey(ctx, []uuid.UUID{c.Call})
	case c.Kind == CommandHangup && call.Status != CallActive:
		return s.hangUpElsewhere(ctx, call, c)
	case s.Wake != nil:
		if err := s.Wake.Announce(ctx, commandTopic, c.Call.String()); err != nil {
			s.Log.Warn("a command waits until its process looks", "call", c.Call, "error", err)
		}
	}
	return s.Commands.Command(ctx, c.ID)
}

// commandTopic announces calls that have a command.
const commandTopic = "call-command"

func (c Command) check() error {
	if len(c.Words) > MaxWords || len(c.Aloud) > MaxWords {
		return Invalidf("text", "must be at most %d bytes", MaxWords)
	}
	switch c.Kind {
	case CommandTransfer, CommandWarm:
		return checkTarget("to", c.Target)
	case CommandWhisper, CommandSay:
		if strings.TrimSpace(c.Words) == "" {
			return Invalidf("text", "must not be empty")
		}
	}
	return nil
}

// allows tells what cannot be done to a call as it stands.
func (s *Calls) allows(call Call, c Command) error {
	switch {
	case call.Status == CallEnded:
		return ErrEnded
	case c.Kind == CommandHangup:
		return nil
	case call.Status == CallTransferring:
		return Refuse(ErrConflict, "the call is with whom it was transferred to: the agent has left it")
	case call.Status == CallArrived:
		return Refuse(ErrConflict, "nobody serves the call yet: try again when it is active")
	case c.Kind == CommandWarm && !s.mayConsult(call):
		return Refuse(ErrConflict, "a colleague can be asked for calls of a telephone carrier only: use mode cold, or hang up")
	case c.Kind == CommandTransfer && call.CarrierCallID == "":
		return Refuse(ErrConflict, "a browser's call has no carrier that could transfer it")
	}
	return nil
}

// reaches refuses a note that a call's flow could do nothing with. What cannot be
// told here, the call's session tells.
func (s *Calls) reaches(ctx context.Context, c Command) error {
	if c.Kind != CommandWhisper {
		return nil
	}
	var runs *flow.Flow
	if v := s.serving(c.Call); v != nil {
		runs = v.Flow
	} else if conv, err := s.Records.Conversation(ctx, c.Call); err == nil && conv.FlowVersion != uuid.Nil {
		if runs, err = s.Graphs.Load(ctx, conv.FlowVersion, conv.Pins); err != nil {
			return nil // its session has it, or fails by itself
		}
	}
	if runs != nil && !runs.TakesNotes() {
		return Refuse(ErrConflict, "the call's flow has no node whose model talks to the caller, and none that waits for operator_note: nobody would read the text. Use say to have the agent say it, or transfer the call")
	}
	return nil
}

func (s *Calls) mayConsult(c Call) bool {
	return s.Colleagues != nil && c.CarrierCallID != "" && s.Colleagues.MayConsult(c)
}

// hangUpElsewhere ends a call that no session serves. Where the carrier does not
// do it, the call stays as it is, and the command says why.
func (s *Calls) hangUpElsewhere(ctx context.Context, call Call, c Command) (Command, error) {
	if s.Carrier != nil && call.CarrierCallID != "" {
		if err := s.Carrier.Hangup(ctx, call, call.CarrierCallID); err != nil {
			s.Log.Warn("the carrier did not hang up", "call", call.ID, "error", err)
			if err := s.Commands.EndCommand(ctx, c.ID, carrierRefused(err), true); err != nil {
				return c, err
			}
			return s.Commands.Command(ctx, c.ID)
		}
	}
	if _, err := s.Changes.EndCall(ctx, Hold{Call: call.ID}, "operator", time.Now().UTC()); err != nil {
		return c, err
	}
	return s.Commands.Command(ctx, c.ID) // settled by the call's end
}

// carrierRefused says, for an operator, why the carrier did not do what was
// asked. A carrier's own words may hold anything.
func carrierRefused(err error) string {
	switch {
	case errors.Is(err, ErrEnded):
		return "the carrier says that the call is over"
	case errors.Is(err, ErrBusy):
		return "the carrier takes no more requests at the moment: try again"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "the carrier did not answer in time: look at the call before trying again"
	case errors.Is(err, ErrCredentials):
		return "the carrier refused our credentials: check the account"
	}
	var why *Refusal
	if errors.As(err, &why) {
		return "the carrier refused: " + why.Reason
	}
	return "the carrier is in trouble, and may have done it or not: look at the call before trying again"
}

// obey gives the sessions here the commands that wait for them.
func (s *Calls) obey(ctx context.Context, calls []uuid.UUID) {
	holds := s.obedient(calls)
	if s.Commands == nil || len(holds) == 0 {
		return
	}
	taken, err := s.Commands.TakeCommands(ctx, holds)
	if err != nil {
		s.Log.Warn("take commands of calls", "error", err)
	}
	for _, c := range taken {
		v := s.serving(c.Call)
		if v == nil { // it has ended, and settles them
			continue
		}
		if c.Kind == CommandWarm && c.Stage == "" {
			s.consult(ctx, v, c)
		}
		v.obey(c, func(reason string) {
			v.Journal.add(record{Settled: &settled{c.ID, reason}})
			if c.Kind == CommandWarm { // the session would not have the caller wait
				s.dropColleague(WithTenant(ctx, v.Call.Tenant), v.Call)
			}
		})
	}
}

// obedient are the holds of those of calls whose session here takes commands.
func (s *Calls) obedient(calls []uuid.UUID) (holds []Hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range calls {
		if v := s.served[id]; v != nil && v.obey != nil {
			holds = append(holds, v.Call.Hold())
		}
	}
	return holds
}

// hearCommands takes commands as they are announced, until ctx ends.
func (s *Calls) hearCommands(ctx context.Context) {
	if s.Wake == nil || s.Commands == nil {
		return
	}
	err := s.Wake.Listen(ctx, commandTopic, func(text string) {
		id, err := uuid.Parse(text)
		if v := s.serving(id); err == nil && v != nil {
			try, cancel := context.WithTimeout(WithTenant(ctx, v.Call.Tenant), s.lease()/renewals)
			defer cancel()
			s.obey(try, []uuid.UUID{id})
		}
	}, func(bool) {}) // what is not heard waits for the next renewal
	if err != nil && ctx.Err() == nil {
		s.Log.Error("commands are taken at renewals only", "error", err)
	}
}

// checkTarget refuses what a carrier could not call.
func checkTarget(field, to string) error {
	switch {
	case e164.MatchString(to):
	case strings.HasPrefix(to, "sip:"), strings.HasPrefix(to, "sips:"), strings.HasPrefix(to, "client:"):
		if len(to) > 256 || strings.ContainsAny(to, " <>\"\n\r\t") || strings.HasSuffix(to, ":") {
			return Invalidf(field, "must be a plain address of at most 256 bytes")
		}
	default:
		return Invalidf(field, "must be +E.164, sip: or client:")
	}
	return nil
}

// A settled is a command that a session has carried out, or not.
type settled struct {
	Command uuid.UUID `json:"command"`
	Reason  string    `json:"reason,omitempty"`
}

func (s *Calls) settle(ctx context.Context, d settled) error {
	if s.Commands == nil {
		return nil
	}
	if err := s.Commands.EndCommand(ctx, d.Command, d.Reason, true); err != nil {
		return fmt.Errorf("settle a command: %w", err)
	}
	return nil
}
