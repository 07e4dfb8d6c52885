package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
	"parley/control"
)

const (
	chatCookie = "chat_session" // the session token
	csrfCookie = "csrf_token"   // readable by the page, which sends it back in a header
	maxChat    = 1 << 20        // bytes of a request
)

// chatJSON is where a chat stands.
type chatJSON struct {
	SessionID    uuid.UUID         `json:"session_id"`
	SessionToken string            `json:"session_token,omitempty" doc:"Opens the session; shown this once."`
	Status       string            `json:"status" enum:"active,completed,abandoned,failed,transferred"`
	Revision     int               `json:"revision"`
	CurrentNode  string            `json:"current_node"`
	Messages     []json.RawMessage `json:"messages" doc:"What the flow says: {type, text} or {type, url, alt}, and more."`
	Input        *inputJSON        `json:"input" doc:"What the waiting question takes; null if none waits."`
	Resumed      bool              `json:"resumed,omitempty" doc:"A turn that had broken off was finished instead: the input was not taken."`
	CSRFToken    string            `json:"csrf_token,omitempty"`
}

// inputJSON is what a question takes.
type inputJSON struct {
	Type       string          `json:"type"`
	Options    []flow.Option   `json:"options,omitempty"`
	Validation json.RawMessage `json:"validation,omitempty"`
}

func newInputJSON(t *flow.Takes) *inputJSON {
	if t == nil {
		return nil
	}
	return &inputJSON{t.Type, t.Options, t.Validation}
}

