package agent

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	const agentText = "would you like the red one the green one or the blue one"
	colours := Expectation{Kind: "choice", Phrases: []string{"red", "green", "blue", "sure"}}
	yesNo := Expectation{Kind: "yes_no", Phrases: []string{"yes", "no", "okay"}}
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	// Times count from the onset of the speech that the agent paused for.
	tests := map[string]struct {
		ev      evidence
		stretch time.Duration
		ended   time.Duration // 0: the caller speaks
		said    time.Duration // the text so far
		now     time.Duration
		want    verdict
		again   time.Duration // of an undecided one
	}{
		"stop-word":                  {ev: evidence{text: "stop"}, now: ms(300), want: yield},
		"stop-word-at-the-end":       {ev: evidence{text: "okay okay stop"}, now: ms(300), want: yield},
		"stop-word-under-min-words":  {ev: evidence{text: "wait", minWords: 3}, now: ms(300), want: yield},
		"answer":                     {ev: evidence{text: "green", expect: colours}, now: ms(300), want: yield},
		"answer-under-min-words":     {ev: evidence{text: "green", expect: colours, minWords: 2}, now: ms(300), want: yield},
		"answer-in-the-agents-words": {ev: evidence{text: "blue", expect: colours, agent: agentText}, now: ms(300), want: yield},
		"agents-word-said-aloud":     {ev: evidence{text: "the blue one please", agent: agentText}, now: ms(300), want: yield},
		"agents-words-said-aloud":    {ev: evidence{text: "the green one", agent: agentText}, now: ms(300), want: yield},
		"answer-before-the-question": {ev: evidence{text: "okay", expect: yesNo}, now: ms(300), want: undecided, again: ms(1200)},
		"answer-that-is-also-a-sign": {ev: evidence{text: "okay", expect: yesNo, asked: true}, now: ms(300), want: yield},
		"other-word":                 {ev: evidence{text: "banana"}, now: ms(300), want: yield},
		"too-few-words":              {ev: evidence{text: "a banana", minWords: 3}, now: ms(300), want: undecided, again: ms(1000)},
		"enough-words":               {ev: evidence{text: "a ripe banana", minWords: 3}, now: ms(300), want: yield},
		"sign-of-listening-goes-on":  {ev: evidence{text: "uh-huh"}, now: ms(300), want: undecided, again: ms(1200)},
		"sign-of-listening-latest":   {ev: evidence{text: "uh-huh okay"}, now: ms(1200), want: goOn},
		"sign-of-listening-ended":    {ev: evidence{text: "Uh-huh."}, ended: ms(250), now: ms(300), want: goOn},
		"sign-of-listening-and-more": {ev: evidence{text: "okay but why"}, now: ms(500), want: yield},
		"echo-goes-on":               {ev: evidence{text: "like the red one", agent: agentText, loud: faint}, now: ms(300), want: undecided, again: ms(1200)},
		"echo-ended":                 {ev: evidence{text: "like the red one", agent: agentText, loud: faint}, ended: ms(600), now: ms(800), want: goOn},
		"echo-half-understood":       {ev: evidence{text: "like a red one or green", agent: agentText, loud: faint}, ended: ms(600), now: ms(800), want: goOn},
		"echo-that-begins-with-no":   {ev: evidence{text: "no problem at", agent: "no problem at all", loud: faint}, ended: ms(600), now: ms(800), want: goOn},
		"echo-at-its-first-word":     {ev: evidence{text: "hello", agent: "hello this is", loud: faint}, now: ms(300), want: undecided, again: ms(1200)},
		"sign-that-has-begun":        {ev: evidence{text: "I"}, now: ms(300), want: undecided, again: ms(1000)},
		"sign-that-began-late":       {ev: evidence{text: "okay I"}, said: ms(900), now: ms(1000), want: undecided, again: ms(1150)},
		"sign-that-began-and-ended":  {ev: evidence{text: "I"}, said: ms(300), ended: ms(250), now: ms(400), want: undecided, again: ms(550)},
		"word-of-its-own":            {ev: evidence{text: "I"}, said: ms(300), ended: ms(250), now: ms(550), want: yield},
		"hesitation-that-goes-on":    {ev: evidence{text: "uh um"}, now: ms(300), want: undecided, again: ms(1000)},
		"hesitation-that-ended":      {ev: evidence{text: "uh uh"}, said: ms(300), ended: ms(250), now: ms(650), want: goOn},
		"hesitation-and-more":        {ev: evidence{text: "uh my card"}, said: ms(300), ended: ms(250), now: ms(300), want: yield},
		"sign-and-another-word":      {ev: evidence{text: "I want"}, now: ms(300), want: yield},
		"first-word-that-is-an-answer": {ev: evidence{text: "all", expect: Expectation{Kind: "choice", Phrases: []string{"all", "none"}}},
			now: ms(300), want: yield},
		"first-word-under-min-words":  {ev: evidence{text: "I", minWords: 2}, now: ms(300), want: undecided, again: ms(1000)},
		"faint-without-words":         {ev: evidence{loud: faint}, now: ms(1000), want: undecided, again: ms(1200)},
		"faint-without-words-latest":  {ev: evidence{loud: faint}, now: ms(1200), want: yield},
		"echo-of-a-new-path":          {ev: evidence{text: "you like the red one", agent: agentText, loud: low}, ended: ms(600), now: ms(800), want: goOn},
		"a-few-own-words-well-above":  {ev: evidence{text: "the red one", agent: agentText, loud: low}, now: ms(300), want: yield},
		"stop-word-behind-an-echo":    {ev: evidence{text: "would you like the red one stop", agent: agentText, loud: faint}, now: ms(300), want: yield},
		"answer-behind-an-echo":       {ev: evidence{text: "would you like the red one purple", agent: agentText, loud: faint, expect: Expectation{Kind: "choice", Phrases: []string{"purple"}}}, now: ms(300), want: yield},
		"words-behind-an-echo":        {ev: evidence{text: "would you like the red one I have a question", agent: agentText, loud: faint}, now: ms(300), want: yield},
		"echo-misheard-at-last":       {ev: evidence{text: "would you like the red bun", agent: agentText, loud: faint}, ended: ms(600), now: ms(800), want: goOn},
		"faint-stop-word":             {ev: evidence{text: "stop", agent: agentText, loud: faint}, now: ms(300), want: yield},
		"faint-other-words":           {ev: evidence{text: "not the red ones at all", agent: agentText, loud: faint}, now: ms(300), want: yield},
		"no-words":                    {now: ms(300), want: undecided, again: ms(1000)},
		"no-words-unbroken":           {now: ms(1000), want: yield},
		"no-words-ended":              {ended: ms(300), now: ms(500), want: undecided, again: ms(700)},
		"no-words-ended-and-flushed":  {ev: evidence{flushed: true}, ended: ms(300), now: ms(500), want: undecided, again: ms(700)},
		"no-words-quiet":              {ended: ms(300), now: ms(700), want: goOn},
		"no-words-quiet-at-latest":    {ended: ms(950), now: ms(1200), want: goOn},
		"no-words-second-stretch":     {stretch: ms(600), now: ms(1100), want: undecided, again: ms(1200)},
		"no-words-broken-at-latest":   {stretch: ms(600), now: ms(1200), want: yield},
		"late-words-are-waited-for":   {ev: evidence{late: true}, ended: ms(300), now: ms(700), want: undecided, again: ms(1200)},
		"late-words-do-not-come":      {ev: evidence{late: true}, ended: ms(300), now: ms(1200), want: goOn},
		"late-recognizer-has-nothing": {ev: evidence{late: true, flushed: true}, ended: ms(300), now: ms(700), want: goOn},
		"late-word":                   {ev: evidence{late: true, flushed: true, text: "banana"}, ended: ms(300), now: ms(700), want: yield},
		"late-speech-goes-on":         {ev: evidence{late: true}, now: ms(1000), want: yield},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			began := time.Unix(1000, 0)
			ev := tt.ev
			ev.lexicon, ev.onset, ev.stretch = lexiconOf("en"), began, began.Add(tt.stretch)
			ev.changed = began.Add(tt.said)
			if tt.ended > 0 {
				ev.ended = began.Add(tt.ended)
			}
			got, again := Interruption{}.withDefaults().judge(ev, began.Add(tt.now))
			if got != tt.want {
				t.Fatalf("verdict %d, want %d", got, tt.want)
			}
			if got == undecided && !again.Equal(began.Add(tt.again)) {
				t.Errorf("asks again after %v, want %v", again.Sub(began), tt.again)
			}
		})
	}
}

