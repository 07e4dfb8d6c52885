package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/agent"
	"parley/agent/providertest"
	"parley/agent/tts"
	"parley/media"
)

// A clerk is a prompt agent with stand-ins of its own for its vendors.
type clerk struct {
	name   string
	models *providertest.OpenAI
	voice  *providertest.OpenAI
	ears   *providertest.Deepgram
}

const greeting = "Hello, this is the bakery. How can I help you?"

// addClerk makes an agent that hears by Deepgram, thinks and speaks by OpenAI.
func (e *endToEnd) addClerk(t *testing.T, name string, said []string, replies ...providertest.Reply) *clerk {
	t.Helper()
	script := providertest.OpenAIScript{Key: providertest.Canary, Replies: replies, Speech: fliteSpeech(t)}
	c := &clerk{name: name, models: providertest.NewOpenAI(script), voice: providertest.NewOpenAI(script),
		ears: providertest.NewDeepgram(providertest.DeepgramScript{Key: providertest.Canary, Utterances: said})}
	t.Cleanup(func() { c.models.Close(); c.voice.Close(); c.ears.Close() })
	e.vendors.connect(t, name+"-llm", c.models.URL)
	e.vendors.connect(t, name+"-tts", c.voice.URL)
	e.vendors.connect(t, name+"-stt", c.ears.URL)
	e.addAgent(t, name, settings{"kind": "prompt", "prompt": "You are the clerk of a bakery.", "greeting": greeting, "record": true,
		"tools":     []string{"end_call", "transfer"},
		"transfers": []settings{{"name": "sales", "to": "+15550142"}},
		"stt":       []settings{{"vendor": "deepgram", "model": name + "-stt"}},
		"llm":       []settings{{"vendor": "openai", "model": name + "-llm"}},
		"tts":       []settings{{"vendor": "openai", "model": name + "-tts", "voice": "alloy"}},
	})
	return c
}

// fliteSpeech has the stand-in say real words.
func fliteSpeech(t *testing.T) func(string) []int16 {
	return func(text string) []int16 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		v, err := tts.Vendors["flite"].Dial(ctx, tts.Options{})
		if err != nil {
			t.Error(err)
			return nil
		}
		defer v.Close()
		pcm, err := speech(ctx, v, text, 24000)
		if err != nil {
			t.Error(err)
		}
		return pcm
	}
}

func endCall(text string) providertest.Reply {
	return providertest.Reply{Text: text, Calls: []agent.ToolCall{{ID: "c1", Name: "end_call", Arguments: "{}"}}}
}

// testPromptAgent talks to a model, which ends the call by its tool.
func testPromptAgent(t *testing.T, e *endToEnd) {
	c := e.addClerk(t, "clerk", []string{"Do you have rye bread?", "That is all, thank you."},
		providertest.Reply{Text: "Yes, we bake rye bread every morning."}, endCall("Thank you for your call. Goodbye."))
	h := e.call(t, c.name, `
wait-speech 20s
wait-quiet 1s
say do you have rye bread
wait-speech 20s
wait-quiet 1s
say that is all thank you
expect-end goodbye
expect-said hello, this is the bakery
expect-recognized rye bread
expect-heard ^Yes, we bake rye bread every morning\.$
expect-heard ^Thank you for your call\. Goodbye\.$
`)
	if h.status != exitOK {
		t.Fatalf("exit status %d:\n%s", h.status, h.log())
	}
	t.Logf("latency by the gateway %v, on the line %v", h.report.LatencyMS, h.report.LineLatencyMS)
	call, turns := e.stored(t, c.name)
	checkStored(t, call, turns, "goodbye")
	checkRecording(t, e, call, turns)
	if len(turns) != 5 {
		t.Errorf("%d turns, want 5: %+v", len(turns), turns)
	}
	for _, n := range turns {
		if n.Speaker != "agent" || n.Index == 0 {
			continue
		}
		for _, step := range []string{"end_of_turn_ms", "first_token_ms", "first_clause_ms", "first_speech_ms", "first_audio_ms"} {
			if n.Latency[step] == 0 || n.Latency[step] < 0 && (step == "end_of_turn_ms" || step == "first_audio_ms") { // begun early
				t.Errorf("turn %d has no %s: %v", n.Index, step, n.Latency)
			}
		}
	}
	if reqs := c.models.Requests(); len(reqs) != 2 || !strings.Contains(string(reqs[1].Body), "rye bread every morning") ||
		!strings.Contains(string(reqs[1].Body), greeting) {
		t.Errorf("the model was not told what was heard: %+v", reqs)
	}
	// The goodbye sounded to its end.
	want := media.Duration(int64(len(fliteSpeech(t)("Thank you for your call. Goodbye."))), 24000)
	heard := stretches(h.agent, h.rate)
	from := heard[len(heard)-1].to - want - 500*time.Millisecond
	var sounded time.Duration
	for _, s := range heard {
		if s.to > from {
			sounded += s.to - max(s.from, from)
		}
	}
	if sounded < want-700*time.Millisecond {
		t.Errorf("of the goodbye's %v sounded %v", want, sounded)
	}
}

