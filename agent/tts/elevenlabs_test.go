package tts

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"parley/agent"
	"parley/agent/providertest"
)

func dialTestEleven(t *testing.T, s providertest.ElevenLabsScript, o Options) (*providertest.ElevenLabs, *elevenVoice) {
	t.Helper()
	server := providertest.NewElevenLabs(s)
	t.Cleanup(server.Close)
	o.URL, o.FirstByte = server.URL, cmp.Or(o.FirstByte, time.Minute) // a busy machine is no silent vendor
	v, err := Vendors["elevenlabs"].Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return server, v.(*elevenVoice)
}

// texts joins words; times must rise and stay within the clause.
func texts(t *testing.T, words []agent.Word, length time.Duration) string {
	t.Helper()
	var out []string
	var last time.Duration
	for _, w := range words {
		if w.Start < last || w.End < w.Start || w.End > length {
			t.Errorf("word %+v after %v of %v", w, last, length)
		}
		last = w.Start
		out = append(out, w.Text)
	}
	return strings.Join(out, " ")
}

// sentTo collects what a stand-in got, by the field that a message carries.
func sentTo(server *providertest.ElevenLabs) (contexts []string, flushes, closes int) {
	for _, r := range server.Requests() {
		var m struct {
			Context string `json:"context_id"`
			Flush   bool   `json:"flush"`
			Close   bool   `json:"close_context"`
		}
		if json.Unmarshal(r.Body, &m) != nil {
			continue
		}
		if m.Context != "" && !slices.Contains(contexts, m.Context) {
			contexts = append(contexts, m.Context)
		}
		if m.Flush {
			flushes++
		}
		if m.Close {
			closes++
		}
	}
	return contexts, flushes, closes
}

func TestElevenTurnsAreContexts(t *testing.T) {
	server, v := dialTestEleven(t, providertest.ElevenLabsScript{Speech: level}, Options{Speed: 1.1})
	for _, c := range []agent.Clause{
		{Text: "Well then.", Turn: 1}, {Text: "How are you?", Turn: 1}, {Text: "Goodbye now.", Turn: 1, Last: true},
		{Text: "Once more.", Turn: 2}, {Text: "And again.", Turn: 3},
	} {
		pcm, words := saying(t, v, c)
		if !slices.Equal(pcm, level(c.Text, 16000)) {
			t.Errorf("%q: %d samples, want %d of its own", c.Text, len(pcm), len(level(c.Text, 16000)))
		}
		if got := texts(t, words, time.Duration(len(c.Text))*100*time.Millisecond); got != c.Text {
			t.Errorf("words %q, want %q", got, c.Text)
		}
	}
	contexts, flushes, closes := sentTo(server)
	if len(contexts) != 3 || flushes != 5 || closes != 2 || dials(server.Requests()) != 1 {
		t.Errorf("contexts %v, %d flushes, %d closed, %d sockets; want 3, 5, 2 and 1", contexts, flushes, closes, dials(server.Requests()))
	}
}

// The rest of a given-up clause comes amid the next one, and is not taken.
func TestElevenAbandons(t *testing.T) {
	server, v := dialTestEleven(t, providertest.ElevenLabsScript{
		Speech: level, Hold: func(text string) bool { return text == "a long sentence" },
	}, Options{})
	for turn := range uint64(8) {
		ctx, cancel := context.WithCancel(t.Context())
		for s, err := range v.Say(ctx, agent.Clause{Text: "a long sentence", Turn: 2 * turn}) {
			if turn%2 == 1 && err == nil {
				cancel()
				continue
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatalf("first clause gave %d samples, %v", len(s.PCM), err)
			}
			break
		}
		cancel()
		got, words := saying(t, v, agent.Clause{Text: "abc", Turn: 2*turn + 1, Last: true})
		if want := level("abc", 16000); !slices.Equal(got, want) || texts(t, words, 300*time.Millisecond) != "abc" {
			t.Fatalf("turn %d: %d samples, words %v", turn, len(got), words)
		}
	}
	if n := dials(server.Requests()); n != 1 {
		t.Errorf("%d sockets, want 1: ended contexts leave room", n)
	}
}