func TestGate(t *testing.T) {
	tests := map[string]struct {
		set      time.Duration
		interims bool
		echoes   int
		want     time.Duration
	}{
		"default":            {0, true, 0, 120 * time.Millisecond},
		"one-echo":           {0, true, 1, 120 * time.Millisecond},
		"two-echoes":         {0, true, 2, 300 * time.Millisecond},
		"without-interims":   {0, false, 0, 300 * time.Millisecond},
		"set":                {200 * time.Millisecond, false, 0, 200 * time.Millisecond},
		"set-and-two-echoes": {200 * time.Millisecond, true, 2, 300 * time.Millisecond},
		"set-long":           {500 * time.Millisecond, true, 2, 500 * time.Millisecond},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := (Interruption{Gate: tt.set}).gate(tt.interims, tt.echoes); got != tt.want {
				t.Errorf("gate %v, want %v", got, tt.want)
			}
		})
	}
}

// Every stop word of every language ends the agent's speech, alone and at the
// edge of other words; every sign of listening lets it go on.
func TestLexicons(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, language := range []string{"en", "de", "fr", "es", "it", "nl", "pt"} {
		l := lexiconOf(language + "-XX")
		if l == lexiconOf("xx") && language != "en" {
			t.Errorf("%s has no lexicon", language)
		}
		say := func(text string) verdict {
			ev := evidence{onset: now, stretch: now, ended: now.Add(200 * time.Millisecond), text: text, lexicon: l, minWords: 99}
			v, _ := Interruption{}.withDefaults().judge(ev, now.Add(300*time.Millisecond))
			return v
		}
		for w := range l.stop {
			for _, text := range []string{w, strings.ToUpper(w) + "!", w + " zzz", "zzz " + w} {
				if got := say(text); got != yield {
					t.Errorf("%s: %q gives verdict %d, want yield", language, text, got)
				}
			}
			if l.listening[w] {
				t.Errorf("%s: %q is both a stop word and a sign of listening", language, w)
			}
			if n := len(strings.Fields(w)); n == 0 || n > longestPhrase {
				t.Errorf("%s: %q has %d words", language, w, n)
			}
		}
		for w := range l.listening {
			if got := say(w); got != goOn {
				t.Errorf("%s: %q gives verdict %d, want go on", language, w, got)
			}
			if n := len(strings.Fields(w)); n == 0 || n > longestPhrase {
				t.Errorf("%s: %q has %d words", language, w, n)
			}
			if l.stops(w) {
				t.Errorf("%s: %q is a sign of listening with a stop word", language, w)
			}
		}
		if say("mhm mhm") != goOn || say("mhm zzz") == goOn && !l.listens("mhm") {
			t.Errorf("%s: a hum is no sign of listening", language)
		}
	}
	if lexiconOf("tlh") != lexiconOf("en-GB") || lexiconOf("DE") != lexiconOf("de-AT") {
		t.Error("lexicons go by primary language, English for others")
	}
}

