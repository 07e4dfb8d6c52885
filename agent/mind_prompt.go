package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// A PromptSpec makes an agent of a model and instructions.
type PromptSpec struct {
	System   string
	Greeting string // spoken first; empty: the caller begins

	// Models are tried in order until one answers.
	Models []Model

	// Tools are what the model may do, of end_call, transfer and press_digits.
	// Nil: all.
	Tools []string

	// Transfers names where the model may connect the caller to: name → number.
	// Empty: it cannot transfer.
	Transfers map[string]string

	MaxTokens   int     // of a reply; default 300: more is not listened to
	Temperature float64 // 0 to 2

	// CallTokens bounds what the models of one call may take in and give out:
	// beyond, the call is ended politely. By the vendors' own count, or where
	// they give none by an estimate. Default 1 million.
	CallTokens int

	// Reprompts are said when the caller is silent; after the last, Goodbye.
	// IdlePrompts of them are used, the last again and again; 0: each once.
	Reprompts   []string
	IdlePrompts int
	Goodbye     string

	// History is what was said before, in a call that goes on.
	History []Turn
}

// promptMind talks by a model. The model's context holds what was heard.
type promptMind struct {
	spec     PromptSpec
	models   *models
	messages []Message
	open     []Message // of the turn under way; joins messages when it was heard
	effects  bool      // the turn ran a tool
	reprompt int       // of them in a row
	asked    int       // reprompt before the turn
}

func newPromptMind(spec PromptSpec, log *slog.Logger) *promptMind {
	if spec.MaxTokens == 0 {
		spec.MaxTokens = 300
	}
	if spec.CallTokens == 0 {
		spec.CallTokens = 1_000_000
	}
	if len(spec.Reprompts) == 0 {
		spec.Reprompts = []string{"Are you still there?", "I'm here if you need anything."}
	}
	if spec.Goodbye == "" {
		spec.Goodbye = "I can't hear you, so I'll hang up now. Goodbye."
	}
	if spec.IdlePrompts == 0 {
		spec.IdlePrompts = len(spec.Reprompts)
	}
	m := &promptMind{spec: spec, models: newModels(spec.Models, log)}
	for _, t := range spec.History {
		role := "user"
		if t.Speaker == "agent" {
			role = "assistant"
		}
		if t.Heard != "" {
			m.messages = append(m.messages, Message{Role: role, Text: t.Heard})
		}
	}
	return m
}

func (m *promptMind) reply(ctx context.Context, in input, say func(line) error) (move, error) {
	m.open, m.effects, m.asked = nil, false, m.reprompt
	listen := move{kind: moveListen, digits: keypad{finish: '#', interKey: 2 * time.Second}}
	switch in.kind {
	case inputStart:
		last, unanswered := m.standing()
		if !unanswered {
			if last == "" {
				return listen, nil
			}
			return listen, say(line{text: last, fixed: last == m.spec.Greeting})
		}
	case inputSilence:
		if m.reprompt >= m.spec.IdlePrompts {
			return move{kind: moveEnd, reason: "idle"}, say(line{text: m.spec.Goodbye, fixed: true})
		}
		m.reprompt++
		return listen, say(line{text: m.spec.Reprompts[min(m.reprompt, len(m.spec.Reprompts))-1], fixed: true})
	case inputReturned:
		m.open = append(m.open, Message{Role: "user", Text: fmt.Sprintf(
			"[The transfer did not succeed: %s. The caller is back. Say so briefly and offer other help.]", in.text)})
	case inputSaid:
		m.reprompt = 0
		text := in.text
		if in.mode == "dtmf" {
			text = "[The caller pressed " + in.text + "]"
		}
		m.open = append(m.open, Message{Role: "user", Text: text})
	default:
		return listen, nil
	}
	if m.models.tokens >= m.spec.CallTokens {
		misbehaved.WithLabelValues("budget").Inc()
		return move{kind: moveEnd, reason: "limit"}, say(line{text: limitNotice, fixed: true})
	}
	mv, err := m.think(ctx, in, say)
	if mv.kind == moveListen {
		mv.digits = listen.digits
	}
	return mv, err
}

// standing is what the agent begins with: its greeting, or in a call that came
// back what it had said last, once more. unanswered: the caller had said something
// that comes first.
func (m *promptMind) standing() (last string, unanswered bool) {
	for _, t := range slices.Backward(m.spec.History) {
		if t.Speaker == "agent" {
			return cmp.Or(t.Generated, t.Heard, m.spec.Greeting), false
		}
		if t.Heard != "" {
			return "", true
		}
	}
	return m.spec.Greeting, false
}

// toolRounds bounds how often a model may call tools before it speaks.
const toolRounds = 4