// Without character times the context's close tells the clause's end.
func TestElevenWithoutAlignment(t *testing.T) {
	server, v := dialTestEleven(t, providertest.ElevenLabsScript{Speech: level, Unplace: true}, Options{})
	for _, text := range []string{"Well then.", "How are you?"} {
		if got, words := saying(t, v, agent.Clause{Text: text, Turn: 1}); !slices.Equal(got, level(text, 16000)) || words != nil {
			t.Errorf("%q: %d samples, words %v", text, len(got), words)
		}
	}
	if contexts, _, closes := sentTo(server); len(contexts) != 2 || closes != 2 {
		t.Errorf("contexts %v, %d closed; want 2 and 2", contexts, closes)
	}
}

// A vendor that never ends contexts gets a new socket before the sixth.
func TestElevenContextLimit(t *testing.T) {
	server, v := dialTestEleven(t, providertest.ElevenLabsScript{Speech: level, Endless: true}, Options{})
	for turn := range uint64(12) {
		if got, _ := saying(t, v, agent.Clause{Text: "abc", Turn: turn}); len(got) != 4800 {
			t.Fatalf("turn %d: %d samples", turn, len(got))
		}
	}
	if n := dials(server.Requests()); n != 3 {
		t.Errorf("%d sockets for 12 contexts, want 3", n)
	}
}

func TestElevenTelephone(t *testing.T) {
	_, v := dialTestEleven(t, providertest.ElevenLabsScript{Speech: level}, Options{Telephone: true})
	got, _ := saying(t, v, agent.Clause{Text: "abc"})
	if v.Rate() != 8000 || len(got) != 2400 || got[0] < 2900 || got[0] > 3100 {
		t.Errorf("%d samples at %d Hz, want 2400 at 8000 near 3000", len(got), v.Rate())
	}
}

// An idle context is kept, a closed one is not spoken of again.
func TestElevenKeepsContext(t *testing.T) {
	server, v := dialTestEleven(t, providertest.ElevenLabsScript{Speech: level}, Options{})
	saying(t, v, agent.Clause{Text: "abc", Turn: 1})
	kept := func() (n int) {
		saying(t, v, agent.Clause{Text: "d", Turn: 1}) // all before it has arrived then
		for _, r := range server.Requests() {
			n += strings.Count(string(r.Body), `"text":"",`)
		}
		return n
	}
	idle := func() {
		v.mu.Lock()
		v.touched = time.Now().Add(-elevenKeep)
		v.mu.Unlock()
		if err := v.keep(v.socket); err != nil {
			t.Fatal(err)
		}
	}
	idle()
	if err := v.keep(v.socket); err != nil { // it was just heard of
		t.Fatal(err)
	}
	if n := kept(); n != 1 {
		t.Errorf("kept %d times, want once", n)
	}
	if err := v.leave(); err != nil {
		t.Fatal(err)
	}
	idle()
	if n := kept(); n != 1 {
		t.Errorf("a closed context was kept: %d times", n)
	}
}

// A word is spread over two messages, whose times each count from their own
// audio; nonsense stays within it.
func TestAligner(t *testing.T) {
	var a aligner
	ms := time.Millisecond
	n := a.add(elevenAlignment{Chars: []string{"H", "i", " ", "y"}, Starts: []float64{0, 50, 80, 100}, Durations: []float64{50, 30, 20, 100}}, 0, 200*ms)
	n += a.add(elevenAlignment{Chars: []string{"o", "u", " ", "!"}, Starts: []float64{0, 60, 80, 1e7}, Durations: []float64{60, 20, 20, -5}}, 200*ms, 300*ms)
	want := []agent.Word{{Text: "Hi", Start: 0, End: 80 * ms}, {Text: "you", Start: 100 * ms, End: 280 * ms}, {Text: "!", Start: 300 * ms, End: 300 * ms}}
	if got := a.end(300 * ms); !slices.Equal(got, want) || n != 6 {
		t.Errorf("%d letters, words %v; want 6, %v", n, got, want)
	}
}

