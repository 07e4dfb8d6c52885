package main

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
	"parley/media"
)

// brittle is a blob store that fails where it is told to.
type brittle struct {
	control.Blobs
	at string // "open", "write", "close"
}

var errDisk = errors.New("no space left")

func (b brittle) Create(ctx context.Context, key string) (io.WriteCloser, error) {
	if b.at == "open" {
		return nil, errDisk
	}
	w, err := b.Blobs.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	return &brittleWriter{w.(io.WriteSeeker), w, b.at, 0}, nil
}

type brittleWriter struct {
	io.WriteSeeker
	below   io.Closer
	at      string
	written int
}

func (w *brittleWriter) Write(p []byte) (int, error) {
	if w.written += len(p); w.at == "write" && w.written > 40_000 { // some seconds are there
		return 0, errDisk
	}
	return w.WriteSeeker.Write(p)
}

func (w *brittleWriter) Close() error {
	if w.at == "close" {
		return errDisk
	}
	return w.below.Close()
}

// unrecorded is what the metric counts.
func (w *wired) unrecorded(at string) (n float64) {
	w.t.Helper()
	all, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			if f.GetName() == "parley_recordings_failed_total" && m.GetLabel()[0].GetValue() == at {
				n = m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// taped serves a call whose legs and journal the test plays.
func (w *wired) taped(agentID uuid.UUID, change func(*control.AgentSettings)) (context.Context, *control.Serving) {
	w.t.Helper()
	call, err := w.calls.Arrive(w.t.Context(), control.Arrival{Carrier: "webrtc", Agent: agentID.String()})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, v, err := w.calls.Begin(w.t.Context(), call.ID.String(), func(string) {})
	if err != nil {
		w.t.Fatal(err)
	}
	change(&v.Agent.Settings)
	return ctx, v
}

// A recording that cannot be written does not end its call, and is reported: by
// an event, on the call, and in a metric.
func TestRecordingCannotBeWritten(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	good := w.desk.blobs
	frame := make([]int16, 160)
	for _, tt := range []struct{ at, metric, reason string }{
		{"open", "begin", "the recording could not be begun"},
		{"write", "end", "the recording could not be written to its end"},
		{"close", "end", "the recording could not be written to its end"},
	} {
		t.Run(tt.at, func(t *testing.T) {
			w.desk.blobs = brittle{good, tt.at}
			defer func() { w.desk.blobs = good }()
			ctx, v := w.taped(made.Agents[0].ID, func(s *control.AgentSettings) { s.Recording = control.RecordingOn })
			before := w.unrecorded(tt.metric)
			tape := w.desk.newTape(ctx, v, 8000, false, w.log)
			heard := newEarshot(w.calls.Hub, v, 8000, tape, w.log)
			for range 50 * 6 {
				if err := heard.Write(frame, frame); err != nil {
					t.Fatalf("the call hears of it: %v", err)
				}
			}
			if key := tape.close(); key != "" {
				t.Errorf("a recording at %q", key)
			}
			if err := w.calls.Finish(ctx, v, agent.Ending{Reason: "goodbye"}, ""); err != nil {
				t.Fatal(err)
			}
			if n := w.unrecorded(tt.metric) - before; n != 1 {
				t.Errorf("counted %v times", n)
			}
			in := control.WithTenant(t.Context(), v.Call.Tenant)
			m, err := w.gateway.db.CallMeasures(in, v.Call.ID)
			if err != nil || m.RecordingFailure != tt.reason {
				t.Errorf("the call says %q, %v", m.RecordingFailure, err)
			}
			events, err := w.gateway.db.SessionEvents(in, v.Call.ID, 0, 50)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, e := range events {
				if e.Type == "call_recording_failed" {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%d events, want 1", n)
			}
			c, err := w.gateway.db.Call(in, v.Call.ID)
			if err != nil || c.Status != control.CallEnded || c.EndReason != "goodbye" || c.Recording != "" {
				t.Errorf("the call: %+v, %v", c, err)
			}
		})
	}
}

// Without consent nothing is stored; from it on, in its place.
func TestRecordingAwaitsConsent(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	notice := agent.Turn{Index: 0, Speaker: "agent", Generated: "This call is recorded.", Heard: "This call is recorded."}
	cut := notice
	cut.Heard, cut.Interrupted = "This call", true
	later := notice
	later.Index = 2
	commit := func(vars string) agent.Commit {
		return agent.Commit{Revision: 1, State: []byte(`{"variables":` + vars + `}`)}
	}
	for _, tt := range []struct {
		name, mode string
		ordered    bool
		turns      []agent.Turn
		commit     string
		want       string // consent; "" for nothing stored
	}{
		{"notice-heard", "announce", false, []agent.Turn{notice}, "", "announced"},
		{"notice-cut", "announce", false, []agent.Turn{cut, later}, "", ""},
		{"no-notice", "announce", false, nil, "", ""},
		{"notice-is-no-answer", "ask", false, []agent.Turn{notice}, "", ""},
		{"agreed", "ask", false, nil, `{"recording_consent":true}`, "answered"},
		{"refused", "ask", false, nil, `{"recording_consent":false}`, ""},
		{"ordered", "ask", true, nil, "", "ordered"},
		{"off", "off", true, []agent.Turn{notice}, `{"recording_consent":true}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, v := w.taped(made.Agents[0].ID, func(s *control.AgentSettings) { s.Recording = tt.mode })
			tape := w.desk.newTape(ctx, v, 8000, tt.ordered, w.log)
			journal := tape.watching(nothing{})
			loud := make([]int16, 160)
			for i := range loud {
				loud[i] = 8000
			}
			for range 50 { // a second before anything is said
				tape.write(loud, loud)
			}
			for _, turn := range tt.turns {
				journal.Turn(ctx, turn)
			}
			if tt.commit != "" {
				journal.Commit(ctx, commit(tt.commit))
			}
			tape.opens.Wait()
			for range 100 {
				tape.write(loud, loud)
			}
			key := tape.close()
			if err := w.calls.Finish(ctx, v, agent.Ending{Reason: "goodbye"}, key); err != nil {
				t.Fatal(err)
			}
			in := control.WithTenant(t.Context(), v.Call.Tenant)
			list, err := w.gateway.db.Recordings(in, control.RecordingFilter{Call: v.Call.ID})
			if err != nil || len(list) != map[bool]int{true: 1}[tt.want != ""] {
				t.Fatalf("%d recordings, %v", len(list), err)
			}
			if tt.want == "" {
				if w.desk.hasRecording(ctx, v.Call) {
					t.Error("a file is there")
				}
				return
			}
			if r := list[0].Recording; r.Consent != tt.want || r.Length.Seconds() != 3 {
				t.Errorf("%+v, want consent %s and 3 s", r, tt.want)
			}
			blob, err := w.recordings.Open(in, key)
			if err != nil {
				t.Fatal(err)
			}
			defer blob.Close()
			_, _, pcm, err := media.ReadWAV(blob)
			if err != nil {
				t.Fatal(err)
			}
			silent := pcm[0] == 0 && pcm[2*8000-1] == 0
			if heard := pcm[2*8000+2] != 0; !heard || silent == tt.ordered {
				t.Errorf("what was said before is silence: %v, after: %v", silent, heard)
			}
		})
	}
}

// nothing is a journal that keeps nothing.
type nothing struct{}

func (nothing) Turn(context.Context, agent.Turn)     {}
func (nothing) Commit(context.Context, agent.Commit) {}
