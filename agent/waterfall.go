package agent

import "time"

// A Segment is a stretch of the wait for an answer, named by what ends it.
type Segment struct {
	Name string // final_transcript, end_of_turn, first_token, first_clause, first_speech, first_audio
	Took time.Duration
}

// Waterfall cuts the time from the end of the caller's speech to the agent's
// first audible sample into stretches that follow each other and add up to it.
// A step that was over when the one before it was took nothing, which is so for
// an answer that was begun early; a step that did not happen is left out. Nil:
// nothing was to be heard, or nobody had spoken.
func (l Latency) Waterfall() []Segment {
	if l.FirstAudio <= 0 {
		return nil
	}
	after := func(d time.Duration) time.Duration {
		if d == 0 {
			return 0
		}
		return max(l.EndOfTurn+d, 1)
	}
	var out []Segment
	var reached time.Duration
	for _, step := range []Segment{
		{"final_transcript", min(l.FinalTranscript, l.EndOfTurn)}, {"end_of_turn", l.EndOfTurn}, {"first_token", after(l.FirstToken)},
		{"first_clause", after(l.FirstClause)}, {"first_speech", after(l.FirstSpeech)}, {"first_audio", l.FirstAudio},
	} {
		if step.Took == 0 {
			continue
		}
		at := max(reached, min(step.Took, l.FirstAudio))
		out = append(out, Segment{step.Name, at - reached})
		reached = at
	}
	return out
}
