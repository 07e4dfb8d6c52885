package flow

import "time"

// A voiceBlock is a node's voice with what the engine itself needs of it.
type voiceBlock struct {
	Voice
	noInput, noMatch escalation
	confirm          confirming
	voices           localText // tts.voice
}

// An escalation says what follows the k-th failure at a question.
type escalation struct {
	max     int // the max-th takes the outcome; 0 for no limit
	prompts []localText
	then    string
	ptr     string
}

// prompt returns the text after the k-th failure (from 1), if there is one.
func (e escalation) prompt(k int) (localText, bool) {
	if len(e.prompts) == 0 {
		return localText{}, false
	}
	return e.prompts[min(k, len(e.prompts))-1], true
}

// prompt fills in an escalating prompt, which has marks if the node's texts do.
func (t *turn) prompt(n *node, p localText) []Message {
	m := Message{Type: "text"}
	if n.voice.TTS.SSML {
		m.Text, m.SSML = t.marked(p)
	} else {
		m.Text = t.local(p)
	}
	return []Message{m}
}

// voice is a node's voice block for the caller's language.
func (t *turn) voice(n *node) Voice {
	v := n.voice.Voice
	v.TTS.Voice = t.local(n.voice.voices)
	return v
}

// voiceBlock reads a merged voice object (docs/flow.md, Voice).
func (c *compiler) voiceBlock(m map[string]any, n *node) voiceBlock {
	var b voiceBlock
	switch v := m["barge_in"].(type) {
	case bool:
		b.BargeIn.Off = !v
	case map[string]any:
		b.BargeIn.After = millis(v["after_ms"])
		b.BargeIn.DTMFOnly = boolean(v["dtmf_only"])
	case string:
		b.BargeIn.DTMFOnly = v == "dtmf_only"
	}
	if v := millis(m["after_ms"]); v > 0 {
		b.BargeIn.After = v
	}
	b.BargeIn.DTMFOnly = b.BargeIn.DTMFOnly || boolean(m["dtmf_only"])
	b.BargeIn.MinWords, _ = integer(m["min_words"])
	b.noInput = c.escalation(m["no_input"], n.ptr+"/voice/no_input/then")
	b.noMatch = c.escalation(m["no_match"], n.ptr+"/voice/no_match/then")
	if o, ok := m["no_input"].(map[string]any); ok {
		b.NoInput = millis(o["timeout_ms"])
	}
	if o, ok := m["digits"].(map[string]any); ok {
		b.Digits.Max, _ = integer(o["max"])
		b.Digits.FinishKey = str(o["finish_key"])
		b.Digits.InterDigit = millis(o["inter_digit_ms"])
	}
	if o, ok := m["speech"].(map[string]any); ok {
		b.Hints = texts(o["hints"])
		b.EndSilence = min(millis(o["end_silence_ms"]), 10*time.Second)
		b.Patient = o["eager"] == false
		b.Model, b.Language = str(o["model"]), str(o["language"])
		b.Boost = fraction(o["boost"], 0, 10)
	}
	if o, ok := m["tts"].(map[string]any); ok {
		b.voices = c.localText(o["voice"])
		b.TTS.Rate, b.TTS.SSML = fraction(o["rate"], 0.5, 2), boolean(o["ssml"])
	}
	b.confirm = c.confirming(m["confirm"], n.ptr+"/voice")
	b.ChatNoInput = chatNoInput(m["no_input"], b.noInput.max)
	b.Filler = min(millis(m["filler_after_ms"]), 10*time.Second)
	b.Sensitive = boolean(m["sensitive"])
	return b
}

func (c *compiler) escalation(v any, ptr string) escalation {
	m, _ := v.(map[string]any)
	e := escalation{then: str(m["then"]), ptr: ptr}
	e.max, _ = integer(m["max"])
	e.prompts = c.localTexts(m["prompts"])
	return e
}

// fraction reads a number between two bounds; 0 where there is none.
func fraction(v any, least, most float64) float64 {
	n, ok := numeric(v, true)
	f, err := n.Float64()
	if !ok || err != nil || f <= 0 {
		return 0
	}
	return min(max(f, least), most)
}

// chatPatience is the least time after which a chat takes no answer for
// silence, unless the document says so for chats: reading and typing take
// longer than talking.
const chatPatience = 5 * time.Minute

// chatNoInput is the time after which a chat that has no answer is silent. Only
// where silence leads somewhere at last is there any.
func chatNoInput(v any, most int) time.Duration {
	m, _ := v.(map[string]any)
	if d := millis(m["chat_timeout_ms"]); d > 0 {
		return max(d, time.Second)
	}
	if d := millis(m["timeout_ms"]); d > 0 && most > 0 {
		return max(d, chatPatience)
	}
	return 0
}
