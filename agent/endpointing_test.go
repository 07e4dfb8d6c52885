package agent

import (
	"testing"
	"time"
)

func TestEndOfTurn(t *testing.T) {
	const ms = time.Millisecond
	end := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) // of speech
	said := func(final bool, text string) utterance {
		u := utterance{started: end.Add(-time.Second), ended: end, told: end.Add(200 * ms), changed: end, spoken: time.Second}
		if final {
			u.finals, u.flushed = []string{text}, true
		} else {
			u.interim = text
		}
		return u
	}
	with := func(u utterance, f func(*utterance)) utterance { f(&u); return u }
	yesNo := Expectation{Kind: "yes_no", Phrases: []string{"yes", "no", "no thanks"}}
	pin := Expectation{Kind: "digits", Digits: 4}
	free := Expectation{}
	tests := map[string]struct {
		u    utterance
		exp  Expectation
		over time.Duration // after the end of speech; 0: never
		what outcome
	}{
		"a-full-sentence":              {said(true, "I want a table."), free, 250 * ms, over},
		"undecided":                    {said(true, "a table for four"), free, 600 * ms, over},
		"goes-on":                      {said(true, "I want a table for."), free, 2500 * ms, over},
		"recognizer-ended-by-silence":  {with(said(true, "a table for four"), func(u *utterance) { u.eou = true }), free, 250 * ms, over},
		"silence-does-not-end-a-half":  {with(said(true, "a table for"), func(u *utterance) { u.eou = true }), free, 2500 * ms, over},
		"recognizer-ended-by-words":    {with(said(true, "what is it for"), func(u *utterance) { u.eou, u.judged = true, true }), free, 250 * ms, over},
		"final-without-an-answer":      {with(said(true, "I want a table."), func(u *utterance) { u.flushed = false }), free, 1000 * ms, over},
		"interim-alone":                {said(false, "I want a table."), free, 1000 * ms, over},
		"interim-that-goes-on":         {said(false, "I want a table for"), free, 2500 * ms, over},
		"no-words":                     {said(true, ""), free, 200 * ms, noise},
		"no-words-and-no-answer":       {said(false, ""), free, 1000 * ms, noise},
		"yes":                          {said(true, "Yes."), yesNo, 200 * ms, over},
		"yes-by-an-interim":            {said(false, "no"), yesNo, 1000 * ms, over},
		"yes-and-more":                 {said(true, "no thanks I mean"), yesNo, 2500 * ms, over},
		"choice":                       {said(true, "booking"), Expectation{Kind: "choice", Phrases: []string{"Hours", "Booking"}}, 200 * ms, over},
		"no-choice":                    {said(true, "something else"), Expectation{Kind: "choice", Phrases: []string{"Hours"}}, 600 * ms, over},
		"digits-complete":              {said(true, "one two three four"), pin, 200 * ms, over},
		"digits-as-a-number":           {said(true, "1234."), pin, 200 * ms, over},
		"digits-missing":               {said(true, "12."), pin, 2500 * ms, over},
		"digits-refused":               {said(true, "I don't have it."), pin, 250 * ms, over},
		"digits-of-no-length":          {said(true, "one two"), Expectation{Kind: "digits"}, 1250 * ms, over},
		"phone-begun":                  {said(true, "415"), Expectation{Kind: "phone"}, 2500 * ms, over},
		"phone-local":                  {said(true, "415 55 55"), Expectation{Kind: "phone"}, 1250 * ms, over},
		"phone-complete":               {said(true, "415 555 0100"), Expectation{Kind: "phone"}, 250 * ms, over},
		"email-begun":                  {said(true, "jane dot doe"), Expectation{Kind: "email"}, 2500 * ms, over},
		"email-at":                     {said(true, "jane@"), Expectation{Kind: "email"}, 2500 * ms, over},
		"email-complete":               {said(true, "jane at mail dot com"), Expectation{Kind: "email"}, 600 * ms, over},
		"email-refused":                {said(true, "I have none."), Expectation{Kind: "email"}, 250 * ms, over},
		"date-half":                    {said(true, "the third."), Expectation{Kind: "date"}, 1250 * ms, over},
		"date":                         {said(true, "May third."), Expectation{Kind: "date"}, 250 * ms, over},
		"number":                       {said(true, "four"), Expectation{Kind: "number"}, 600 * ms, over},
		"never-ends":                   {with(said(false, "la la la"), func(u *utterance) { u.speaking = true }), free, 59 * time.Second, over},
		"a-motor":                      {with(said(false, ""), func(u *utterance) { u.speaking = true }), free, 59 * time.Second, noise},
		"noise-behind-the-caller":      {with(said(true, "I want a table."), func(u *utterance) { u.speaking, u.eou = true, true }), free, 2500 * ms, over},
		"words-without-speech-noticed": {with(said(true, "I want a table."), func(u *utterance) { u.told, u.flushed = time.Time{}, false; u.unseen = true }), free, 800 * ms, over},
		"nothing-was-said":             {utterance{}, free, 0, pending},
	}
	e := Endpointing{FinalWait: 800 * ms}.withDefaults()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			// Ask as the conductor does: whenever the rule wants to be asked again.
			now := end.Add(200 * ms)
			for range 20 {
				what, at := e.judge(&tt.u, tt.exp, now)
				if what != pending {
					if got := now.Sub(end); got != tt.over || what != tt.what {
						t.Errorf("outcome %d after %v, want %d after %v", what, got, tt.what, tt.over)
					}
					return
				}
				if at.IsZero() {
					break
				}
				if !at.After(now) {
					t.Fatalf("asks again at %v, now is %v", at, now)
				}
				now = at
			}
			if tt.over != 0 {
				t.Error("never ends")
			}
		})
	}
}