func TestOwnVoice(t *testing.T) {
	const agent = "Our opening hours are nine to five. Would you like red, green or blue?"
	tests := map[string]struct {
		text     string
		own      int
		doubtful bool
	}{
		"exact":            {"would you like red", 4, false},
		"over-a-clause":    {"five would you like", 4, false},
		"misheard":         {"would you bike red green", 5, false},
		"misheard-at-last": {"would you like bread", 3, false},
		"gap":              {"would like red", 3, false},
		"other-order":      {"green or red you would", 0, false},
		"two-words":        {"green or", 0, true},
		"last-word":        {"blue", 0, true},
		"long-ago":         {"opening", 0, false},
		"another-word":     {"seven", 0, false},
		"mostly-new":       {"i would like to cancel that please", 0, false},
		"then-the-caller":  {"Would you like red. Stop! I said.", 4, false},
		"nothing":          {"", 0, false},
		"its-words-twice":  {"red red red red", 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if own, doubtful := ownVoice(tt.text, agent, faint); own != tt.own || doubtful != tt.doubtful {
				t.Errorf("own %d, doubtful %v, want %d, %v", own, doubtful, tt.own, tt.doubtful)
			}
		})
	}
}

// shared is how many words two texts share in order.
func shared(t, a []string) (n int) {
	inOrder(t, a, func(_, length int) { n = length })
	return n
}

