package flow

import (
	"slices"
	"time"
)

// Record takes a message from the caller. Its Result is "recorded", with
// {"id", "url", "seconds", "transcript"} as Data, or "empty".
type Record struct {
	effect
	ID   string `json:"id"`
	Node string `json:"node"`
	Beep bool   `json:"beep"`
	// Max ends the message; so does Silence after speech, and a caller who has
	// not begun to speak in that time.
	Max     time.Duration `json:"max"`
	Silence time.Duration `json:"silence"`
	// FinishKey ends it too: one of 0-9 * #, or "any".
	FinishKey  string `json:"finish_key,omitempty"`
	Transcribe bool   `json:"transcribe,omitempty"`
}

// maxMessage is the longest message that a caller may leave.
const maxMessage = 10 * time.Minute

type recordBody struct {
	messages []messageTemplate
	variable *ref
	effect   Record
}

func compileRecord(c *compiler, n *node) any {
	b := &recordBody{variable: c.target(n.content["variable"], n.at+"/variable"),
		effect: Record{Node: n.id, Beep: n.content["beep"] != false, Max: 2 * time.Minute, Silence: 3 * time.Second,
			FinishKey: "#", Transcribe: boolean(n.content["transcribe"])}}
	b.messages = c.said(n, "messages", "text", "say", "prompt")
	for _, k := range []string{"max", "max_seconds"} {
		if d := seconds(n.content[k]); d > 0 {
			b.effect.Max = min(max(d, time.Second), maxMessage)
		}
	}
	for _, k := range []string{"silence", "silence_seconds"} {
		if d := seconds(n.content[k]); d > 0 {
			b.effect.Silence = min(max(d, time.Second), time.Minute)
		}
	}
	switch k := text(n.content["finish_key"]); {
	case k == "":
	case k == "none", k == "any", len(k) == 1 && slices.Contains([]byte("0123456789*#"), k[0]):
		b.effect.FinishKey = k
	default:
		c.problem("error", n.at+"/finish_key", "unknown-value", "there is no such key", "use one of 0-9, *, #, any or none")
	}
	return b
}

func enterRecord(t *turn, n *node) move {
	if t.s.System.Left {
		return move{outcome: "empty"}
	}
	b := n.body.(*recordBody)
	t.say(t.show(b.messages))
	e := b.effect
	e.ID = t.id()
	t.out = append(t.out, e)
	t.pend(e.ID, "record", e)
	return t.waitFor(ForResult, e.ID)
}

func resultRecord(t *turn, n *node, r Result) move {
	t.s.System.Pending, t.s.System.Playing = unspoken(t.s.System.Pending), "" // it began behind its prompt
	if r.Outcome != "recorded" && r.Outcome != "success" {
		return move{outcome: "empty"}
	}
	v, err := decodeValue(r.Data)
	if variable := n.body.(*recordBody).variable; err == nil && variable != nil {
		t.set(*variable, clean(v, MaxStateDepth-8))
	}
	t.emit("message_recorded", map[string]any{"node": n.id, "message": clean(v, MaxStateDepth-8)})
	return move{outcome: "recorded"}
}

// left stores what an effect had come to when the caller left.
func (t *turn) left(ev Hangup) {
	if ev.Result == nil || t.s.System.Waiting.For != ForResult || t.s.System.Waiting.ID != ev.Result.ID {
		return
	}
	n := t.node()
	if n == nil || n.kind.result == nil || t.drop(ev.Result.ID) == nil {
		return
	}
	if _, ok := n.body.(*recordBody); ok {
		n.kind.result(t, n, *ev.Result)
	}
}
