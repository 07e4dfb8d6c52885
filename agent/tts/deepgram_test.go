package tts

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"parley/agent"
	"parley/agent/providertest"
)

// level speaks each text at a level of its own, so that a test sees whose audio
// it got: 100 ms a character.
func level(text string, rate int) []int16 {
	return slices.Repeat([]int16{1000 * int16(len(text))}, len(text)*rate/10)
}

func dialTestDeepgram(t *testing.T, s providertest.DeepgramSpeakScript, o Options) (*providertest.DeepgramSpeak, *deepgramVoice) {
	t.Helper()
	server := providertest.NewDeepgramSpeak(s)
	t.Cleanup(server.Close)
	o.URL, o.FirstByte = server.URL, cmp.Or(o.FirstByte, time.Minute) // a busy machine is no silent vendor
	v, err := Vendors["deepgram"].Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return server, v.(*deepgramVoice)
}

// saying returns all samples of a clause.
func saying(t *testing.T, v agent.TTS, c agent.Clause) (pcm []int16, words []agent.Word) {
	t.Helper()
	for s, err := range v.Say(t.Context(), c) {
		if err != nil {
			t.Fatalf("say %q: %v", c.Text, err)
		}
		pcm, words = append(pcm, s.PCM...), append(words, s.Words...)
	}
	return pcm, words
}

// dials counts the sockets that were opened.
func dials(requests []providertest.Request) (n int) {
	for _, r := range requests {
		if r.Path != "message" {
			n++
		}
	}
	return n
}

// What a given-up clause still sends never reaches the next, whether it was
// broken off or its context ended.
func TestDeepgramAbandons(t *testing.T) {
	for _, name := range []string{"answers", "late", "deaf"} {
		t.Run(name, func(t *testing.T) {
			deaf := name == "deaf"
			server, v := dialTestDeepgram(t, providertest.DeepgramSpeakScript{
				Speech: level, Deaf: deaf, Late: name == "late",
				Hold: func(text string) (int, bool) { return 4000, text == "0123456789" },
			}, Options{})
			for i := range 4 {
				ctx, cancel := context.WithCancel(t.Context())
				for s, err := range v.Say(ctx, agent.Clause{Text: "0123456789"}) {
					if i%2 == 1 && err == nil {
						cancel()
						continue
					}
					if err != nil && !errors.Is(err, context.Canceled) || len(s.PCM) > 0 && s.PCM[0] != 10000 {
						t.Fatalf("first clause gave %v, %v", s.PCM[:min(3, len(s.PCM))], err)
					}
					break
				}
				cancel()
				got, _ := saying(t, v, agent.Clause{Text: "abc"})
				if want := level("abc", 16000); !slices.Equal(got, want) {
					t.Fatalf("round %d: %d samples, want %d of the new clause alone", i, len(got), len(want))
				}
			}
			if n := dials(server.Requests()); (n == 1) == deaf {
				t.Errorf("%d sockets; a vendor that answers Clear keeps its own", n)
			}
		})
	}
}

func TestDeepgramRedialsDeadSocket(t *testing.T) {
	server, v := dialTestDeepgram(t, providertest.DeepgramSpeakScript{Speech: level}, Options{})
	for i := range 3 {
		if got, _ := saying(t, v, agent.Clause{Text: "abc"}); len(got) != 4800 {
			t.Fatalf("clause %d: %d samples", i, len(got))
		}
		server.Cut()
	}
	if n := dials(server.Requests()); n < 3 || n > 4 { // the last is kept for later
		t.Errorf("%d sockets, want 3 or 4", n)
	}
}

// The vendor hangs up after an hour, in the middle of a clause if it must.
func TestDeepgramLeavesOldSocket(t *testing.T) {
	server, v := dialTestDeepgram(t, providertest.DeepgramSpeakScript{Speech: level}, Options{})
	saying(t, v, agent.Clause{Text: "abc"})
	v.socket.Born = v.socket.Born.Add(-deepgramLife)
	saying(t, v, agent.Clause{Text: "abc"})
	if n := dials(server.Requests()); n != 2 {
		t.Errorf("%d sockets, want a new one before the hour is over", n)
	}
}

// Fifty clauses in a moment break no limit, and all are spoken.
func TestDeepgramFlushLimit(t *testing.T) {
	server, v := dialTestDeepgram(t, providertest.DeepgramSpeakScript{Speech: level}, Options{})
	for i := range 50 {
		if got, _ := saying(t, v, agent.Clause{Text: "ab"}); len(got) != 3200 {
			t.Fatalf("clause %d: %d samples, want 3200", i, len(got))
		}
	}
	if n := dials(server.Requests()); n != 3 {
		t.Errorf("%d sockets for 50 clauses, want 3", n)
	}
}

func TestDeepgramWindowPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &deepgramVoice{}
		for range deepgramFlushes {
			if v.spent() {
				t.Fatal("spent too early")
			}
			v.flushes = append(v.flushes, time.Now())
			time.Sleep(time.Second) // of the bubble's own clock
		}
		if !v.spent() {
			t.Error("not spent after twenty")
		}
		time.Sleep(deepgramWindow - deepgramFlushes*time.Second)
		if v.spent() {
			t.Error("still spent when the first is a minute ago")
		}
	})
}

