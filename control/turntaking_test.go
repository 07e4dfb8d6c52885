package control

import (
	"strings"
	"testing"
	"time"
)

func TestTurnTakingIsChecked(t *testing.T) {
	tests := map[string]struct {
		t    TurnTaking
		want string // part of the error; "" for none
	}{
		"defaults":               {TurnTaking{}, ""},
		"all-set":                {TurnTaking{EndSilenceMS: 300, CompleteSilenceMS: 300, UndecidedSilenceMS: 800, MaxEndSilenceMS: 3000, FinalWaitMS: 900, MaxUtteranceSeconds: 30, FixedSilence: true, SpeculationTries: 2, SpeculationSeconds: 5, GateMS: 200, YieldMS: 900, ResumeMS: 300, VerdictMS: 1000, TailMS: 400, IdleSeconds: 10, IdlePrompts: 1}, ""},
		"one-moves-the-others":   {TurnTaking{EndSilenceMS: 1000}, ""},
		"short-patience":         {TurnTaking{MaxEndSilenceMS: 300}, ""},
		"silence-too-short":      {TurnTaking{EndSilenceMS: 50}, "end_silence_ms: must be 100 to 3000"},
		"complete-under-silence": {TurnTaking{EndSilenceMS: 500, CompleteSilenceMS: 400}, "complete_silence_ms: must be at least end_silence_ms (500)"},
		"undecided-under":        {TurnTaking{CompleteSilenceMS: 400, UndecidedSilenceMS: 300}, "undecided_silence_ms: must be at least complete_silence_ms (400)"},
		"patience-under":         {TurnTaking{UndecidedSilenceMS: 900, MaxEndSilenceMS: 800}, "max_end_silence_ms: must be at least undecided_silence_ms (900)"},
		"final-wait":             {TurnTaking{FinalWaitMS: 99}, "final_wait_ms: must be 100 to 5000"},
		"utterance":              {TurnTaking{MaxUtteranceSeconds: 301}, "max_utterance_seconds: must be 5 to 300"},
		"tries":                  {TurnTaking{SpeculationTries: 11}, "speculation_tries: must be 1 to 10"},
		"speech":                 {TurnTaking{SpeculationSeconds: 61}, "speculation_speech_seconds: must be 1 to 60"},
		"gate":                   {TurnTaking{GateMS: 10}, "gate_ms: must be 60 to 1000"},
		"yield":                  {TurnTaking{YieldMS: 100}, "yield_ms: must be 200 to 5000"},
		"verdict-before-yield":   {TurnTaking{YieldMS: 2000, VerdictMS: 1500}, "verdict_ms: must be at least yield_ms (2000)"},
		"tail":                   {TurnTaking{TailMS: -1}, "tail_ms: must be 100 to 3000"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.t.validate()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTurnTakingReachesTheAgent(t *testing.T) {
	s := TurnTaking{EndSilenceMS: 300, CompleteSilenceMS: 350, UndecidedSilenceMS: 800, MaxEndSilenceMS: 3000, FinalWaitMS: 900,
		MaxUtteranceSeconds: 30, FixedSilence: true, NoSpeculation: true, SpeculationTries: 2, SpeculationSeconds: 5,
		NoInterruption: true, GateMS: 200, YieldMS: 2000, ResumeMS: 500, TailMS: 700}
	e, i, g := s.Endpointing(), s.Interruption(), s.Speculation()
	if e.Silence != 300*time.Millisecond || e.Complete != 350*time.Millisecond || e.Undecided != 800*time.Millisecond ||
		e.Patience != 3*time.Second || e.FinalWait != 900*time.Millisecond || e.MaxUtterance != 30*time.Second || !e.Steady {
		t.Errorf("%+v", e)
	}
	if !i.Never || i.Gate != 200*time.Millisecond || i.Yield != 2*time.Second || i.Latest != 2*time.Second ||
		i.Resume != 500*time.Millisecond || i.Tail != 700*time.Millisecond {
		t.Errorf("%+v", i)
	}
	if !g.Off || g.Tries != 2 || g.MaxSpeech != 5*time.Second {
		t.Errorf("%+v", g)
	}
}
