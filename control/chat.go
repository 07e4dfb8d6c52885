package control

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
)

// Defaults of chats.
const (
	chatIdle  = 24 * time.Hour   // without an answer
	chatLease = 10 * time.Second // of a turn, without a word from its process
	chatLong  = 30 * time.Second // longest turn that somebody waits for
	chatWait  = 5 * time.Second  // longest wait that is waited out within a turn

	// ChatLife is how long a chat's token opens it, from the beginning.
	ChatLife = 7 * 24 * time.Hour

	// MaxAnswer is the longest answer, in bytes.
	MaxAnswer = 64 << 10
)

// Chats holds conversations by text: it claims one for each turn, runs its
// flow, and commits every step before anything outside is done. Chats.Run must
// run beside it.
type Chats struct {
	Store  ConversationStore
	Turns  TurnStore
	Flows  *Flows
	Graphs *Graphs
	Ring   *Keyring
	// Perform does the effects of one turn for a tenant.
	Perform func(tenant uuid.UUID) func(context.Context, flow.Effect) flow.Result
	Log     *slog.Logger

	// Idle and Life end a chat's token: after so long without a turn, and after
	// so long from the start. Defaults a day and a week.
	Idle, Life time.Duration
	// Lease is how long a turn's claim outlives its process. Default 10 s.
	Lease time.Duration
	// Tasks lets workers do asynchronous nodes. Nil: they are done in their turn.
	Tasks TaskStore
	// TaskWait is how long a task may lie without a worker before a process
	// does it itself. Default 10 s.
	TaskWait time.Duration
	// Counted is told what becomes of each task. Nil: nobody.
	Counted func(what string)
	// Patience is the longest turn that somebody waits for. What is not done by
	// then is done behind it. Default 30 s.
	Patience time.Duration
}

func (s *Chats) lease() time.Duration    { return orDuration(s.Lease, chatLease) }
func (s *Chats) patience() time.Duration { return orDuration(s.Patience, chatLong) }

