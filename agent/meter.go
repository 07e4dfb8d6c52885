package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"parley/media"
)

// Kinds of use. Each is a whole number of what its name ends with.
const (
	UseHeard      = "stt_ms"            // audio given to a recognizer
	UseInput      = "llm_input_tokens"  // read by a model, without those it had in its cache
	UseCached     = "llm_cached_tokens" // read from its cache
	UseOutput     = "llm_output_tokens" // written by a model
	UseCharacters = "tts_characters"    // given to a voice, in Unicode code points
	UseSpoken     = "tts_ms"            // made by a voice
)

// A Use is what a vendor did, in the unit in which it may bill it. What was made
// for nobody, such as a guess that was dropped or the rest of an answer that the
// caller cut short, counts as the vendor counts it.
type Use struct {
	Kind   string `json:"kind"`
	Vendor string `json:"vendor"`
	Model  string `json:"model,omitempty"`
	Amount int64  `json:"amount"`
	// Estimated says that the vendor did not tell, and Amount is what its like
	// usually costs.
	Estimated bool `json:"estimated,omitempty"`
}

// A meter adds up what a session's vendors do until a turn takes it. It is safe
// for use by several goroutines; a nil one counts nothing.
type meter struct {
	mu   sync.Mutex
	uses []Use
	// samples of recognizers, whose milliseconds are told once they are whole
	heard []countedAudio
}

// countedAudio is how much of a recognizer's audio has been counted.
type countedAudio struct {
	vendor, model string
	time          time.Duration
}

func (m *meter) add(u Use) {
	if m == nil || u.Amount <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.merge(u)
}

func (m *meter) merge(u Use) {
	for i := range m.uses {
		if w := &m.uses[i]; w.Kind == u.Kind && w.Vendor == u.Vendor && w.Model == u.Model {
			w.Amount, w.Estimated = w.Amount+u.Amount, w.Estimated || u.Estimated
			return
		}
	}
	m.uses = append(m.uses, u)
}

// addHeard counts audio that a recognizer was given, to whole milliseconds: what
// is left over counts the next time.
func (m *meter) addHeard(vendor, model string, samples int64, rate int) {
	if m == nil || samples <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.heard, func(h countedAudio) bool { return h.vendor == vendor && h.model == model })
	if i < 0 {
		i = len(m.heard)
		m.heard = append(m.heard, countedAudio{vendor: vendor, model: model})
	}
	h := &m.heard[i]
	h.time += media.Duration(samples, rate)
	if whole := h.time.Milliseconds(); whole > 0 {
		h.time -= time.Duration(whole) * time.Millisecond
		m.merge(Use{Kind: UseHeard, Vendor: vendor, Model: model, Amount: whole})
	}
}

func (m *meter) addTokens(by Model, u Usage, estimated bool) {
	cached := min(max(0, u.CachedTokens), max(0, u.PromptTokens))
	m.add(Use{UseInput, by.Vendor, by.Model, int64(max(0, u.PromptTokens) - cached), estimated})
	m.add(Use{UseCached, by.Vendor, by.Model, int64(cached), estimated})
	m.add(Use{UseOutput, by.Vendor, by.Model, int64(max(0, u.CompletionTokens)), estimated})
}

// take returns what was counted since it was last asked, of the kinds given or
// of all.
func (m *meter) take(kinds ...string) []Use {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out, rest []Use
	for _, u := range m.uses {
		if len(kinds) == 0 || slices.Contains(kinds, u.Kind) {
			out = append(out, u)
		} else {
			rest = append(rest, u)
		}
	}
	m.uses = rest
	return out
}

// asked tells whether a vendor that failed had begun to work: one that refused,
// or was not there, bills nothing.
func asked(failure error, made int) bool {
	return failure == nil || made > 0 || errors.Is(failure, context.Canceled) || errors.As(failure, new(sayError))
}
