package flow

import (
	"slices"
	"time"
)

// Effects of nodes that a host performs with means of its own.
type (
	// Wait comes back as a Result "timeout" after the time, or "default" when
	// Event happens before.
	Wait struct {
		effect
		ID    string        `json:"id"`
		Node  string        `json:"node"`
		After time.Duration `json:"after"`
		Event string        `json:"event,omitempty"`
	}

	// SendDigits presses keys towards the other side; nothing comes back.
	SendDigits struct {
		effect
		ID     string `json:"id"`
		Node   string `json:"node"`
		Digits string `json:"digits"` // 0-9 * # A-D, w for half a second
	}

	// SwitchLanguage changes what recognizer and voice speak; nothing comes back.
	SwitchLanguage struct {
		effect
		Node   string `json:"node"`
		Locale string `json:"locale"`
	}

	// Record takes a message from the caller. Its Result is "recorded", with
	// {"url", "seconds", "transcript"} as Data, or "empty".
	Record struct {
		effect
		ID         string        `json:"id"`
		Node       string        `json:"node"`
		Beep       bool          `json:"beep"`
		Max        time.Duration `json:"max"`
		Silence    time.Duration `json:"silence"`
		Transcribe bool          `json:"transcribe,omitempty"`
	}
)

// compileSay reads a say or play node: texts or an audio file.
func compileSay(c *compiler, n *node) any {
	b := &messageBody{}
	b.messages = c.said(n, "messages", "text", "say", "ssml")
	if u := first(n.content, "url", "audio"); u != "" {
		b.messages = append(b.messages, c.message(map[string]any{"type": "audio", "url": u, "alt": n.content["alt"]}, n.at))
	}
	if len(b.messages) == 0 {
		c.problem("warning", n.at, "empty-message", "the node says nothing", "add \"text\" or \"url\"")
	}
	return b
}

// compileMenu reads a menu: a choice.
func compileMenu(c *compiler, n *node) any {
	if n.content["input_type"] == nil {
		n.content = merge(n.content, map[string]any{"input_type": "choice"})
	}
	return compileQuestion(c, n)
}

func enterWait(t *turn, n *node) move {
	e := Wait{ID: t.id(), Node: n.id, Event: str(n.content["event"])}
	for _, k := range []string{"ms", "timeout_ms", "duration_ms"} {
		e.After = max(e.After, millis(n.content[k]))
	}
	if e.After == 0 {
		e.After = seconds(n.content["seconds"])
	}
	if e.After == 0 && e.Event == "" || t.s.System.Left {
		return move{outcome: "default"}
	}
	t.out = append(t.out, e)
	t.pend(e.ID, "wait", e)
	return t.waitFor(ForResult, e.ID)
}

func resultWait(_ *turn, n *node, r Result) move {
	if r.Outcome == "timeout" && str(n.content["event"]) != "" {
		return move{outcome: "timeout"}
	}
	return move{outcome: "default"}
}

type digitsBody struct{ digits template }

func compileDigits(c *compiler, n *node) any {
	return &digitsBody{parseTemplate(text(n.content["digits"]), c.flow.bare)}
}

func enterDigits(t *turn, n *node) move {
	var keys []rune
	for _, r := range t.render(n.body.(*digitsBody).digits) {
		if slices.Contains([]rune("0123456789*#ABCDw"), r) {
			keys = append(keys, r)
		}
	}
	if len(keys) > 0 && !t.s.System.Left {
		t.out = append(t.out, SendDigits{ID: t.id(), Node: n.id, Digits: string(keys)})
	}
	return move{outcome: "default"}
}

func compileLanguage(c *compiler, n *node) any {
	return &digitsBody{parseTemplate(first(n.content, "locale", "language", "to"), c.flow.bare)}
}

func enterLanguage(t *turn, n *node) move {
	locale := t.render(n.body.(*digitsBody).digits)
	if locale == "" {
		return move{outcome: "default"}
	}
	t.s.Context, _ = assign(t.s.Context, []string{"locale"}, locale).(map[string]any)
	t.out = append(t.out, SwitchLanguage{Node: n.id, Locale: locale})
	return move{outcome: "default"}
}

type recordBody struct {
	messages []messageTemplate
	variable *ref
}

func compileRecord(c *compiler, n *node) any {
	b := &recordBody{variable: c.target(n.content["variable"], n.at+"/variable")}
	b.messages = c.said(n, "messages", "text", "say", "prompt")
	return b
}

func enterRecord(t *turn, n *node) move {
	if t.s.System.Left {
		return move{outcome: "empty"}
	}
	t.say(t.show(n.body.(*recordBody).messages))
	e := Record{ID: t.id(), Node: n.id, Beep: n.content["beep"] != false, Max: 2 * time.Minute, Silence: 3 * time.Second, Transcribe: boolean(n.content["transcribe"])}
	if d := seconds(n.content["max"]); d > 0 {
		e.Max = d
	}
	if d := seconds(n.content["silence"]); d > 0 {
		e.Silence = d
	}
	t.out = append(t.out, e)
	t.pend(e.ID, "record", e)
	return t.waitFor(ForResult, e.ID)
}

func resultRecord(t *turn, n *node, r Result) move {
	if r.Outcome != "recorded" && r.Outcome != "success" {
		return move{outcome: "empty"}
	}
	v, err := decodeValue(r.Data)
	if variable := n.body.(*recordBody).variable; err == nil && variable != nil {
		t.set(*variable, clean(v, MaxStateDepth-8))
	}
	return move{outcome: "recorded"}
}