func TestElevenVoiceIsAnID(t *testing.T) {
	for _, voice := range []string{"../admin", "a?b", "a b"} {
		if _, err := Vendors["elevenlabs"].Dial(t.Context(), Options{Voice: voice}); !errors.Is(err, agent.ErrProtocol) {
			t.Errorf("voice %q: %v, want ErrProtocol", voice, err)
		}
	}
}

func TestElevenErrors(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want error
	}{
		{`{"message":"Maximum simultaneous contexts exceeded (5).","error":"max_active_conversations","code":1008}`, agent.ErrBusy},
		{`{"message":"` + providertest.Canary + `","error":"invalid_api_key","code":1008}`, agent.ErrCredentials},
		{`{"message":"x","error":"quota_exceeded","code":1008}`, agent.ErrCredentials},
		{`{"message":"x","error":"internal_error"}`, agent.ErrUnavailable},
		{`{"error":"` + providertest.Canary + `"}`, agent.ErrProtocol},
		{`{"audio":"*"}`, agent.ErrProtocol},
		{`{`, agent.ErrProtocol},
	} {
		_, err := parseEleven([]byte(tt.in))
		if !errors.Is(err, tt.want) || strings.Contains(err.Error(), providertest.Canary) {
			t.Errorf("%s: got %v, want %v", tt.in, err, tt.want)
		}
	}
	for _, in := range []string{`{"isFinal":true,"contextId":"c1"}`, `{"is_final":true,"context_id":"c1"}`} {
		if m, err := parseEleven([]byte(in)); err != nil || !m.final || m.context != "c1" {
			t.Errorf("%s: got %+v, %v", in, m, err)
		}
	}
}

// Fields by ElevenLabs' asyncapi of multi-stream-input (audioOutputMulti and
// finalOutputMulti, 2025): camelCase from the server.
func TestElevenStandInKeepsToTheDocument(t *testing.T) {
	server := providertest.NewElevenLabs(providertest.ElevenLabsScript{})
	defer server.Close()
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http")+"/v1/text-to-speech/v/multi-stream-input?model_id=eleven_flash_v2_5&output_format=pcm_16000", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, m := range []string{
		`{"text":" ","context_id":"c1"}`, `{"text":"Hi. ","context_id":"c1"}`, `{"context_id":"c1","flush":true}`,
		`{"context_id":"c1","close_context":true}`, `{"context_id":"c2","flush":true}`,
	} {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	fields := map[string][]string{
		"audio": {"audio", "contextId", "alignment", "normalizedAlignment"},
		"final": {"isFinal", "contextId"},
		"error": {"message", "error", "code"},
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
		kind := "audio"
		if m["isFinal"] == true {
			kind = "final"
		} else if m["error"] != nil {
			kind = "error"
		}
		seen[kind] = true
		for _, f := range fields[kind] {
			if _, ok := m[f]; !ok {
				t.Errorf("%s lacks %s: %s", kind, f, b)
			}
		}
		if a, ok := m["alignment"].(map[string]any); kind == "audio" && (!ok || a["chars"] == nil || a["charStartTimesMs"] == nil || a["charsDurationsMs"] == nil) {
			t.Errorf("alignment %v", m["alignment"])
		}
	}
	if len(seen) != len(fields) {
		t.Errorf("saw %v", seen)
	}
}

func FuzzParseEleven(f *testing.F) {
	for _, s := range []string{
		`{"audio":"AAAA","isFinal":null,"contextId":"c1","alignment":{"chars":["H","i"," "],"charStartTimesMs":[0,60,90],"charsDurationsMs":[60,30,10]}}`,
		`{"audio":null,"alignment":{"chars":["a","b"],"charStartTimesMs":[-1],"charsDurationsMs":[1e300]}}`,
		`{"isFinal":true,"contextId":"c1"}`, `{"message":"m","error":"e","code":1008}`, `{"alignment":{"chars":[""]}}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseEleven(b)
		if err != nil {
			return
		}
		var a aligner
		a.add(m.alignment, 0, time.Second)
		a.add(m.alignment, time.Second, 2*time.Second)
		texts(t, a.end(2*time.Second), 2*time.Second)
	})
}
