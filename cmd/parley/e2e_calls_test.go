package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/agent/tts"
	"parley/media"
)

// testDemoByVoice books a table by voice alone, with nothing but this machine.
func testDemoByVoice(t *testing.T, e *endToEnd) {
	e.localDesk(t, "desk-voice")
	const script = `
wait-speech 20s
wait-quiet 1200ms
say I would like to book a table please
wait-speech 20s
wait-quiet 1200ms
say four
wait-speech 20s
wait-quiet 1200ms
say on friday please
wait-speech 20s
wait-quiet 1200ms
say yes please
wait-speech 20s
wait-quiet 1200ms
say no thank you
expect-end goodbye
expect-recognized book a table
expect-heard your table for (4|four) on friday is booked
expect-heard thank you for calling the parley demo
`
	h := e.call(t, "desk-voice", script)
	if h.status != exitOK {
		// The caller was not understood, and this one cannot repeat itself:
		// the local recognizer mishears on a machine that is too busy for the line.
		t.Logf("again, after:\n%s", h.log())
		h = e.call(t, "desk-voice", script)
	}
	if h.status != exitOK {
		t.Fatalf("exit status %d:\n%s", h.status, h.log())
	}
	t.Logf("latency by the gateway %v, on the line %v", h.report.LatencyMS, h.report.LineLatencyMS)
	c, turns := e.stored(t, "desk-voice")
	checkStored(t, c, turns, "goodbye")
	checkRecording(t, e, c, turns)
	for _, n := range turns {
		if n.Speaker == "agent" && n.Index > 0 {
			for _, step := range []string{"end_of_turn_ms", "final_transcript_ms", "first_clause_ms", "first_audio_ms"} {
				if n.Latency[step] == 0 {
					t.Errorf("turn %d has no %s: %v", n.Index, step, n.Latency)
				}
			}
		}
	}
	checkSounded(t, e, c, turns)
}

// checkSounded listens to the recording: what the transcript claims of each
// turn must be what sounded, and not another sentence of the flow.
func checkSounded(t *testing.T, e *endToEnd, c storedCall, turns []storedTurn) {
	t.Helper()
	rate, right := e.recording(t, c)
	phrases := []string{
		"would you like the opening hours to book a table or to speak to a person", "for how many people",
		"for how many people please say a number from one to twelve", "that is a table for nine on sunday is that right",
		"sorry say opening hours book a table or speak to a person", "is there anything else i can do for you",
		"one moment i am connecting you", "thank you for calling goodbye", "all right let us begin again",
	}
	words := strings.NewReplacer("4", "four", "Parley demo", "")
	listened := 0
	for _, n := range turns {
		if n.Speaker != "agent" || n.Index == 0 { // the greeting holds a name that the dictionary lacks
			continue
		}
		want := strings.TrimSpace(plainWords(words.Replace(n.Heard)))
		from := max(0, media.Samples(time.Duration(n.StartMS-100)*time.Millisecond, rate))
		to := min(int64(len(right)), media.Samples(time.Duration(n.EndMS+100)*time.Millisecond, rate))
		if got := recognize(t, right[from:to], rate, append(phrases, want)); got != want && !strings.Contains(n.Heard, "Parley") {
			t.Errorf("turn %d: written %q, sounded %q", n.Index, want, got)
		} else {
			listened++
		}
	}
	if listened < 4 {
		t.Errorf("listened to %d turns, want 4 at least", listened)
	}
}