// testTransfer connects a caller to somebody else, who answers or is busy.
func testTransfer(t *testing.T, e *endToEnd) {
	connect := providertest.Reply{Text: "One moment, I will connect you.",
		Calls: []agent.ToolCall{{ID: "c1", Name: "transfer", Arguments: `{"to":"sales"}`}}}
	const ask = `
wait-speech 20s
wait-quiet 1s
say I want to talk to sales
`
	t.Run("answered", func(t *testing.T) {
		c := e.addClerk(t, "clerk-transfer", []string{"I want to talk to sales."}, connect)
		h := e.call(t, c.name, ask+"expect-end transfer\nexpect-heard one moment, I will connect you\n")
		if h.status != exitOK {
			t.Fatalf("exit status %d:\n%s", h.status, h.log())
		}
		if !slices.ContainsFunc(h.shown, func(s shown) bool { return s.Type == "transfer" && s.Text == "+15550142" }) {
			t.Errorf("nobody was dialed:\n%s", h.log())
		}
		call, turns := e.stored(t, c.name)
		checkStored(t, call, turns, "transfer")
		if call.TransferTo != "+15550142" || call.Outcome != "completed" {
			t.Errorf("got %+v, want a transfer that succeeded", call)
		}
	})
	t.Run("busy", func(t *testing.T) {
		c := e.addClerk(t, "clerk-busy", []string{"I want to talk to sales.", "No, that is all."}, connect,
			providertest.Reply{Text: "I am sorry, the line is busy. Can I do anything else?"}, endCall("Goodbye then."))
		h := e.call(t, c.name, ask+`
expect-heard the line is busy. can I do anything else
say no that is all
expect-end goodbye
expect-heard goodbye then
`, "--transfer", "busy")
		if h.status != exitOK {
			t.Logf("exit status %d:\n%s", h.status, h.log())
		}
		call, turns := e.stored(t, c.name)
		checkStored(t, call, turns, "goodbye")
		if call.Outcome != "busy" {
			t.Errorf("outcome: got %q, want busy", call.Outcome)
		}
		if reqs := c.models.Requests(); len(reqs) < 2 || !strings.Contains(string(reqs[1].Body), "did not succeed: busy") {
			t.Errorf("the model was not told that the line was busy: %+v", reqs)
		}
	})
}

// A fault is a vendor that misbehaves, and what becomes of the call.
type fault struct {
	kind   string // stt, llm, tts
	manner providertest.Manner
	reason string
	heard  string
}

const sorry = "Sorry, something went wrong on our side."

// testVendorFaults holds calls whose vendors fail: the caller is told, or
// served by another voice, and never left in silence.
func testVendorFaults(t *testing.T, e *endToEnd) {
	var faults []fault
	for _, m := range []providertest.Manner{providertest.Refuses, providertest.Broken, providertest.Silent, providertest.Rude} {
		faults = append(faults, fault{"llm", m, "vendor", sorry}, fault{"stt", m, "vendor", sorry},
			fault{"tts", m, "goodbye", "Goodbye."})
	}
	faults = append(faults, fault{"stt", providertest.Deaf, "vendor", sorry})
	dir := t.TempDir()
	for _, f := range faults {
		c := e.addClerk(t, f.name(), []string{"Do you have rye bread?", "That is all, thank you."},
			providertest.Reply{Text: "Yes, we bake rye bread every morning."}, endCall("Thank you for your call. Goodbye."))
		switch f.kind {
		case "llm":
			c.models.Behave(f.manner)
		case "stt":
			c.ears.Behave(f.manner)
		case "tts":
			c.voice.Behave(f.manner)
		}
	}
	// A few at a time: the calls are mostly waiting, but the machine may be small.
	for group := range slices.Chunk(faults, 4) {
		held, errs := make([]heldCall, len(group)), make([]error, len(group))
		var calls sync.WaitGroup
		for i, f := range group {
			calls.Go(func() { held[i], errs[i] = e.place(t.Context(), dir, f.name(), f.script()) })
		}
		calls.Wait()
		for i, f := range group {
			if errs[i] != nil {
				t.Errorf("%s: %v", f.name(), errs[i])
				continue
			}
			checkFault(t, e, f, held[i])
		}
	}
}

