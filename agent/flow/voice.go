package flow

import "time"

// A voiceBlock is a node's voice with what the engine itself needs of it.
type voiceBlock struct {
	Voice
	noInput, noMatch escalation
}

// An escalation says what follows the k-th failure at a question.
type escalation struct {
	max     int // the max-th takes the outcome; 0 for no limit
	prompts []template
	then    string
	ptr     string
}

// prompt returns the text after the k-th failure (from 1), nil if there is none.
func (e escalation) prompt(k int) template {
	if len(e.prompts) == 0 {
		return nil
	}
	return e.prompts[min(k, len(e.prompts))-1]
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
	}
	b.Filler = min(millis(m["filler_after_ms"]), 10*time.Second)
	b.Sensitive = boolean(m["sensitive"])
	return b
}

func (c *compiler) escalation(v any, ptr string) escalation {
	m, _ := v.(map[string]any)
	e := escalation{then: str(m["then"]), ptr: ptr}
	e.max, _ = integer(m["max"])
	for _, p := range texts(m["prompts"]) {
		e.prompts = append(e.prompts, parseTemplate(p, c.flow.bare))
	}
	return e
}