// checkStored holds what every complete call leaves behind.
func checkStored(t *testing.T, c storedCall, turns []storedTurn, reason string) {
	t.Helper()
	if c.Status != "ended" || c.EndReason != reason || c.AnsweredAt == nil || c.EndedAt == nil {
		t.Errorf("call: got %+v, want one that ended with %s", c, reason)
	}
	last := int64(0)
	for i, n := range turns {
		if n.Index != i {
			t.Errorf("turn %d has index %d", i, n.Index)
		}
		if n.StartMS > n.EndMS {
			t.Errorf("turn %d ends before it starts: %+v", i, n)
		}
		switch n.Speaker {
		case "agent":
			if n.StartMS < last {
				t.Errorf("turn %d starts at %d ms, before the agent's turn before ended at %d ms", i, n.StartMS, last)
			}
			last = n.EndMS
			switch {
			case n.Generated == "" || !strings.HasPrefix(n.Generated, n.Heard) || !strings.HasPrefix(n.Sent, n.Heard):
				t.Errorf("turn %d: heard is no part of generated and sent: %+v", i, n)
			case !n.Interrupted && (n.Heard != n.Generated || n.Sent != n.Generated):
				t.Errorf("turn %d was not interrupted, but heard otherwise than made: %+v", i, n)
			}
		case "caller":
			if n.Heard == "" || n.Input == "" {
				t.Errorf("turn %d of the caller is empty: %+v", i, n)
			}
		}
	}
}