func TestDeepgramLongClauseSharesFlush(t *testing.T) {
	server, v := dialTestDeepgram(t, providertest.DeepgramSpeakScript{Speech: func(text string, _ int) []int16 { return make([]int16, len(text)) }}, Options{})
	text := strings.TrimSpace(strings.Repeat("word ", 1000))
	if got, _ := saying(t, v, agent.Clause{Text: text}); len(got) < len(text) {
		t.Errorf("%d characters were spoken of %d", len(got), len(text))
	}
	var speaks, flushes int
	for _, r := range server.Requests() {
		speaks += strings.Count(string(r.Body), `"Speak"`)
		flushes += strings.Count(string(r.Body), `"Flush"`)
	}
	if speaks != 3 || flushes != 1 {
		t.Errorf("%d Speak and %d Flush, want 3 and 1", speaks, flushes)
	}
}

func TestDeepgramTelephone(t *testing.T) {
	_, v := dialTestDeepgram(t, providertest.DeepgramSpeakScript{Speech: level}, Options{Telephone: true})
	got, _ := saying(t, v, agent.Clause{Text: "abc"})
	if v.Rate() != 8000 || len(got) != 2400 || got[0] < 2900 || got[0] > 3100 {
		t.Errorf("%d samples at %d Hz from %d, want 2400 at 8000 near 3000", len(got), v.Rate(), got[0])
	}
}

func TestDeepgramModel(t *testing.T) {
	for _, tt := range []struct{ model, voice, want string }{
		{"aura-2", "thalia", "aura-2-thalia-en"},
		{"aura-2", "nestor-es", "aura-2-nestor-es"},
		{"aura-asteria-en", "thalia", "aura-asteria-en"},
	} {
		v := deepgramVoice{o: Options{Model: tt.model, Voice: tt.voice}}
		if got := v.model(); got != tt.want {
			t.Errorf("model %s, voice %s: got %s, want %s", tt.model, tt.voice, got, tt.want)
		}
	}
}

// Fields by Deepgram's asyncapi of /v1/speak (metadataResponse and
// controlMessagesResponse, 2025); types and Warning as its pages on
// tts-ws-flush and tts-ws-clear spell them.
func TestDeepgramStandInKeepsToTheDocument(t *testing.T) {
	fields := map[string][]string{
		"Metadata": {"type", "request_id", "model_name", "model_version", "model_uuid"},
		"Flushed":  {"type", "sequence_id"},
		"Cleared":  {"type", "sequence_id"},
		"Warning":  {"type", "code", "description"},
	}
	server := providertest.NewDeepgramSpeak(providertest.DeepgramSpeakScript{})
	defer server.Close()
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http")+"/v1/speak?model=aura-2-thalia-en&encoding=linear16&sample_rate=16000", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := []string{`{"type":"Speak","text":"a"}`, `{"type":"Clear"}`}
	for range 21 {
		send = append(send, `{"type":"Flush"}`)
	}
	for _, m := range append(send, `{"type":"Close"}`) {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for {
		kind, b, err := conn.ReadMessage()
		if err != nil {
			if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("ended by %v", err)
			}
			break
		}
		if kind != websocket.TextMessage {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		name, _ := m["type"].(string)
		seen[name] = true
		for _, f := range fields[name] {
			if _, ok := m[f]; !ok {
				t.Errorf("%s lacks %s: %s", name, f, b)
			}
		}
	}
	for name := range fields {
		if !seen[name] {
			t.Errorf("no %s came", name)
		}
	}
}

func TestParseDeepgram(t *testing.T) {
	for _, tt := range []struct {
		in, kind string
		err      error
	}{
		{`{"type":"Flushed","sequence_id":0}`, "flushed", nil},
		{`{"type":"flush"}`, "flushed", nil},
		{`{"type":"Cleared"}`, "cleared", nil},
		{`{"type":"Metadata"}`, "metadata", nil},
		{`{"error_code":429,"error_message":"x","request_id":"y"}`, "", agent.ErrBusy},
		{`{"error_code":401}`, "", agent.ErrCredentials},
		{`{"type":"Error","code":"` + providertest.Canary + `"}`, "", agent.ErrUnavailable},
		{`nonsense`, "", agent.ErrProtocol},
	} {
		kind, _, err := parseDeepgram([]byte(tt.in))
		if kind != tt.kind || !errors.Is(err, tt.err) || err != nil && strings.Contains(err.Error(), providertest.Canary) {
			t.Errorf("%s: got %q, %v; want %q, %v", tt.in, kind, err, tt.kind, tt.err)
		}
	}
}

func FuzzParseDeepgram(f *testing.F) {
	for _, s := range []string{`{"type":"Flushed","sequence_id":0}`, `{"type":"Warning","code":"X Y"}`, `{"error_code":-1}`, `{"type":7}`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, code, err := parseDeepgram(b)
		if err == nil && (kind != strings.ToLower(kind) || len(code) > 300) || err != nil && kind+code != "" {
			t.Errorf("%q gave %q, %q, %v", b, kind, code, err)
		}
	})
}
