package flow

import (
	"slices"
)

// Effects of nodes that a host performs with means of its own.
type (
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
)

// compileSay reads a say or play node: texts or an audio file.
func compileSay(c *compiler, n *node) any {
	b := &messageBody{}
	if v, _ := n.content["ssml"].(bool); !v && n.content["ssml"] != nil {
		c.ssml = true
	}
	b.messages = c.said(n, "messages", "text", "say", "ssml")
	for _, k := range []string{"url", "audio"} {
		if u := n.content[k]; str(u) != "" || isLocales(u) {
			b.messages = append(b.messages, c.message(map[string]any{"type": "audio", "url": u, "alt": n.content["alt"]}, n.at))
			break
		}
	}
	if len(b.messages) == 0 {
		c.problem("warning", n.at, "empty-message", "the node says nothing", "add \"text\" or \"url\"")
	}
	b.mustHear(n)
	return b
}

// compileMenu reads a menu: a choice.
func compileMenu(c *compiler, n *node) any {
	if n.content["input_type"] == nil {
		n.content = merge(n.content, map[string]any{"input_type": "choice"})
	}
	return compileQuestion(c, n)
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
