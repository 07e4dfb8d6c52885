package api

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// What operators do to a call in progress.

type commandJSON struct {
	ID        uuid.UUID  `json:"id"`
	CallID    uuid.UUID  `json:"call_id"`
	Kind      string     `json:"kind" enum:"hangup,transfer,warm_transfer,whisper,say"`
	To        string     `json:"to,omitempty"`
	Status    string     `json:"status" enum:"pending,taken,done,failed" doc:"pending: for the process that serves the call; taken: the call's session is at it."`
	Stage     string     `json:"stage,omitempty" doc:"Of a warm transfer: calling, offered (the colleague hears the summary), accepted, over."`
	Reason    string     `json:"reason,omitempty" doc:"Why it failed."`
	Actor     string     `json:"actor,omitempty" doc:"Who wants it, as the audit trail names them."`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at" doc:"Until then a pending command waits."`
	EndedAt   *time.Time `json:"ended_at"`
}

func newCommandJSON(c control.Command) commandJSON {
	out := commandJSON{c.ID, c.Call, c.Kind, c.Target, c.Status, c.Stage, c.Reason, c.Actor, c.CreatedAt, c.ExpiresAt, when(c.EndedAt)}
	if c.Status == control.CommandPending && time.Now().After(c.ExpiresAt) { // its row is closed with the next command's
		out.Status, out.Reason, out.EndedAt = control.CommandFailed, "nobody took it in time", when(c.ExpiresAt)
	}
	return out
}

// CallOrder is how a call is told what to do; exported for huma, which fills it.
type CallOrder struct {
	CallPath
	IfMatch string `header:"If-Match" doc:"The call's ETag: 409 if it has changed. A hang-up with it takes the place of a transfer that is under way."`
}

type hangupIn struct {
	CallOrder
	Body *struct {
		Mode string `json:"mode,omitempty" enum:"goodbye,now" default:"goodbye" doc:"Whether the caller hears a goodbye."`
		Text string `json:"text,omitempty" maxLength:"2000" doc:"The goodbye."`
	} `required:"false"`
}

type transferIn struct {
	CallOrder
	Body struct {
		To       string `json:"to" maxLength:"256" doc:"+E.164 number, sip: address or client: name."`
		Mode     string `json:"mode,omitempty" enum:"cold,warm" default:"cold" doc:"cold: the caller is connected at once. warm: a colleague is called first, hears the summary, and takes the call with key 1; otherwise the caller stays with the agent."`
		Announce string `json:"announce,omitempty" maxLength:"2000" doc:"What the caller hears before, or while the colleague is asked."`
		Summary  string `json:"summary,omitempty" maxLength:"2000" doc:"Mode warm: what the colleague hears. Default: the caller's last words."`
	}
}

type wordsIn struct {
	CallOrder
	Body struct {
		Text string `json:"text" minLength:"1" maxLength:"2000"`
	}
}

type commandPath struct {
	CallPath
	Command uuid.UUID `path:"command" doc:"The command's id."`
}

// defaultGoodbye is said where the operator says nothing.
const defaultGoodbye = "I'm sorry, I have to end this call now. Goodbye."

func (s *Server) commands() error {
	order := func(name string) Route {
		return writes("POST", "/v1/calls/{id}/"+name, control.CallsControl, 16<<10)
	}
	return errors.Join(
		operation(s, order("hangup"), "hang-up", "End a call, behind a goodbye or at once", 202, s.hangup),
		operation(s, order("transfer"), "transfer-call", "Connect the caller to somebody else", 202, s.transfer),
		operation(s, order("whisper"), "whisper", "Tell the agent something that the caller does not hear", 202, s.whisper),
		operation(s, order("say"), "say", "Have the agent say a sentence", 202, s.sayTo),
		operation(s, reads("/v1/calls/{id}/commands", control.CallsRead), "list-commands", "What operators wanted of a call, newest first", 200, s.listCommands),
		operation(s, reads("/v1/calls/{id}/commands/{command}", control.CallsRead), "get-command", "What became of a command", 200, s.getCommand),
	)
}

func (s *Server) hangup(ctx context.Context, in *hangupIn) (*reply[commandJSON], error) {
	c := control.Command{Kind: control.CommandHangup, Words: defaultGoodbye}
	if b := in.Body; b != nil {
		if c.Words = cmp.Or(b.Text, defaultGoodbye); b.Mode == "now" {
			c.Words = ""
		}
	}
	return s.order(ctx, in.CallOrder, c)
}

func (s *Server) transfer(ctx context.Context, in *transferIn) (*reply[commandJSON], error) {
	c := control.Command{Kind: control.CommandTransfer, Target: in.Body.To, Words: in.Body.Announce}
	if in.Body.Mode == "warm" {
		c.Kind, c.Words, c.Aloud = control.CommandWarm, in.Body.Summary, in.Body.Announce
	} else if in.Body.Summary != "" {
		return nil, &control.Invalid{Field: "summary", Reason: "is for mode warm: nobody hears it in a cold transfer"}
	}
	return s.order(ctx, in.CallOrder, c)
}

func (s *Server) whisper(ctx context.Context, in *wordsIn) (*reply[commandJSON], error) {
	return s.order(ctx, in.CallOrder, control.Command{Kind: control.CommandWhisper, Words: in.Body.Text})
}

func (s *Server) sayTo(ctx context.Context, in *wordsIn) (*reply[commandJSON], error) {
	return s.order(ctx, in.CallOrder, control.Command{Kind: control.CommandSay, Words: in.Body.Text})
}

func (s *Server) order(ctx context.Context, in CallOrder, c control.Command) (*reply[commandJSON], error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	c.Call = in.ID
	c, err = s.o.Calls.Order(ctx, c, revision)
	if err != nil {
		return nil, s.asItStands(ctx, err, in.ID)
	}
	return &reply[commandJSON]{newCommandJSON(c)}, nil
}

// revision that the operator has seen.
func (o CallOrder) revision() (int, error) {
	tag := strings.TrimSpace(o.IfMatch)
	if tag == "" || tag == "*" {
		return control.AnyRevision, nil
	}
	n, ok := revisionOf(tag)
	if !ok {
		return 0, &control.Invalid{Field: "If-Match", Reason: "must be the call's ETag"}
	}
	return n, nil
}

// asItStands adds to a conflict what the call is now, so that whoever came second
// need not ask.
func (s *Server) asItStands(ctx context.Context, err error, call uuid.UUID) error {
	p := s.problem(ctx, err)
	if p.Status != 409 {
		return p
	}
	if c, err := s.o.Calls.Store.Call(ctx, call); err == nil {
		if now, err := s.liveCall(ctx, c); err == nil {
			p.Call = &now
		}
	}
	return p
}

func (s *Server) listCommands(ctx context.Context, in *struct {
	CallPath
	PageQuery
}) (*listOut[commandJSON], error) {
	if _, err := s.o.Calls.Store.Call(ctx, in.ID); err != nil {
		return nil, err
	}
	rows, err := s.o.Calls.Commands.Commands(ctx, in.ID, in.page())
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, rows, newCommandJSON, func(c control.Command) uuid.UUID { return c.ID }), nil
}

func (s *Server) getCommand(ctx context.Context, in *commandPath) (*reply[commandJSON], error) {
	c, err := s.o.Calls.Commands.Command(ctx, in.Command)
	if err == nil && c.Call != in.ID {
		err = control.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &reply[commandJSON]{newCommandJSON(c)}, nil
}
