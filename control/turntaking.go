package control

import (
	"cmp"
	"time"

	"parley/agent"
)

// TurnTaking overrides the defaults of turn-taking; zero keeps the default. The
// times of a turn's end count from the end of the caller's speech.
type TurnTaking struct {
	EndSilenceMS        int  `json:"end_silence_ms,omitempty" doc:"Quiet that makes an end of turn a candidate. Default 200. 100 to 3000."`
	CompleteSilenceMS   int  `json:"complete_silence_ms,omitempty" doc:"Quiet that ends an utterance which sounds complete. Default 250. 100 to 5000, at least end_silence_ms."`
	UndecidedSilenceMS  int  `json:"undecided_silence_ms,omitempty" doc:"Quiet that ends an utterance which may go on or not; it adapts to the caller, from 0.6 to 2.5 times of it. Default 600. 100 to 5000, at least complete_silence_ms."`
	MaxEndSilenceMS     int  `json:"max_end_silence_ms,omitempty" doc:"Quiet that ends an incomplete utterance. Default 2500. 250 to 10000, at least undecided_silence_ms."`
	FinalWaitMS         int  `json:"final_wait_ms,omitempty" doc:"Longest wait for the recognizer's final words. Default: what the vendor was measured to need. 100 to 5000."`
	MaxUtteranceSeconds int  `json:"max_utterance_seconds,omitempty" doc:"Longest utterance without a pause. Default 60. 5 to 300."`
	FixedSilence        bool `json:"fixed_silence,omitempty" doc:"The quiet that ends an utterance does not adapt to the caller's own pauses."`

	NoSpeculation      bool `json:"no_speculation,omitempty" doc:"The reply is not begun before the caller's turn has ended for certain. Speculation answers sooner, and asks the model more often."`
	SpeculationTries   int  `json:"speculation_tries,omitempty" doc:"How often a reply may be begun early in one turn. Default 3. 1 to 10."`
	SpeculationSeconds int  `json:"speculation_speech_seconds,omitempty" doc:"Longest utterance that is answered early. Default 10. 1 to 60."`

	NoInterruption bool `json:"no_interruption,omitempty" doc:"The agent finishes what it says; what the caller says meanwhile answers the next question."`
	GateMS         int  `json:"gate_ms,omitempty" doc:"Speech over the agent before it pauses. Default 120, or 300 with a recognizer without interim words. 60 to 1000."`
	YieldMS        int  `json:"yield_ms,omitempty" doc:"Unbroken speech without words that ends the reply. Default 1000. 200 to 5000."`
	ResumeMS       int  `json:"resume_ms,omitempty" doc:"Quiet after speech without words, until the reply goes on. Default 400. 100 to 3000."`
	VerdictMS      int  `json:"verdict_ms,omitempty" doc:"When it is decided at the latest whether the reply ends or goes on. Default 1200. 300 to 6000, at least yield_ms."`
	TailMS         int  `json:"tail_ms,omitempty" doc:"With less of the reply unheard, the agent does not pause: what the caller says is the next turn. Default 500. 100 to 3000."`

	IdleSeconds int `json:"idle_seconds,omitempty" doc:"Quiet before the agent asks whether the caller is there. Default 8. 3 to 120."`
	IdlePrompts int `json:"idle_prompts,omitempty" doc:"How often it asks before it ends the call. 1 to 5."`
}

// Endpointing returns when a caller's turn is taken to have ended.
func (t TurnTaking) Endpointing() agent.Endpointing {
	return agent.Endpointing{Silence: millis(t.EndSilenceMS), Complete: millis(t.CompleteSilenceMS), Undecided: millis(t.UndecidedSilenceMS),
		Patience: millis(t.MaxEndSilenceMS), FinalWait: millis(t.FinalWaitMS),
		MaxUtterance: time.Duration(t.MaxUtteranceSeconds) * time.Second, Steady: t.FixedSilence}
}

// Interruption returns what happens when the caller speaks over the agent.
func (t TurnTaking) Interruption() agent.Interruption {
	i := agent.Interruption{Never: t.NoInterruption, Gate: millis(t.GateMS), Yield: millis(t.YieldMS), Resume: millis(t.ResumeMS),
		Latest: millis(t.VerdictMS), Tail: millis(t.TailMS)}
	if i.Yield > defaultVerdict {
		i.Latest = cmp.Or(i.Latest, i.Yield)
	}
	return i
}

// Speculation returns when replies are begun early.
func (t TurnTaking) Speculation() agent.Speculation {
	return agent.Speculation{Off: t.NoSpeculation, Tries: t.SpeculationTries,
		MaxSpeech: time.Duration(t.SpeculationSeconds) * time.Second}
}

const defaultVerdict = 1200 * time.Millisecond

func millis(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// A turnLimit is the range of one number, and the least that others ask of it.
type turnLimit struct {
	name          string
	v, least, max int
	over          string // the field that it must not be under
	floor         int    // that field's value, 0 if it has its default
}

func (t TurnTaking) validate() error {
	for _, r := range []turnLimit{
		{"end_silence_ms", t.EndSilenceMS, 100, 3000, "", 0},
		{"complete_silence_ms", t.CompleteSilenceMS, 100, 5000, "end_silence_ms", cmp.Or(t.EndSilenceMS, 200)},
		{"undecided_silence_ms", t.UndecidedSilenceMS, 100, 5000, "complete_silence_ms", cmp.Or(t.CompleteSilenceMS, max(250, t.EndSilenceMS))},
		{"max_end_silence_ms", t.MaxEndSilenceMS, 250, 10000, "undecided_silence_ms",
			cmp.Or(t.UndecidedSilenceMS, t.CompleteSilenceMS, t.EndSilenceMS)},
		{"final_wait_ms", t.FinalWaitMS, 100, 5000, "", 0},
		{"max_utterance_seconds", t.MaxUtteranceSeconds, 5, 300, "", 0},
		{"speculation_tries", t.SpeculationTries, 1, 10, "", 0},
		{"speculation_speech_seconds", t.SpeculationSeconds, 1, 60, "", 0},
		{"gate_ms", t.GateMS, 60, 1000, "", 0},
		{"yield_ms", t.YieldMS, 200, 5000, "", 0},
		{"resume_ms", t.ResumeMS, 100, 3000, "", 0},
		{"verdict_ms", t.VerdictMS, 300, 6000, "yield_ms", cmp.Or(t.YieldMS, 1000)},
		{"tail_ms", t.TailMS, 100, 3000, "", 0},
		{"idle_seconds", t.IdleSeconds, 3, 120, "", 0},
		{"idle_prompts", t.IdlePrompts, 1, 5, "", 0},
	} {
		switch {
		case r.v == 0:
		case r.v < r.least || r.v > r.max:
			return Invalidf("settings.turns."+r.name, "must be %d to %d", r.least, r.max)
		case r.v < r.floor:
			return Invalidf("settings.turns."+r.name, "must be at least %s (%d)", r.over, r.floor)
		}
	}
	if err := t.Endpointing().Validate(); err != nil {
		return Invalidf("settings.turns", "%v", err)
	}
	return nil
}
