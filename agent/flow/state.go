package flow

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Limits of a stored state.
const (
	MaxStateBytes = 1 << 20
	MaxStateDepth = 32
)

// ErrHash says that a stored state is not the one whose hash was kept.
var ErrHash = errors.New("flow: state does not match its hash")

// A State is all that a conversation remembers. A State is a value: [Step]
// never changes one, and two may share what they hold. Change it only through
// a copy from [DecodeState].
type State struct {
	Session   Session        `json:"session"`
	User      map[string]any `json:"user"`
	Variables map[string]any `json:"variables"`
	Context   map[string]any `json:"context"`
	Temp      map[string]any `json:"temp"`
	// System is the engine's own; no reference of a flow reaches it and no
	// API shows it.
	System System `json:"system"`
}

// Status of a conversation.
const (
	Active      = "active"
	Completed   = "completed"
	Abandoned   = "abandoned"
	Failed      = "failed"
	Transferred = "transferred"
)

// Session is what a flow may read of its own conversation.
type Session struct {
	ID          string    `json:"id"`
	StartedAt   time.Time `json:"started_at"`
	CurrentNode string    `json:"current_node"`
	// History lists the nodes entered, the last 200 of them.
	History []string `json:"history"`
	Status  string   `json:"status"`
}

// System is where the conversation stands.
type System struct {
	// Revision counts steps; the first is 1.
	Revision int `json:"revision"`
	// Frames is the stack of running graphs: the flow, and each composite in it.
	Frames []Frame `json:"frames,omitempty"`
	// Waiting tells what the conversation waits for.
	Waiting Waiting `json:"waiting"`
	// Pending are effects given out whose Result has not come.
	Pending []Pending `json:"pending,omitempty"`
	// Playing is the ID of the speech that the caller hears last, until it is
	// Played. Empty where the host has no audio.
	Playing string `json:"playing,omitempty"`
	// Heard is what reached the caller of the last speech.
	Heard string `json:"heard,omitempty"`
	// HeardAll is what the caller has heard so far, of flows that ask for it.
	HeardAll []string `json:"heard_all,omitempty"`
	// Held is what the caller said over a message or a call, until the question
	// that it leads to is there.
	Held *Input `json:"held,omitempty"`
	// Arrived are events from outside that nobody has waited for yet.
	Arrived []Arrival `json:"arrived,omitempty"`
	// Notes are what operators had to say to the models that talk, the last of them.
	Notes []string `json:"notes,omitempty"`
	// Confirm is an answer that was read back and is not confirmed yet.
	Confirm *Confirm `json:"confirm,omitempty"`
	// Sensitive says that the last answer was given to a sensitive question.
	Sensitive bool `json:"sensitive,omitempty"`
	// Crashed is the node whose handler failed last, and was given one more try.
	Crashed string `json:"crashed,omitempty"`
	// NoInput and NoMatch count the failures at the waiting question.
	NoInput int `json:"no_input,omitempty"`
	NoMatch int `json:"no_match,omitempty"`
	// Turns counts answers and silences.
	Turns int `json:"turns,omitempty"`
	// Voice says that the host speaks.
	Voice bool `json:"voice,omitempty"`
	// Left says that the caller has gone: only on_hangup runs, unheard.
	Left bool `json:"left,omitempty"`
	// Spent is what all calls have cost so far.
	Spent Spent `json:"spent,omitzero"`
	// Env is the tenant's published settings.
	Env map[string]any `json:"env,omitempty"`
	// Last is the last prompt, for repeat_last.
	Last []Message `json:"last,omitempty"`
	// Shown lists contents shown, the last 500, and Draws counts draws of content.
	Shown []string `json:"shown,omitempty"`
	Draws int      `json:"draws,omitempty"`
	// Arms are the arms and variants drawn, by what was drawn for.
	Arms map[string]string `json:"arms,omitempty"`
	// Exposed is what was shown since the last answer, Goals what was reached.
	Exposed []Exposure `json:"exposed,omitempty"`
	Goals   []string   `json:"goals,omitempty"`
}

// A Frame is one running graph with its own scopes.
type Frame struct {
	// Via is the composite node in the frame below that opened this one.
	Via string `json:"via,omitempty"`
	// Aside marks a global with "return": the question below is asked again
	// when it ends.
	Aside bool   `json:"aside,omitempty"`
	Node  string `json:"node"`
	// Asked are the questions asked in this frame, for @back and @repeat.
	Asked  []string       `json:"asked,omitempty"`
	Input  map[string]any `json:"input,omitempty"`
	Local  map[string]any `json:"local,omitempty"`
	Output map[string]any `json:"output,omitempty"`
	// Index is the action that an action node is at, and Failed that one before
	// it failed.
	Index  int  `json:"index,omitempty"`
	Failed bool `json:"failed,omitempty"`
	// Drawn is the content of the node, in the order of its wants; nil before it
	// was fetched.
	Drawn []Drawn `json:"drawn,omitempty"`
	// Out is the outcome of @out:name.
	Out string `json:"out,omitempty"`
	// Talk is what a node that a model helps has heard and done so far.
	Talk *Talk `json:"talk,omitempty"`
}

