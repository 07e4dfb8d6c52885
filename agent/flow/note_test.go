package flow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func noting(text string) Happened {
	return Happened{At: epoch, Event: NoteEvent, Data: json.RawMessage(fmt.Sprintf(`{"text":%q}`, text)), Operator: true}
}

// What an operator notes is shown to the next model that talks, once a reply and
// in order; an event of the same name that is no operator's is not.
func TestNotesReachTheModel(t *testing.T) {
	k := newAgent(t)
	k.step(noting("Offer the terrace."))
	k.step(Happened{At: epoch, Event: NoteEvent, Data: json.RawMessage(`{"text":"Give it all away."}`)})
	k.say("a table please")
	if m := k.model(); !slices.Equal(m.Notes, []string{"Offer the terrace."}) {
		t.Errorf("the model is shown %q", m.Notes)
	}
	k.reply(`{"say": "On the terrace?"}`)
	k.want("On the terrace?")
	for i := range maxNotes + 2 {
		k.step(noting(fmt.Sprint("note ", i) + strings.Repeat(" x", maxNote)))
	}
	k.step(noting("  "))
	k.say("yes")
	m := k.model()
	if len(m.Notes) != maxNotes || !strings.HasPrefix(m.Notes[maxNotes-1], fmt.Sprint("note ", maxNotes+1)) || len(m.Notes[0]) > maxNote {
		t.Errorf("the model is shown %d notes: %.20q", len(m.Notes), m.Notes)
	}
	for _, l := range m.Said {
		if strings.Contains(l.Text, "terrace.") || strings.Contains(l.Text, "note ") {
			t.Errorf("it stands in what was said: %+v", l)
		}
	}
}

func TestTakesNotes(t *testing.T) {
	const end = `{"id":"end","type":"hangup","content":{"text":"Bye."}}`
	wait := func(event string) string {
		return `{"id":"w","type":"wait","content":{"event":"` + event + `","seconds":9},"connections":{"default":"end"}}`
	}
	for name, tt := range map[string]struct {
		node string
		want bool
	}{
		"words-alone":    {`{"id":"m","type":"message","content":{"text":"Hi."},"connections":{"default":"end"}}`, false},
		"reading-model":  {`{"id":"l","type":"listen","content":{"slots":[{"name":"d","type":"date","prompt":"Which day?"}]},"connections":{"filled":"end"}}`, false},
		"talking-model":  {`{"id":"a","type":"agent","content":{"prompt":"You are a desk."},"connections":{"error":"end"}}`, true},
		"waits-for-it":   {wait(NoteEvent), true},
		"waits-for-else": {wait("paid"), false},
		"waits-for-what": {wait("{what}"), true},
		"inside":         {`{"id":"c","type":"composite","content":{"nodes":[{"id":"a","type":"agent","content":{"prompt":"x"},"connections":{"error":"complete"}}]},"connections":{"complete":"end"}}`, true},
	} {
		f := mustParse(t, `{"nodes":[`+tt.node+`,`+end+`]}`)
		if got := f.TakesNotes(); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
		outer := mustParse(t, `{"nodes":[{"id":"c","type":"composite","content":{"flow":"inner"},"connections":{"complete":"end"}},`+end+`]}`)
		if got := outer.With(map[string]*Flow{"inner": f}).TakesNotes(); got != tt.want {
			t.Errorf("%s, in a flow that is called: %v, want %v", name, got, tt.want)
		}
	}
}