// recording downloads what the gateway has recorded of the agent.
func (e *endToEnd) recording(t *testing.T, c storedCall) (rate int, agent []int16) {
	t.Helper()
	var b []byte
	e.request(t, "GET", "/v1/calls/"+c.ID+"/recording", nil, &b)
	rate, _, agent, err := readStereo(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return rate, agent
}

// checkRecording downloads a call's recording and looks where the agent's
// speech begins.
func checkRecording(t *testing.T, e *endToEnd, c storedCall, turns []storedTurn) {
	t.Helper()
	if !c.Recorded {
		t.Fatal("the call was not recorded")
	}
	rate, right := e.recording(t, c)
	starts := stretches(right, rate)
	for _, n := range turns {
		if n.Speaker != "agent" || n.Heard == "" {
			continue
		}
		want := time.Duration(n.StartMS) * time.Millisecond
		nearest := time.Hour
		for _, s := range starts {
			if d := (s.from - want).Abs(); d < nearest.Abs() {
				nearest = s.from - want
			}
		}
		if nearest.Abs() > 150*time.Millisecond {
			t.Errorf("turn %d starts at %v, the recording's speech %v from there: %v", n.Index, want, nearest, starts)
		}
	}
}

type stretch struct{ from, to time.Duration }

// stretches finds speech with pauses of at least 300 ms between.
func stretches(pcm []int16, rate int) []stretch {
	var all []stretch
	frame := rate / 50
	for i := 0; i+frame <= len(pcm); i += frame {
		if !loud(pcm[i : i+frame]) {
			continue
		}
		from, to := media.Duration(int64(i), rate), media.Duration(int64(i+frame), rate)
		if n := len(all); n > 0 && from-all[n-1].to < 300*time.Millisecond {
			all[n-1].to = to
		} else {
			all = append(all, stretch{from, to})
		}
	}
	return all
}

// recognize returns which of the phrases was said, as PocketSphinx hears it.
func recognize(t *testing.T, pcm []int16, rate int, phrases []string) string {
	t.Helper()
	if rate != 8000 {
		t.Fatalf("speech at %d Hz", rate)
	}
	// Images above the telephone's band stand for what the model expects there.
	var up media.LinearUpsampler
	var raw []byte
	for _, v := range up.Process(nil, pcm) {
		raw = append(raw, byte(v), byte(v>>8))
	}
	grammar := filepath.Join(t.TempDir(), "said.gram")
	text := "#JSGF V1.0;\ngrammar said;\npublic <said> = " + strings.Join(phrases, "\n | ") + ";\n"
	if err := os.WriteFile(grammar, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const model = "/usr/share/pocketsphinx/model/en-us/"
	cmd := exec.CommandContext(ctx, "pocketsphinx_continuous", "-infile", "/dev/stdin", "-logfn", os.DevNull,
		"-hmm", model+"en-us", "-dict", model+"cmudict-en-us.dict", "-jsgf", grammar, "-remove_silence", "no")
	cmd.Stdin = bytes.NewReader(raw)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pocketsphinx_continuous (apt-get install pocketsphinx pocketsphinx-en-us): %v", err)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

// testInterruption speaks over the long reply.
func testInterruption(t *testing.T, e *endToEnd) {
	e.localDesk(t, "desk-interrupted")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	voice, err := tts.Vendors["flite"].Dial(ctx, tts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer voice.Close()
	say := func(text string) []int16 {
		pcm, err := speech(ctx, voice, text, 8000)
		if err != nil {
			t.Fatal(err)
		}
		return pcm
	}
	hours, stop := say("opening hours please"), say("I would like to talk to someone please")

	p := newPhone(8000)
	p.keep()
	clock := &lineClock{}
	seen := &transcript{show: func(shown) {}}
	c := callCommand{URL: e.URL, Agent: "desk-interrupted", From: "+15550100", To: "+15550199", Transfer: "completed"}
	l, err := dialTwilio(ctx, c, p, restClient{e.URL, e.APIKey}, func(shown) {})
	if err != nil {
		t.Fatal(err)
	}
	clock.start(p)
	s := &scriptRun{phone: p, line: l, seen: seen, show: func(shown) {}}
	failed := s.perform(ctx, []act{
		{do: "wait-speech", wait: 20 * time.Second}, {do: "wait-quiet", wait: 1200 * time.Millisecond},
		{do: "say", pcm: hours}, {do: "wait-speech", wait: 20 * time.Second}, {do: "wait", wait: 5 * time.Second},
		{do: "say", pcm: stop}, {do: "wait-speech", wait: 20 * time.Second}, {do: "wait-quiet", wait: time.Second}, {do: "hangup"},
	})
	if len(failed) > 0 {
		t.Error(failed)
	}
	if err := l.wait(); err != nil {
		t.Error(err)
	}
	if err := l.watch(ctx, seen); err != nil {
		t.Error(err)
	}

	_, turns := e.stored(t, "desk-interrupted")
	i := slices.IndexFunc(turns, func(n storedTurn) bool { return strings.HasPrefix(n.Generated, "We are open") })
	if i < 0 {
		t.Fatalf("the opening hours were not told: %+v", turns)
	}
	n := turns[i]
	if !n.Interrupted || n.Heard == "" || n.Heard == n.Generated || !strings.HasPrefix(n.Generated, n.Heard) {
		t.Errorf("got %+v, want a cut turn whose heard part is the beginning of it", n)
	}
	t.Logf("heard %q of %d bytes", n.Heard, len(n.Generated))

	clears := 0
	for _, ev := range l.(*twilioLine).call.Events() {
		if ev.Kind != "clear" {
			continue
		}
		clears++
		at := clock.position(ev.At)
		if until := loudUntil(p.right, p.rate, at); until-at > 400*time.Millisecond {
			t.Errorf("the agent's voice goes on for %v after the clear at %v", until-at, at)
		} else {
			t.Logf("clear at %v, silent after %v", at, until-at)
		}
	}
	if clears == 0 {
		t.Error("nothing was cleared")
	}
}

// A lineClock tells which moment of a recording a time is.
type lineClock struct {
	at  time.Time
	pos time.Duration
}

func (c *lineClock) start(p *phone) { c.at, c.pos = time.Now(), media.Duration(p.mark(), p.rate) }

func (c *lineClock) position(at time.Time) time.Duration { return c.pos + at.Sub(c.at) }

// loudUntil returns where the speech that sounds at from ends: in 200 ms of
// silence.
func loudUntil(pcm []int16, rate int, from time.Duration) time.Duration {
	frame, quiet := rate/50, 0
	end := from
	for i := int(media.Samples(from, rate)); i+frame <= len(pcm) && quiet < 10; i += frame {
		if loud(pcm[i : i+frame]) {
			quiet, end = 0, media.Duration(int64(i+frame), rate)
		} else {
			quiet++
		}
	}
	return end
}