// "no" may become "no, I mean yes": a match ends the turn sooner only when it is
// final, also where the wait for the final is short.
func TestMatchedInterimIsNoAnswer(t *testing.T) {
	end := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := Endpointing{FinalWait: 150 * time.Millisecond}.withDefaults()
	u := utterance{started: end.Add(-time.Second), ended: end, told: end.Add(200 * time.Millisecond), interim: "tomorrow"}
	exp := Expectation{Kind: "choice", Phrases: []string{"tomorrow"}}
	now := end.Add(350 * time.Millisecond)
	if what, at := e.judge(&u, exp, now); what != pending || !at.Equal(end.Add(e.Undecided)) {
		t.Errorf("outcome %d, again at %v", what, at.Sub(end))
	}
	u.finals, u.interim, u.flushed = []string{"Tomorrow."}, "", true
	if what, _ := e.judge(&u, exp, now); what != over {
		t.Errorf("outcome %d of the final answer", what)
	}
}

func TestEndpointingDefaultsKeepTheirOrder(t *testing.T) {
	for _, e := range []Endpointing{{}, {Silence: time.Second}, {Complete: time.Second}, {Undecided: 4 * time.Second}, {Silence: 3 * time.Second}, {Patience: 300 * time.Millisecond}} {
		if err := e.Validate(); err != nil {
			t.Errorf("%+v: %v", e, err)
		}
	}
	for _, e := range []Endpointing{{Silence: 50 * time.Millisecond}, {Complete: 100 * time.Millisecond}, {Patience: 150 * time.Millisecond},
		{FinalWait: time.Minute}, {MaxUtterance: time.Second}, {Undecided: 6 * time.Second}} {
		if e.Validate() == nil {
			t.Errorf("%+v is valid", e)
		}
	}
}

func TestUtterance(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	var u utterance
	if d := u.begin(at(0)); d != 0 || u.empty() {
		t.Errorf("pause of %v before the first stretch", d)
	}
	u.hear(Transcript{Text: "I want"}, false, at(300))
	u.pause(at(500), at(700))
	if b := u.bound(time.Second); !b.Equal(at(1700)) {
		t.Errorf("waits until %v", b)
	}
	if d := u.begin(at(1200)); d != 700*time.Millisecond || u.final() {
		t.Errorf("pause of %v", d)
	}
	// An answer to the first pause that comes while the caller speaks answers nothing.
	u.hear(Transcript{Text: "I want", Final: true, Flushed: true, EOU: true, Confidence: 0.8}, false, at(1300))
	u.pause(at(1600), at(1800))
	if u.flushed {
		t.Error("flushed by the answer to the pause before")
	}
	u.hear(Transcript{Text: "a table.", Final: true, Flushed: true, Confidence: 0.6}, false, at(1900))
	if u.text() != "I want a table." || !u.final() || u.conf != 0.6 || u.spoken != 900*time.Millisecond || !u.changed.Equal(at(1900)) {
		t.Errorf("%+v", u)
	}
	u.hear(Transcript{Text: "a table.", Eager: true}, false, at(1950))
	if !u.eager {
		t.Error("not eager")
	}
	if u.begin(at(2500)); u.eager || u.flushed || u.eou {
		t.Error("goes on, and is over")
	}
}

func TestLateWordsCorrect(t *testing.T) {
	tests := map[string]struct {
		finals      []string
		text, final string
		want        int
	}{
		"the-same":         {nil, "a table for two", "A table for two.", 0},
		"more":             {nil, "a table", "a table for two", 1},
		"behind-a-final":   {[]string{"Hello."}, "Hello. a table", "a table for two", 2},
		"nothing":          {nil, "a table", " ", 0},
		"an-answer-by-key": {nil, "", "two", 0},
	}
	for name, tt := range tests {
		if got := (taken{finals: tt.finals, text: tt.text}).corrects(tt.final); len(got) != tt.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