func (f fault) name() string { return fmt.Sprintf("clerk-%s-%s", f.kind, f.manner) }

// script is what the caller does. What fails ends the call amid it, so its acts
// are not judged.
func (f fault) script() string {
	return `
wait-speech 20s
wait-quiet 1s
say do you have rye bread
wait-speech 20s
wait-quiet 1s
say that is all thank you
expect-end ` + f.reason
}

// checkFault looks at what became of a call.
func checkFault(t *testing.T, e *endToEnd, f fault, h heldCall) {
	t.Helper()
	name := f.name()
	call, turns := e.stored(t, name)
	if call.EndReason != f.reason {
		t.Errorf("%s: ended with %q, want %q:\n%s", name, call.EndReason, f.reason, h.log())
	}
	if len(turns) == 0 || !strings.Contains(turns[len(turns)-1].Heard, f.heard) {
		t.Errorf("%s: the last words heard are not %q:\n%s", name, f.heard, h.log())
	}
	// What sounded: the last sentence is not only written.
	if last := stretches(h.agent, h.rate); len(last) == 0 || last[len(last)-1].to < time.Second {
		t.Errorf("%s: nothing sounded: %v", name, last)
	}
	longest, at := longestSilence(h)
	t.Logf("%s: longest silence %v", name, longest)
	if longest > 4*time.Second {
		t.Errorf("%s: %v of silence from %v on:\n%s", name, longest, at, h.log())
	}
}

// longestSilence is the longest that neither side made a sound.
func longestSilence(h heldCall) (longest, at time.Duration) {
	frame, quiet := h.rate/50, time.Duration(0)
	for i := 0; i+frame <= len(h.agent); i += frame {
		if loud(h.agent[i:i+frame]) || loud(h.caller[i:i+frame]) {
			quiet = 0
			continue
		}
		if quiet += media.Ptime; quiet > longest {
			longest, at = quiet, media.Duration(int64(i+frame), h.rate)-quiet
		}
	}
	return longest, at
}

// testCallCommand calls in ways that go wrong.
func testCallCommand(t *testing.T, e *endToEnd) {
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"help", []string{"--help"}, exitOK, "parley call front-desk --text"},
		{"no-agent", nil, exitUsage, "<agent>"},
		{"text-by-telephone", []string{"--via", "twilio", "--text", "front-desk"}, exitUsage, "over webrtc"},
		{"no-script", []string{"--script", "/nonexistent", "front-desk"}, exitUsage, "no such file"},
		{"two-callers", []string{"--text", "--wav", "a.wav", "front-desk"}, exitUsage, "can't be used together"},
		{"unknown-agent", []string{"--via", "twilio", "nobody"}, exitFailed, `there is no agent "nobody"`},
		{"wrong-key", []string{"--api-key", "wrong", "front-desk"}, exitFailed, "does not take the API key"},
		{"nobody-there", []string{"--url", "http://127.0.0.1:1", "--api-key", "x", "front-desk"}, exitFailed, "start the gateway"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out syncBuffer
			status := run(t.Context(), append([]string{"call", "--data", e.data}, tt.args...), stdio{strings.NewReader(""), &out, &out})
			if status != tt.status || !strings.Contains(out.String(), tt.says) {
				t.Errorf("status %d, want %d, with %q:\n%s", status, tt.status, tt.says, out.String())
			}
		})
	}
	t.Run("typed", func(t *testing.T) {
		c := e.addClerk(t, "clerk-typed", nil, endCall("Goodbye to you."))
		var out, errs syncBuffer
		status := run(t.Context(), []string{"call", "--data", e.data, "--text", c.name},
			stdio{strings.NewReader("that is all\n"), &out, &errs})
		if status != exitOK || !strings.Contains(out.String(), "ended    goodbye") || !strings.Contains(out.String(), "agent    Goodbye to you.") {
			t.Errorf("status %d:\n%s%s", status, out.String(), errs.String())
		}
	})
}
