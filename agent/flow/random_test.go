package flow

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestRandomDocuments breaks sound documents at random places and runs what
// still parses.
func TestRandomDocuments(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	docs := []string{everyKind, seedQuestion, strings.Replace(profiler, "%s", inner+",", 1), tenNodes()}
	inputs := []string{"", "tea", "yes", "42", "0", "help", "{x}", "back", "*#", "half past two"}
	ran := 0
	for range 1000 {
		b := []byte(docs[r.IntN(len(docs))])
		words := strings.Split(string(b), `"`)
		for range 1 + r.IntN(4) { // swap the contents of two strings of the document
			i, j := 1+2*r.IntN(len(words)/2), 1+2*r.IntN(len(words)/2)
			words[i], words[j] = words[j], words[i]
		}
		f, err := Parse([]byte(strings.Join(words, `"`)))
		if err != nil {
			continue
		}
		f.Check()
		ran++
		s := fuzzStep(t, f, New(f, Init{ID: "r", Channel: []string{"voice", "chat"}[r.IntN(2)]}), Start{epoch})
		for range 8 {
			var ev Event = Input{epoch, inputs[r.IntN(len(inputs))], []string{"speech", "text", "dtmf"}[r.IntN(3)], 0}
			switch r.IntN(8) {
			case 0:
				ev = Silence{epoch}
			case 1:
				ev = Result{At: epoch, ID: s.System.Waiting.ID, Outcome: "answered"}
			case 2:
				ev = Played{At: epoch, ID: s.System.Playing}
			}
			s = fuzzStep(t, f, s, ev)
		}
	}
	if ran < 300 {
		t.Errorf("only %d documents ran", ran)
	}
}
