package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"

	"parley/agent"
	"parley/control"
	"parley/media"
)

// A tape is a call's recording from when it may begin. Of what was said before,
// nothing is stored: its place in the file is silence.
type tape struct {
	desk  *desk
	call  *control.Serving
	rate  int
	log   *slog.Logger
	ctx   context.Context
	mode  string
	once  sync.Once
	opens sync.WaitGroup

	seen atomic.Int64 // samples of this leg
	rec  atomic.Pointer[recording]
	upTo int64 // samples of this leg in rec; of the ears' goroutine, once rec is set
	gone bool  // it could not be written; likewise
	from int64 // where rec begins

	silence []int16
}

// newTape returns a call's tape, which runs already where no consent is awaited.
func (d *desk) newTape(ctx context.Context, v *control.Serving, rate int, ordered bool, log *slog.Logger) *tape {
	t := &tape{desk: d, call: v, rate: rate, log: log, ctx: ctx, mode: v.Agent.Settings.RecordingMode(), silence: make([]int16, media.Samples(media.Ptime, rate))}
	switch {
	case t.mode == control.RecordingOff:
	case t.mode == control.RecordingOn:
		t.run("")
	case ordered:
		t.run(control.ConsentOrdered)
	case v.FirstTurn > 0 && d.hasRecording(ctx, v.Call): // the call came back; before, it had been given
		t.run(consentBy(t.mode))
	}
	return t
}

func consentBy(mode string) string {
	if mode == control.RecordingAsk {
		return control.ConsentAnswered
	}
	return control.ConsentAnnounced
}

// run begins the recording, once, at what has been heard by then.
func (t *tape) run(consent string) {
	t.once.Do(func() {
		t.from = t.seen.Load()
		if r := t.desk.record(t.ctx, t.call, t.rate, t.from, t.log); r != nil {
			r.consent = consent
			t.rec.Store(r)
		}
	})
}

// agreed begins the recording beside the conversation, which waits for no file.
func (t *tape) agreed(consent string) { t.opens.Go(func() { t.run(consent) }) }

// write takes a stretch of the call. A recording that fails ends by itself alone.
func (t *tape) write(caller, agent []int16) {
	before := t.seen.Add(int64(len(caller))) - int64(len(caller))
	r := t.rec.Load()
	if r == nil || t.gone {
		return
	}
	err := error(nil)
	for t.upTo = max(t.upTo, t.from); err == nil && t.upTo < before; {
		n := min(before-t.upTo, int64(len(t.silence)))
		err, t.upTo = r.wav.Write(t.silence[:n], t.silence[:n]), t.upTo+n
	}
	if err == nil {
		err, t.upTo = r.wav.Write(caller, agent), t.upTo+int64(len(caller))
	}
	if err != nil {
		t.log.Error("recording stopped", "err", err)
		t.gone = true
	}
}

// close puts the recording in place and returns its key, "" if there is none.
func (t *tape) close() string {
	t.opens.Wait()
	r := t.rec.Load()
	if r == nil {
		return ""
	}
	t.call.Recorded = control.Recording{Bytes: r.wav.Size(), Length: r.wav.Length(), Consent: r.consent}
	key := r.close(t.log)
	if key == "" {
		t.desk.unrecorded(t.ctx, t.call.Call, "end", "the recording could not be written to its end", t.log)
	}
	return key
}

// watching has the journal tell of consent, where it is awaited.
func (t *tape) watching(j agent.Journal) agent.Journal {
	if t.mode != control.RecordingAnnounce && t.mode != control.RecordingAsk {
		return j
	}
	return &consentWatch{Journal: j, tape: t}
}

// A consentWatch looks for consent in what is said, or in what a flow comes to.
type consentWatch struct {
	agent.Journal
	tape *tape
}

// Turn implements [agent.Journal]. The notice is the agent's first words: one
// that was cut short was not given, and the next of its turns is none.
func (w *consentWatch) Turn(ctx context.Context, t agent.Turn) {
	w.Journal.Turn(ctx, t)
	if w.tape.mode == control.RecordingAnnounce && t.Speaker == "agent" && t.Index == 0 && !t.Interrupted && t.Heard != "" && t.Heard == t.Generated {
		w.tape.agreed(control.ConsentAnnounced)
	}
}

// Commit implements [agent.Journal].
func (w *consentWatch) Commit(ctx context.Context, c agent.Commit) {
	w.Journal.Commit(ctx, c)
	if w.tape.mode != control.RecordingAsk {
		return
	}
	var state struct {
		Variables map[string]json.RawMessage `json:"variables"`
	}
	if json.Unmarshal(c.State, &state) == nil && agrees(state.Variables[control.RecordingConsent]) {
		w.tape.agreed(control.ConsentAnswered)
	}
}

// agrees tells whether a flow's variable is a yes.
func agrees(value json.RawMessage) bool {
	switch string(value) {
	case `true`, `"true"`, `"yes"`:
		return true
	}
	return false
}