// think has the model answer, running its tools, until it has said its piece.
// The first answer may be to a guess: no tool runs before that is certain.
func (m *promptMind) think(ctx context.Context, in input, say func(line) error) (move, error) {
	next := move{kind: moveListen}
	spoke, done := false, false
	for round := 0; round < toolRounds && !done; round++ {
		text, calls, err := m.ask(ctx, say)
		if err != nil {
			return move{}, err
		}
		if in.commit != nil && round == 0 {
			if err := say(line{ends: true}); err != nil {
				return move{}, err
			}
			if in, err = in.certain(ctx); err != nil {
				return move{}, err
			}
			m.open[0].Text = in.text // as it was spelled in the end
		}
		spoke = spoke || Speakable(text) != ""
		if len(calls) == 0 {
			m.open = append(m.open, Message{Role: "assistant", Text: text})
			done = true
			break
		}
		m.open = append(m.open, Message{Role: "assistant", Text: text, Calls: calls})
		for _, call := range calls {
			result, mv := m.run(call, say)
			if mv.kind != 0 {
				next = mv
			}
			m.open = append(m.open, Message{Role: "tool", ToolCallID: call.ID, Text: result})
		}
		done = next.kind != moveListen && text != "" // it said its goodbye with the call
	}
	if !done {
		misbehaved.WithLabelValues("tool_rounds").Inc()
	}
	if spoke || m.effects {
		return next, nil
	}
	// A model that says nothing leaves the caller in silence.
	misbehaved.WithLabelValues("silence").Inc()
	return next, say(line{text: wordless[next.kind], fixed: true})
}

// wordless is said before a move of a model without words. Read-only.
var wordless = map[moveKind]string{
	moveListen:   "Sorry, could you say that again?",
	moveEnd:      "Goodbye.",
	moveTransfer: "One moment, I will connect you.",
}

// ask streams one answer of the first model that gives one.
func (m *promptMind) ask(ctx context.Context, say func(line) error) (string, []ToolCall, error) {
	return m.models.ask(ctx, Prompt{
		System: m.spec.System, Messages: append(append([]Message(nil), m.messages...), m.open...),
		Tools: m.tools(), MaxTokens: m.spec.MaxTokens, Temperature: m.spec.Temperature,
	}, say)
}

func (m *promptMind) tools() []Tool {
	tools := []Tool{
		{Name: "end_call", Description: "End the call. Say goodbye in the same reply.", Parameters: json.RawMessage(`{"type":"object","properties":{}}`)},
		{Name: "press_digits", Description: "Press keys on the telephone keypad, as to walk through another party's menu.",
			Parameters: json.RawMessage(`{"type":"object","properties":{"digits":{"type":"string","pattern":"^[0-9*#A-D]{1,32}$"}},"required":["digits"]}`)},
	}
	if len(m.spec.Transfers) > 0 {
		names, _ := json.Marshal(slices.Sorted(maps.Keys(m.spec.Transfers))) // strings always encode
		tools = append(tools, Tool{Name: "transfer", Description: "Connect the caller to somebody else. Tell the caller in the same reply.",
			Parameters: json.RawMessage(`{"type":"object","properties":{"to":{"type":"string","enum":` + string(names) + `}},"required":["to"]}`)})
	}
	return slices.DeleteFunc(tools, func(t Tool) bool { return !m.allowed(t.Name) })
}

func (m *promptMind) allowed(tool string) bool {
	return m.spec.Tools == nil || slices.Contains(m.spec.Tools, tool)
}

// run performs a tool. What is wrong with a call goes back to the model.
func (m *promptMind) run(call ToolCall, say func(line) error) (result string, mv move) {
	var args struct{ Digits, To string }
	if call.Arguments != "" {
		if err := json.Unmarshal([]byte(call.Arguments), &args); err != nil {
			return "error: the arguments are not valid JSON", move{}
		}
	}
	if !m.allowed(call.Name) {
		return "error: there is no such tool", move{}
	}
	switch call.Name {
	case "end_call":
		return "the call ends when you have said goodbye", move{kind: moveEnd, reason: "goodbye"}
	case "transfer":
		number, ok := m.spec.Transfers[args.To]
		if !ok {
			return "error: there is no such place to transfer to", move{}
		}
		return "the caller will be connected when you have told them", move{kind: moveTransfer, target: number}
	case "press_digits":
		if err := say(line{digits: args.Digits}); err != nil {
			return "error: these are no keys of a telephone", move{}
		}
		m.effects = true
		return "pressed", move{}
	}
	return "error: there is no such tool", move{}
}

func (m *promptMind) spent() int { return m.models.tokens }

func (m *promptMind) heard(text string, interrupted bool) {
	// The texts of the turn, however many rounds it took, become what was heard
	// of them.
	for _, msg := range m.open {
		if msg.Role == "assistant" {
			if len(msg.Calls) == 0 {
				continue
			}
			msg.Text = ""
		}
		m.messages = append(m.messages, msg)
	}
	m.open = nil
	if text != "" {
		m.messages = append(m.messages, Message{Role: "assistant", Text: text})
	}
}

func (m *promptMind) aside(text string) {
	if text != "" {
		m.messages = append(m.messages, Message{Role: "assistant", Text: text})
	}
}

func (m *promptMind) note(text string) { m.messages = append(m.messages, noteMessage(text)) }

// noteMessage is an operator's note as a system's message: nothing that a caller
// says can look like one.
func noteMessage(text string) Message {
	return Message{Role: "system",
		Text: "A note from the operator. The caller does not hear it: use it, and do not read it out.\n" + text}
}

func (m *promptMind) retract() bool {
	if m.effects {
		return false
	}
	m.open, m.reprompt = nil, m.asked
	return true
}