func FuzzOwnVoice(f *testing.F) {
	f.Add("would you like red", "Would you like red, green or blue?")
	f.Add("", "")
	f.Add("l’été", "L'été d’ici")
	f.Add("a\xffb c d", "a\xffb c d e")
	f.Fuzz(func(t *testing.T, text, agent string) {
		own, doubtful := ownVoice(text, agent, faint)
		w, said := words(text), words(agent)
		if rest := words(without(text, own)); own > len(w) || len(rest) > len(w)-own {
			t.Errorf("%d words of %q are the agent's, %q the caller's", own, text, rest)
		}
		if own > 0 && doubtful {
			t.Error("own and doubtful")
		}
		if n, turned := shared(w, said), shared(said, w); n > len(w) || n > len(said) || n != turned {
			t.Errorf("%d of %d and %d words in order, %d the other way round", n, len(w), len(said), turned)
		}
		// What the agent said last is always its own voice.
		if tail := said[max(0, len(said)-5):]; len(tail) >= echoWords {
			if own, _ := ownVoice(strings.Join(tail, " "), agent, faint); own < len(tail) {
				t.Errorf("%q is not the agent's own voice in %q", tail, agent)
			}
		}
		for _, l := range lexicons {
			if l.listens(text) && len(w) == 0 {
				t.Error("no words are a sign of listening")
			}
			if l.stops(text) && !slices.ContainsFunc(w, func(s string) bool { return s != "" }) {
				t.Error("no words are a stop word")
			}
		}
	})
}

// The recognizer that counts is the one that serves, not the first of the list.
func TestGateFollowsTheServingRecognizer(t *testing.T) {
	for _, interims := range []bool{true, false} {
		t.Run(fmt.Sprintf("first-has-interims-%v", interims), func(t *testing.T) {
			r := newRecognizer([]Recognizer{{Vendor: "a", Interims: interims}, {Vendor: "b", Interims: !interims}}, 8000, nil, slog.New(slog.DiscardHandler))
			if r.interims() != interims {
				t.Errorf("before the first is dialed: interims %v", r.interims())
			}
			for i, v := range r.vendors {
				l := &link{stream: &scriptedSTT{}, vendor: v}
				if err := r.attach(l, i, Hearing{Rate: r.rate}); err != nil {
					t.Fatal(err)
				}
				if r.interims() != v.Interims {
					t.Errorf("%s serves: interims %v, want %v", v.Vendor, r.interims(), v.Interims)
				}
				r.detach(l)
				if r.interims() != v.Interims {
					t.Errorf("%s served last: interims %v, want %v", v.Vendor, r.interims(), v.Interims)
				}
			}
		})
	}
}