func newMessages(list []flow.Message) ([]json.RawMessage, error) {
	out := make([]json.RawMessage, len(list))
	for i, m := range list {
		var err error
		if out[i], err = json.Marshal(m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func newChatJSON(r control.Reply) (chatJSON, error) {
	messages, err := newMessages(r.Messages)
	return chatJSON{SessionID: r.ID, Status: r.Status, Revision: r.Revision, CurrentNode: r.Node, Messages: messages,
		Input: newInputJSON(r.Takes), Resumed: r.Resumed}, err
}

// stateJSON is a state as programs see it: without the engine's own.
type stateJSON struct {
	Session   flow.Session   `json:"session"`
	User      map[string]any `json:"user"`
	Variables map[string]any `json:"variables"`
	Context   map[string]any `json:"context"`
	Temp      map[string]any `json:"temp"`
}

func newStateJSON(s flow.State) stateJSON {
	return stateJSON{s.Session, s.User, s.Variables, s.Context, s.Temp}
}

type chatStateJSON struct {
	SessionID   uuid.UUID  `json:"session_id"`
	Status      string     `json:"status"`
	Revision    int        `json:"revision"`
	CurrentNode string     `json:"current_node"`
	Input       *inputJSON `json:"input"`
	State       stateJSON  `json:"state"`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	ExpiresAt   *time.Time `json:"expires_at"`
}

func (s *Server) chats() error {
	route := func(method, pattern string, perMinute int, body int64) Route {
		return Route{Method: method, Pattern: pattern, Class: Session, Permission: control.Anyone,
			Limit: Limit{perMinute, time.Minute}, Keyed: Limit{10 * perMinute, time.Minute}, Body: body}
	}
	const one = "/chat/sessions/{token}"
	return errors.Join(
		operation(s, route("POST", "/chat/start", 120, maxChat), "start-chat", "Start a session", 201, s.startChat),
		operation(s, route("POST", one+"/interact", 1200, maxChat), "interact", "Answer the waiting question", 200, s.interact),
		operation(s, route("GET", one, 1200, NoBody), "get-chat", "Get a session's state", 200, s.getChat),
		operation(s, route("GET", one+"/history", 600, NoBody), "get-chat-history", "What was said, in order", 200, s.chatHistory),
		operation(s, route("PATCH", one+"/state", 600, maxChat), "patch-chat-state", "Merge values into the state", 200, s.patchChat),
		operation(s, route("POST", one+"/end", 600, NoBody), "end-chat", "Complete a session", 200, s.endChat),
		s.preflightRoute("/chat/start"), s.preflightRoute("/chat/sessions/{token}"), s.preflightRoute("/chat/sessions/{token}/{what}"),
	)
}

type startChatOut struct {
	SetCookie []http.Cookie `header:"Set-Cookie"`
	Body      chatJSON
}

func (s *Server) startChat(ctx context.Context, in *struct {
	Body struct {
		FlowID       string          `json:"flow_id" maxLength:"63" doc:"The flow's id; with a key also its name."`
		UserID       string          `json:"user_id,omitempty" maxLength:"200" doc:"Who it is with; only with a key."`
		InitialState json.RawMessage `json:"initial_state,omitempty" doc:"Values by scope: user, variables, context, temp."`
		Locale       string          `json:"locale,omitempty" maxLength:"35"`
		Environment  string          `json:"environment,omitempty" maxLength:"32" doc:"Where the flow is published, such as staging; only with a key. Default live."`
	}
}) (*startChatOut, error) {
	ctx, err := chatPrincipal(ctx)
	if err != nil {
		return nil, err
	}
	b := control.Beginning{Flow: in.Body.FlowID, Environment: in.Body.Environment, User: in.Body.UserID, Locale: in.Body.Locale}
	if b.State, err = readScopes("initial_state", in.Body.InitialState); err != nil {
		return nil, err
	}
	r, token, err := s.o.Chats.Start(ctx, b)
	if err != nil {
		return nil, err
	}
	s.admitStart(ctx, token)
	out := new(startChatOut)
	if out.Body, err = newChatJSON(r); err != nil {
		return nil, err
	}
	out.Body.SessionToken, out.Body.CSRFToken = token, s.o.Chats.CSRF(r.ID)
	out.SetCookie = []http.Cookie{newChatCookie(chatCookie, token, true), newChatCookie(csrfCookie, out.Body.CSRFToken, false)}
	return out, nil
}

// newChatCookie is Secure even without TLS: browsers keep such a cookie for
// loopback addresses, where a page is developed, and for no other; a page that
// needs it elsewhere without TLS sends the token as Bearer.
func newChatCookie(name, value string, httpOnly bool) http.Cookie {
	return http.Cookie{Name: name, Value: value, Path: "/chat", MaxAge: int(control.ChatLife.Seconds()),
		HttpOnly: httpOnly, Secure: true, SameSite: http.SameSiteStrictMode}
}

// readScopes reads an object of objects, numbers as they were written.
func readScopes(field string, raw json.RawMessage) (map[string]any, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, &control.Invalid{Field: field, Reason: "must be an object by scope"}
	}
	return m, nil
}

// readAnswer reads what somebody said, as a page has it: a text, a number, a
// boolean, a list of choices, or an option with its value.
func readAnswer(raw json.RawMessage, typ string) (control.Answer, error) {
	a := control.Answer{Mode: "text"}
	if typ == "dtmf" || typ == "digits" {
		a.Mode = "dtmf"
	}
	raw = bytes.TrimSpace(raw)
	var option struct {
		Value json.RawMessage `json:"value"`
	}
	if bytes.HasPrefix(raw, []byte("{")) {
		if err := json.Unmarshal(raw, &option); err != nil || len(option.Value) == 0 {
			return a, errAnswer
		}
		raw = bytes.TrimSpace(option.Value)
	}
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case raw[0] == '"':
		if json.Unmarshal(raw, &a.Text) != nil {
			return a, errAnswer
		}
	case raw[0] == '{':
		return a, errAnswer
	default:
		a.Text = string(raw)
	}
	if len(a.Text) > control.MaxAnswer {
		return a, &control.Invalid{Field: "input", Reason: "must be at most " + strconv.Itoa(control.MaxAnswer) + " bytes"}
	}
	return a, nil
}

var errAnswer = &control.Invalid{Field: "input", Reason: "must be a text, a number, a boolean, a list, or an option with its value"}

func (s *Server) interact(ctx context.Context, in *struct {
	ChatPath
	Body struct {
		Input            json.RawMessage `json:"input" doc:"A text, a number, a boolean, a list of choices, or an option."`
		InputType        string          `json:"input_type,omitempty" maxLength:"40" doc:"dtmf for keys; else text."`
		ExpectedRevision int             `json:"expected_revision,omitempty" minimum:"0" maximum:"2147483647" doc:"409 unless the session is at it."`
	}
}) (*reply[chatJSON], error) {
	ctx, c, err := s.openChat(ctx, in.ChatPath, true)
	if err != nil {
		return nil, err
	}
	a, err := readAnswer(in.Body.Input, strings.ToLower(in.Body.InputType))
	if err != nil {
		return nil, err
	}
	a.Expected = in.Body.ExpectedRevision
	return chatReply(s.o.Chats.Interact(ctx, c.ID, a))
}

func chatReply(r control.Reply, err error) (*reply[chatJSON], error) {
	if err != nil {
		return nil, err
	}
	body, err := newChatJSON(r)
	return &reply[chatJSON]{body}, err
}

func (s *Server) getChat(ctx context.Context, in *struct{ ChatPath }) (*reply[chatStateJSON], error) {
	ctx, c, err := s.openChat(ctx, in.ChatPath, false)
	if err != nil {
		return nil, err
	}
	r, err := s.o.Chats.Show(ctx, c)
	if err != nil {
		return nil, err
	}
	return &reply[chatStateJSON]{chatStateJSON{r.ID, r.Status, r.Revision, r.Node, newInputJSON(r.Takes), newStateJSON(r.Current),
		r.CreatedAt, r.UpdatedAt, when(r.ExpiresAt)}}, nil
}

func (s *Server) patchChat(ctx context.Context, in *struct {
	ChatPath
	Body struct {
		Updates          json.RawMessage `json:"updates" doc:"Values by scope, merged deep."`
		ExpectedRevision int             `json:"expected_revision,omitempty" minimum:"0" maximum:"2147483647" doc:"409 unless the session is at it."`
	}
}) (*reply[chatJSON], error) {
	ctx, c, err := s.openChat(ctx, in.ChatPath, true)
	if err != nil {
		return nil, err
	}
	updates, err := readScopes("updates", in.Body.Updates)
	if err != nil {
		return nil, err
	}
	return chatReply(s.o.Chats.Patch(ctx, c.ID, updates, in.Body.ExpectedRevision))
}

func (s *Server) endChat(ctx context.Context, in *struct{ ChatPath }) (*reply[chatJSON], error) {
	ctx, c, err := s.openChat(ctx, in.ChatPath, true)
	if err != nil {
		return nil, err
	}
	return chatReply(s.o.Chats.End(ctx, c.ID))
}

// saidJSON is one revision as the person sees it.
type saidJSON struct {
	Revision int               `json:"revision"`
	At       time.Time         `json:"at"`
	Node     string            `json:"node"`
	Status   string            `json:"status"`
	Event    string            `json:"event" doc:"start, input, result, patch, close, …"`
	Input    string            `json:"input,omitempty" doc:"What the person said; empty where the question is sensitive."`
	Messages []json.RawMessage `json:"messages"`
}

// HistoryQuery pages a history; exported for huma, which fills it.
type HistoryQuery struct {
	After int `query:"after" minimum:"0" maximum:"2147483647" doc:"The next of the page before."`
	Limit int `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

func (s *Server) chatHistory(ctx context.Context, in *struct {
	ChatPath
	HistoryQuery
}) (*listOut[saidJSON], error) {
	ctx, c, err := s.openChat(ctx, in.ChatPath, false)
	if err != nil {
		return nil, err
	}
	return history(ctx, s, c.ID, in.HistoryQuery, func(e control.Entry) (saidJSON, error) {
		var ev struct{ Type, Text string }
		out := saidJSON{Revision: e.Revision, At: e.At, Node: e.Node, Status: e.Status}
		err := errors.Join(json.Unmarshal(e.Event, &ev), json.Unmarshal(e.Messages, &out.Messages))
		if out.Event = ev.Type; ev.Type == "input" {
			out.Input = ev.Text
		}
		return out, err
	})
}

func history[T any](ctx context.Context, s *Server, id uuid.UUID, q HistoryQuery, convert func(control.Entry) (T, error)) (*listOut[T], error) {
	entries, err := s.o.Chats.Store.History(ctx, id, q.After, q.Limit)
	if err != nil {
		return nil, err
	}
	out := &listOut[T]{Body: list[T]{Items: make([]T, len(entries))}}
	for i, e := range entries {
		if out.Body.Items[i], err = convert(e); err != nil {
			return nil, err
		}
	}
	if n := len(entries); n > 0 && n == q.Limit {
		out.Body.Next = strconv.Itoa(entries[n-1].Revision)
	}
	return out, nil
}
