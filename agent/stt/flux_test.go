package stt

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"parley/agent"
	"parley/agent/providertest"
	"parley/agent/socket"
	"parley/media"
)

func turnInfo(event string, turn int64, end float64, text string) fluxMessage {
	return fluxMessage{Type: "TurnInfo", Event: event, TurnIndex: turn, End: end, Transcript: text}
}

// summary tells transcripts apart by what a session would do with them.
func summary(ts ...agent.Transcript) string {
	var out []string
	for _, t := range ts {
		s := t.Text
		for _, f := range []struct {
			on   bool
			mark string
		}{{t.Final, "final"}, {t.EOU, "eou"}, {t.Eager, "eager"}, {t.Flushed, "flushed"}} {
			if f.on {
				s += "|" + f.mark
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

// Each step is a TurnInfo, a pause or the passing of time.
func TestFluxTurn(t *testing.T) {
	type step struct {
		info  *fluxMessage
		pause string // "on", "off"
		at    time.Duration
		wait  time.Duration
		want  string
	}
	said := func(event string, turn int64, end float64, text, want string) step {
		m := turnInfo(event, turn, end, text)
		return step{info: &m, want: want}
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"model-ends", []step{
			said("StartOfTurn", 0, 0.5, "yes", "yes"),
			said("Update", 0, 0.75, "yes please", "yes please"),
			{pause: "on", at: time.Second},
			said("EndOfTurn", 0, 1.2, "Yes, please.", "Yes, please.|final|eou|flushed"),
			{wait: time.Second},
		}},
		{"eager-then-resumed", []step{
			said("StartOfTurn", 0, 0.5, "yes", "yes"),
			said("EagerEndOfTurn", 0, 0.75, "yes", "yes|eager"),
			said("TurnResumed", 0, 1, "yes and", "yes and"),
			said("EndOfTurn", 0, 2, "yes and no", "yes and no|final|eou"),
		}},
		{"model-was-first", []step{
			said("StartOfTurn", 0, 0.5, "yes", "yes"),
			said("EndOfTurn", 0, 1, "yes", "yes|final|eou"),
			{pause: "on", at: 1020 * time.Millisecond, want: "|final|flushed"},
		}},
		{"forced", []step{
			said("StartOfTurn", 0, 0.5, "yes", "yes"),
			{pause: "on", at: 2 * time.Second},
			{wait: fluxForce, want: "force"},
			{info: &fluxMessage{Type: "TurnInfo", Event: "EndOfTurn", End: 1, Transcript: "yes", Trigger: "manual"}, want: "yes|final|flushed"},
		}},
		{"deaf", []step{
			said("StartOfTurn", 0, 0.5, "one two", "one two"),
			{pause: "on", at: time.Second},
			{wait: fluxForce, want: "force"},
			{wait: fluxFinal - fluxForce, want: "one two|final|flushed"},
			said("Update", 0, 1.5, "One, two, three", "three"),
			said("EndOfTurn", 0, 2, "One, two, three.", "three.|final|eou"),
		}},
		{"noise", []step{
			{pause: "on", at: time.Second},
			said("Update", 0, 0.9, "", ""),
			said("Update", 0, 1.1, "", "|final|flushed"),
		}},
		{"resumed", []step{
			said("StartOfTurn", 0, 0.5, "yes", "yes"),
			{pause: "on", at: time.Second},
			{pause: "off", at: 1100 * time.Millisecond},
			{wait: time.Second},
		}},
		{"older-turn-ends", []step{
			said("StartOfTurn", 0, 0.5, "yes", "yes"),
			{pause: "on", at: 3 * time.Second},
			said("EndOfTurn", 0, 1, "yes", "yes|final|eou"),
			said("StartOfTurn", 1, 2, "no", "no"),
			said("EndOfTurn", 1, 3, "no", "no|final|eou|flushed"),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := fluxTurn{rate: 16000, clock: fluxClock{sent: 1 << 30}}
			now := time.Unix(0, 0)
			for i, s := range tt.steps {
				var got []agent.Transcript
				var force bool
				switch {
				case s.info != nil:
					got = u.info(*s.info)
				case s.pause != "":
					if tr, ok := u.pause(s.pause == "on", s.at, now); ok {
						got = append(got, tr)
					}
				default:
					now = now.Add(s.wait)
					tr, f, ok := u.late(now)
					if force = f; ok {
						got = append(got, tr)
					}
				}
				text := summary(got...)
				if force {
					text = "force"
				}
				if text != s.want {
					t.Fatalf("step %d: got %q, want %q", i, text, s.want)
				}
			}
		})
	}
}

func TestFluxClock(t *testing.T) {
	var c fluxClock
	c.audio(0, 16000)     // 1 s
	c.silence(8000)       // half a second put in
	c.audio(16000, 16000) // 1 s
	c.audio(48000, 16000) // after 1 s that was dropped
	for _, tt := range []struct{ vendor, want time.Duration }{
		{500 * time.Millisecond, 500 * time.Millisecond},
		{1250 * time.Millisecond, time.Second},
		{2 * time.Second, 1500 * time.Millisecond},
		{3 * time.Second, 3500 * time.Millisecond},
		{time.Hour, 4 * time.Second},
		{1 << 62, 4 * time.Second},
	} {
		if got := c.ours(tt.vendor, 16000); got != tt.want {
			t.Errorf("ours(%v) = %v, want %v", tt.vendor, got, tt.want)
		}
	}
}

func TestFluxQuery(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"english", Options{Model: "flux-general-en", Language: "en-US", Rate: 8000}, "encoding=linear16&model=flux-general-en&sample_rate=8000"},
		{"german", Options{Model: "flux-general-en", Language: "de-DE", Rate: 16000}, "encoding=linear16&language_hint=de&model=flux-general-multi&sample_rate=16000"},
		{"thresholds", Options{Model: "flux-general-en", Language: "en", Rate: 8000, TurnThreshold: 0.8, EagerThreshold: 0.1}, "eager_eot_threshold=0.3&encoding=linear16&eot_threshold=0.8&model=flux-general-en&sample_rate=8000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := fluxQuery(tt.o).Encode(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func dialTestFlux(t *testing.T, s providertest.FluxScript, o Options) (*providertest.Flux, agent.STT) {
	t.Helper()
	server := providertest.NewFlux(s)
	t.Cleanup(server.Close)
	o.URL, o.Rate = server.URL, 16000
	stream, err := Vendors["deepgram-flux"].Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Close() })
	return server, stream
}

func speakTo(t *testing.T, s agent.STT) {
	t.Helper()
	pcm := providertest.Tone(strings.Repeat("x", 16), 16000)
	for i := 0; i+320 <= len(pcm); i += 320 {
		if err := s.WriteFrame(media.Frame{Rate: 16000, PCM: pcm[i : i+320]}); err != nil {
			t.Fatal(err)
		}
	}
}

// Nobody tells of a pause and no audio follows: the silence that is fed must
// let the turn end, eagerly first.
func TestFluxFeedsSilence(t *testing.T) {
	_, s := dialTestFlux(t, providertest.FluxScript{Utterances: []string{"book a table"}}, Options{EagerThreshold: 0.4})
	speakTo(t, s)
	eager := false
	for {
		got, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		eager = eager || got.Eager && got.Text == "book a table" && !got.Final
		if !got.EOU {
			continue
		}
		if got.Text != "book a table" || !got.Final || !eager {
			t.Errorf("end %+v, eager %v", got, eager)
		}
		if got.End > 960*time.Millisecond {
			t.Errorf("end at %v of 960ms: silence put in is not the caller's time", got.End)
		}
		return
	}
}

// A vendor that never ends a turn does not keep a pause from being answered.
func TestFluxDeaf(t *testing.T) {
	_, s := dialTestFlux(t, providertest.FluxScript{Utterances: []string{"yes"}, Deaf: true}, Options{})
	speakTo(t, s)
	if err := s.Speech(false); err != nil {
		t.Fatal(err)
	}
	for {
		got, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.Flushed {
			if got.Text != "yes" || !got.Final || got.EOU {
				t.Errorf("flushed by %+v", got)
			}
			return
		}
	}
}

// At most one Configure is on its way, the last wish wins, and nothing is sent
// twice.
func TestFluxConfigure(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	conn, err := socket.Dial(t.Context(), t.Context(), socket.Line{Vendor: "deepgram-flux", Base: server.URL, Limit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	f := &fluxListener{stream: newStream(t.Context(), 16000), conn: conn}
	expect := func(phrases ...string) {
		t.Helper()
		if err := f.event(&event{expect: &agent.Expectation{Phrases: phrases}}, 0); err != nil {
			t.Fatal(err)
		}
	}
	ack := func(b string) {
		t.Helper()
		if err := f.take([]byte(b)); err != nil {
			t.Fatal(err)
		}
	}
	expect() // nothing yet, and nothing wanted
	if f.unacked {
		t.Fatal("configured for nothing")
	}
	expect("sales")
	expect("support")
	expect("billing")
	if !f.unacked || !slices.Equal(f.keyterms, []string{"sales"}) {
		t.Fatalf("on its way %v", f.keyterms)
	}
	ack(`{"type":"ConfigureFailure"}`)
	if !f.unacked || !slices.Equal(f.keyterms, []string{"billing"}) {
		t.Fatalf("then on its way %v", f.keyterms)
	}
	ack(`{"type":"ConfigureSuccess"}`)
	expect("billing")
	if f.unacked {
		t.Error("sent the same terms twice")
	}
	expect()
	if !f.unacked || len(f.keyterms) != 0 {
		t.Error("did not take the terms back")
	}
}

func TestFluxWriteFrameDoesNotAllocate(t *testing.T) {
	s := newStream(t.Context(), 16000)
	f := media.Frame{Rate: 16000, PCM: make([]int16, 320)}
	if n := testing.AllocsPerRun(200, func() { _ = s.WriteFrame(f) }); n != 0 {
		t.Errorf("WriteFrame allocates %v times a frame, want 0", n)
	}
}

// Required fields by Deepgram's asyncapi of /v2/listen (server messages
// ListenV2Connected, ListenV2TurnInfo, ListenV2ConfigureSuccess; 2026).
func TestFluxStandInKeepsToTheDocument(t *testing.T) {
	required := map[string][]string{
		"Connected":        {"type", "request_id", "sequence_id"},
		"TurnInfo":         {"type", "request_id", "sequence_id", "event", "turn_index", "audio_window_start", "audio_window_end", "transcript", "words", "end_of_turn_confidence"},
		"ConfigureSuccess": {"type", "request_id", "thresholds", "keyterms", "sequence_id"},
		"Error":            {"type", "sequence_id", "code", "description"},
	}
	server := providertest.NewFlux(providertest.FluxScript{Utterances: []string{"yes"}})
	defer server.Close()
	address := "ws" + strings.TrimPrefix(server.URL, "http") + "/v2/listen?model=flux-general-en&encoding=linear16&sample_rate=16000"
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), address, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var wire []byte
	for _, v := range providertest.Tone("xxxxxxxx", 16000) {
		wire = append(wire, byte(v), byte(v>>8))
	}
	for _, m := range []string{`{"type":"Configure","keyterms":["a"]}`, string(wire), `{"type":"ForceEndTurn"}`, `{"type":"Finalize"}`} {
		kind := websocket.TextMessage
		if m[0] != '{' {
			kind = websocket.BinaryMessage
		}
		if err := conn.WriteMessage(kind, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for {
		_, b, err := conn.ReadMessage()
		if err != nil {
			break
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		kind, _ := m["type"].(string)
		seen[kind] = true
		for _, f := range required[kind] {
			if _, ok := m[f]; !ok {
				t.Errorf("%s lacks %s: %s", kind, f, b)
			}
		}
	}
	for kind := range required {
		if !seen[kind] {
			t.Errorf("no %s came", kind)
		}
	}
}

// What the stream does by itself comes when it must.
func TestFluxRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fluxListener{stream: newStream(context.Background(), 8000), heard: time.Now()}
		if d := time.Until(f.due()); d != fluxRest {
			t.Errorf("due in %v, want %v", d, fluxRest)
		}
		f.turn.open = true
		if d := time.Until(f.due()); d != fluxQuiet {
			t.Errorf("within a turn due in %v, want %v", d, fluxQuiet)
		}
		f.turn.pause(true, time.Second, time.Now())
		if d := time.Until(f.due()); d != fluxForce {
			t.Errorf("after a pause due in %v, want %v", d, fluxForce)
		}
	})
}

func FuzzParseFlux(f *testing.F) {
	for _, s := range []string{
		`{"type":"Connected","request_id":"r","sequence_id":0}`,
		`{"type":"TurnInfo","event":"Update","turn_index":0,"audio_window_start":0,"audio_window_end":1e300,"transcript":"a","words":[{"word":"a","confidence":7}],"end_of_turn_confidence":0.5}`,
		`{"type":"TurnInfo","event":"EndOfTurn","turn_index":-1,"audio_window_start":9,"audio_window_end":-1,"trigger":"manual"}`,
		`{"type":"Error","code":"INTERNAL_SERVER_ERROR","description":"x"}`, `{"type":"ConfigureSuccess"}`, `[]`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseFlux(b)
		if err != nil {
			return
		}
		u := fluxTurn{rate: 16000}
		u.clock.audio(0, 16000)
		u.pause(true, time.Second, time.Unix(0, 0))
		for _, tr := range append(u.info(m), u.answer()) {
			if tr.Start > tr.End || tr.Start < 0 || tr.Confidence < 0 || tr.Confidence > 1 {
				t.Errorf("%s gave %+v", bytes.TrimSpace(b), tr)
			}
		}
	})
}