// What a conversation may wait for.
const (
	ForInput  = "input"  // an Input or Silence
	ForAck    = "ack"    // any Input, which is not read
	ForPlayed = "played" // Played of System.Playing
	ForResult = "result" // Result of Waiting.ID
)

// Waiting is what the next event must bring.
type Waiting struct {
	For string `json:"for,omitempty"`
	ID  string `json:"id,omitempty"`
}

// Pending is an effect that the host must give out again after a restart.
type Pending struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	Effect Effect `json:"effect"`
}

// Init is what a conversation begins with. All of it is copied.
type Init struct {
	// ID of the session; it also decides every random draw.
	ID string
	// Channel is "voice" for a host that speaks; else it shows. It becomes
	// context.channel.
	Channel string
	// Locale becomes context.locale; empty for the flow's default.
	Locale string
	// User, Variables, Context and Temp fill those scopes.
	User, Variables, Context, Temp map[string]any
	// Env is the tenant's published settings, read as {env.name}.
	Env map[string]any
}

// New returns the state before [Start].
func New(f *Flow, init Init) State {
	s := State{
		Session:   Session{ID: cleanText(init.ID), History: []string{}, Status: Active},
		User:      object(init.User),
		Variables: object(init.Variables),
		Context:   object(init.Context),
		Temp:      object(init.Temp),
	}
	if len(init.Env) > 0 {
		s.System.Env = object(init.Env)
	}
	if init.Channel != "" {
		s.Context["channel"] = cleanText(init.Channel)
	}
	if init.Locale != "" {
		s.Context["locale"] = cleanText(init.Locale)
	} else if _, ok := s.Context["locale"]; !ok && f.locale != "" {
		s.Context["locale"] = f.locale
	}
	channel := text(s.Context["channel"])
	s.System.Voice = channel == "voice" || channel == "phone"
	return s
}

func object(m map[string]any) map[string]any {
	out, _ := clean(m, MaxStateDepth-2).(map[string]any)
	if out == nil {
		out = map[string]any{}
	}
	return out
}

// EncodeState returns the canonical JSON of s: keys sorted, numbers as jsonb
// prints them. It fails if s is larger than [MaxStateBytes].
func EncodeState(s State) ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	v, err := decodeValue(b)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	if path, ok := tooDeep(v, MaxStateDepth, ""); ok {
		return nil, fmt.Errorf("encode state: deeper than %d at %s", MaxStateDepth, path)
	}
	if b = appendCanonical(b[:0], v); len(b) > MaxStateBytes {
		return nil, fmt.Errorf("encode state: %d bytes, at most %d", len(b), MaxStateBytes)
	}
	return b, nil
}

// Hash returns base64 of SHA-256 of a state as [EncodeState] wrote it.
func Hash(state []byte) string {
	sum := sha256.Sum256(state)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// DecodeState reads what [EncodeState] wrote, also after a round trip through
// jsonb. It returns [ErrHash] if hash is not that of the state; an empty hash
// is not checked.
func DecodeState(data []byte, hash string) (State, error) {
	if len(data) > 2*MaxStateBytes {
		return State{}, fmt.Errorf("decode state: %d bytes, at most %d", len(data), MaxStateBytes)
	}
	v, err := decodeValue(data)
	if err != nil {
		return State{}, fmt.Errorf("decode state: %w", err)
	}
	if path, ok := tooDeep(v, MaxStateDepth, ""); ok {
		return State{}, fmt.Errorf("decode state: deeper than %d at %s", MaxStateDepth, path)
	}
	b := appendCanonical(nil, v)
	if hash != "" && Hash(b) != hash {
		return State{}, ErrHash
	}
	var s State
	if err := decodeInto(b, &s); err != nil {
		return State{}, fmt.Errorf("decode state: %w", err)
	}
	for _, m := range []*map[string]any{&s.User, &s.Variables, &s.Context, &s.Temp} {
		if *m == nil {
			*m = map[string]any{}
		}
	}
	return s, nil
}

// tooDeep returns the JSON pointer of the first value below depth levels.
func tooDeep(v any, depth int, at string) (string, bool) {
	switch v := v.(type) {
	case map[string]any:
		if depth == 0 {
			return at, true
		}
		for k, e := range v {
			if p, ok := tooDeep(e, depth-1, at+"/"+escapePointer(k)); ok {
				return p, true
			}
		}
	case []any:
		if depth == 0 {
			return at, true
		}
		for i, e := range v {
			if p, ok := tooDeep(e, depth-1, fmt.Sprintf("%s/%d", at, i)); ok {
				return p, true
			}
		}
	}
	return "", false
}