func orDuration(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// A Beginning is a chat that somebody wants.
type Beginning struct {
	Flow string // id, or name where the tenant is known
	// Environment where the flow is published; "" is [Live], and all that there
	// is without a key.
	Environment string
	User        string // who it is with; only a key's owner may say
	Locale      string
	State       map[string]any // initial values by scope, as of [flow.Patch]
}

// A Reply is where a conversation stands, and what was said on the way.
type Reply struct {
	Conversation
	Flow     *flow.Flow
	Current  flow.State
	Messages []flow.Message
	// Takes is what the waiting question accepts; nil if none waits.
	Takes *flow.Takes
	// Resumed says that the turn finished one that was broken off, and took no
	// answer: the person had not seen the question yet.
	Resumed bool
}

// An Answer is what somebody says to the waiting question.
type Answer struct {
	Text string
	Mode string // "text" or "dtmf"
	// Expected is the revision that the answer was given to; 0 for any.
	Expected int
}

const (
	chatPurpose = "chat-session"
	csrfPurpose = "chat-csrf"
)

// Start begins a conversation, and returns the token that opens it, which is
// not kept. Without a tenant in ctx only flows that are published for all are
// found. Errors: ErrNotFound, [Invalid], ErrForbidden (what only a key may set).
func (s *Chats) Start(ctx context.Context, b Beginning) (Reply, string, error) {
	p := PrincipalOf(ctx)
	if p.Kind == "" && (b.User != "" || b.Environment != "") {
		return Reply{}, "", ErrForbidden
	}
	if len(b.User) > 200 {
		return Reply{}, "", Invalidf("user_id", "must be at most 200 bytes")
	}
	if err := allowPatch(p, b.State); err != nil {
		return Reply{}, "", err
	}
	ctx, f, err := s.find(ctx, b.Flow)
	if err != nil {
		return Reply{}, "", err
	}
	c := Conversation{ID: NewID(), Channel: ChannelChat, Flow: f, User: b.User}
	if c.FlowVersion, err = s.Flows.Releases().Pick(ctx, f, b.Environment, c.ID); err != nil {
		return Reply{}, "", err
	}
	g, pins, err := s.Graphs.Pin(ctx, c.FlowVersion, b.Environment)
	if err != nil {
		return Reply{}, "", err
	}
	token := RandomText(32)
	c.Pins, c.TokenHash = pins, s.tokenHash(token)
	state, err := initialState(g, c.ID.String(), b)
	if err != nil {
		return Reply{}, "", err
	}
	t := s.newTurn(context.WithoutCancel(ctx), c)
	t.begin, t.flow, t.state = true, g, state
	defer t.release()
	r, err := t.run(flow.Start{At: at()})
	return r, token, err
}

// initialState is the state before the flow starts.
func initialState(g *flow.Flow, session string, b Beginning) (flow.State, error) {
	user := map[string]any{}
	if b.User != "" {
		user["id"] = b.User
	}
	state := flow.New(g, flow.Init{ID: session, Channel: ChannelChat, Locale: b.Locale, User: user})
	if err := checkPatch(state, "initial_state", b.State); err != nil {
		return state, err
	}
	fill := func(scope string, over map[string]any) map[string]any {
		m, _ := b.State[scope].(map[string]any)
		m = maps.Clone(m)
		if m == nil {
			m = map[string]any{}
		}
		maps.Copy(m, over)
		return m
	}
	return flow.New(g, flow.Init{ID: session, Channel: ChannelChat, Locale: b.Locale, User: fill("user", user),
		Variables: fill("variables", nil), Context: fill("context", nil), Temp: fill("temp", nil)}), nil
}

// find locates the flow of a beginning.
func (s *Chats) find(ctx context.Context, name string) (context.Context, uuid.UUID, error) {
	id, err := uuid.Parse(name)
	if _, ok := TenantOf(ctx); ok {
		if err != nil {
			f, err := s.Flows.Store.FlowByName(ctx, name)
			return ctx, f.ID, err
		}
		return ctx, id, nil
	}
	if err != nil {
		return ctx, id, ErrNotFound
	}
	at, err := s.Flows.Store.LocatePublicFlow(ctx, id)
	return WithTenant(ctx, at.Tenant), at.ID, err
}

// allowPatch refuses what only the holder of a key may set.
func allowPatch(p Principal, updates map[string]any) error {
	if p.Kind != "" {
		return nil
	}
	user, _ := updates["user"].(map[string]any)
	_, id := user["id"]
	_, where := updates["context"]
	if id || where {
		return fmt.Errorf("%w: user.id and context take a key", ErrForbidden)
	}
	return nil
}

func checkPatch(s flow.State, field string, updates map[string]any) error {
	var refused *flow.PatchError
	if err := flow.CheckPatch(s, updates); errors.As(err, &refused) {
		return Invalidf(field+strings.TrimSuffix(refused.Path, "/"), "%s", refused.Reason)
	}
	return nil
}

func (s *Chats) tokenHash(token string) []byte { return s.Ring.MAC(chatPurpose, token) }

// Open finds a chat by its token and returns a context with its tenant. One
// that is unknown, expired or, where ctx has a tenant, another's is ErrNotFound.
func (s *Chats) Open(ctx context.Context, token string) (context.Context, Conversation, error) {
	at, err := s.Store.LocateConversation(ctx, s.tokenHash(token))
	if err != nil {
		return ctx, Conversation{}, err
	}
	if t, ok := TenantOf(ctx); ok && t != at.Tenant {
		return ctx, Conversation{}, ErrNotFound
	}
	ctx = WithTenant(ctx, at.Tenant)
	return s.OpenID(ctx, at.ID)
}

// OpenID finds a chat of the tenant of ctx by its id, as Open does.
func (s *Chats) OpenID(ctx context.Context, id uuid.UUID) (context.Context, Conversation, error) {
	c, err := s.Store.Conversation(ctx, id)
	if err == nil && (c.Channel != ChannelChat || c.Expired) {
		err = ErrNotFound
	}
	return ctx, c, err
}

// CSRF returns a fresh token that a page must send back with every change of
// the chat, and CheckCSRF verifies one.
func (s *Chats) CSRF(chat uuid.UUID) string {
	nonce := RandomText(16)
	return nonce + "." + s.csrfSum(chat, nonce)
}

// CheckCSRF tells whether token was made for chat.
func (s *Chats) CheckCSRF(chat uuid.UUID, token string) bool {
	nonce, sum, ok := strings.Cut(token, ".")
	return ok && hmac.Equal([]byte(sum), []byte(s.csrfSum(chat, nonce)))
}

func (s *Chats) csrfSum(chat uuid.UUID, nonce string) string {
	return base64.RawURLEncoding.EncodeToString(s.Ring.MAC(csrfPurpose, chat.String()+"."+nonce))
}

// Show returns where a conversation stands. It changes nothing.
func (s *Chats) Show(ctx context.Context, c Conversation) (Reply, error) {
	state, err := flow.DecodeState(c.State, c.Hash)
	if errors.Is(err, flow.ErrHash) && c.Quarantined.IsZero() && c.Channel == ChannelChat && c.Status == flow.Active {
		// Whoever comes first takes the conversation out of service.
		t, err := s.claim(context.WithoutCancel(ctx), c.ID, 0)
		if err == nil {
			t.release()
		}
		return Reply{Conversation: c}, ErrQuarantined
	}
	if err != nil || !c.Quarantined.IsZero() {
		return Reply{Conversation: c}, ErrQuarantined
	}
	return Reply{Conversation: c, Current: state, Takes: takes(state)}, nil
}

// Interact gives an answer to the waiting question and returns what follows.
// Errors: ErrConflict (a rival's turn, or another revision; nothing was done),
// ErrEnded, ErrNotWaiting, ErrQuarantined, ErrUnavailable (send it again).
func (s *Chats) Interact(ctx context.Context, id uuid.UUID, a Answer) (Reply, error) {
	t, err := s.claim(context.WithoutCancel(ctx), id, a.Expected)
	if err != nil {
		return Reply{}, err
	}
	defer t.release()
	if r, ok, err := t.resume(); ok || err != nil {
		return r, err
	}
	switch t.state.System.Waiting.For {
	case flow.ForInput, flow.ForAck:
	default:
		return Reply{}, ErrNotWaiting
	}
	return t.run(flow.Input{At: at(), Text: a.Text, Mode: a.Mode})
}

// Patch merges values into the state. The principal of ctx decides what it may
// touch. Errors as of Interact, and [Invalid], ErrForbidden.
func (s *Chats) Patch(ctx context.Context, id uuid.UUID, updates map[string]any, expected int) (Reply, error) {
	if err := allowPatch(PrincipalOf(ctx), updates); err != nil {
		return Reply{}, err
	}
	t, err := s.claim(context.WithoutCancel(ctx), id, expected)
	if err != nil {
		return Reply{}, err
	}
	defer t.release()
	if err := checkPatch(t.state, "updates", updates); err != nil {
		return Reply{}, err
	}
	return t.run(flow.Patch{At: at(), Updates: updates})
}

// End completes a conversation.
func (s *Chats) End(ctx context.Context, id uuid.UUID) (Reply, error) {
	t, err := s.claim(context.WithoutCancel(ctx), id, 0)
	if err != nil {
		return Reply{}, err
	}
	defer t.release()
	return t.run(flow.Close{At: at(), Status: flow.Completed})
}

func at() flow.At { return flow.At{At: time.Now()} }

// takes is what the waiting question of s accepts.
func takes(s flow.State) *flow.Takes {
	switch s.System.Waiting.For {
	case flow.ForAck:
		return &flow.Takes{Type: "ack"}
	case flow.ForInput:
		for _, e := range s.Pending() {
			if ask, ok := e.(flow.Ask); ok {
				t := ask.Takes
				return &t
			}
		}
	}
	return nil
}

// waits returns how long a pending wait is, if it is too long for a turn.
func waits(e flow.Effect) (time.Duration, bool) {
	w, ok := e.(flow.Wait)
	return w.After, ok && (w.After > chatWait || w.Event != "")
}
