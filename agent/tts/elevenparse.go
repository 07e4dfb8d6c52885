package tts

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"parley/agent"
	"parley/agent/socket"
)

// An elevenMessage is what the vendor sends, in the fields used.
type elevenMessage struct {
	context   string
	audio     []byte
	final     bool
	alignment elevenAlignment
}

// An elevenAlignment places characters of the text in a message's audio.
type elevenAlignment struct {
	Chars     []string  `json:"chars"`
	Starts    []float64 `json:"charStartTimesMs"`
	Durations []float64 `json:"charsDurationsMs"`
}

// parseEleven reads one message; one that tells an error is that error. The
// vendor spells the context and the end in two ways.
func parseEleven(b []byte) (elevenMessage, error) {
	var m struct {
		Audio     string           `json:"audio"`
		Context   string           `json:"contextId"`
		Context2  string           `json:"context_id"`
		Final     bool             `json:"isFinal"`
		Final2    bool             `json:"is_final"`
		Alignment *elevenAlignment `json:"alignment"`
		Error     string           `json:"error"`
		Message   string           `json:"message"`
		Code      json.RawMessage  `json:"code"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return elevenMessage{}, fmt.Errorf("elevenlabs: %w: message is not the JSON promised", agent.ErrProtocol)
	}
	if m.Error != "" || len(m.Code) > 0 && string(m.Code) != "null" {
		return elevenMessage{}, fmt.Errorf("elevenlabs: speak: %w: error %q", elevenKind(m.Error+" "+m.Message), socket.Plain(m.Error))
	}
	audio, err := base64.StdEncoding.DecodeString(m.Audio)
	if err != nil {
		return elevenMessage{}, fmt.Errorf("elevenlabs: %w: audio is not base64", agent.ErrProtocol)
	}
	out := elevenMessage{context: m.Context + m.Context2, audio: audio, final: m.Final || m.Final2}
	if m.Context != "" {
		out.context = m.Context
	}
	if m.Alignment != nil {
		out.alignment = *m.Alignment
	}
	return out, nil
}

// elevenKind sorts an error by its words: the vendor sends a JSON message
// {message, error, code} and then closes by 1008, whatever the matter. That
// form is unverified save for max_active_conversations.
func elevenKind(text string) error {
	text = strings.ToLower(text)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("api_key", "api key", "auth", "permission", "quota", "payment"):
		return agent.ErrCredentials
	case has("max_active", "simultaneous", "rate_limit", "too_many", "too many", "concurren", "busy"):
		return agent.ErrBusy
	case text == "", has("timeout", "timed out", "internal", "unavailable", "server"):
		return agent.ErrUnavailable
	}
	return agent.ErrProtocol
}

// letters counts the characters that are aligned: all but white space.
func letters(text string) (n int) {
	for _, r := range text {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// An aligner makes words of aligned characters, also where a word is spread
// over messages. The zero value is ready.
type aligner struct {
	word agent.Word // not complete yet
	done []agent.Word
	last time.Duration // no word begins before
}

// add takes a message's characters, whose audio lies between two times of the
// clause, and returns how many letters there were.
func (a *aligner) add(al elevenAlignment, from, to time.Duration) (n int) {
	for i, c := range al.Chars {
		start, end := to, to // where the vendor gives no time
		if i < len(al.Starts) {
			start = clampTime(from, al.Starts[i], to)
			end = start
			if i < len(al.Durations) {
				end = clampTime(from, al.Starts[i]+al.Durations[i], to)
			}
		}
		start = max(start, a.last)
		a.last = start
		if strings.TrimSpace(c) == "" {
			a.finish()
			continue
		}
		n += max(1, utf8.RuneCountInString(strings.TrimSpace(c)))
		if a.word.Text == "" {
			a.word.Start = start
		}
		a.word.Text += c
		a.word.End = max(a.word.End, start, end)
	}
	return n
}

func clampTime(from time.Duration, ms float64, to time.Duration) time.Duration {
	if !(ms >= 0 && ms < 1e9) {
		return from
	}
	return min(from+time.Duration(ms*float64(time.Millisecond)), to)
}

func (a *aligner) finish() {
	if a.word.Text != "" {
		a.done = append(a.done, a.word)
	}
	a.word = agent.Word{}
}

// take returns the words that are complete.
func (a *aligner) take() []agent.Word {
	w := a.done
	a.done = nil
	return w
}

// end returns the clause's last words; none ends after it.
func (a *aligner) end(length time.Duration) []agent.Word {
	a.finish()
	w := a.take()
	for i := range w {
		w[i].End = min(w[i].End, max(length, w[i].Start))
	}
	return w
}
