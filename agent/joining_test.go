package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestClausesAreJoined(t *testing.T) {
	mk := func(texts ...string) (out []clause) {
		for _, s := range texts {
			out = append(out, clause{line: line{text: s}, spoken: s})
		}
		return out
	}
	fixed := clause{line: line{text: "Fixed.", fixed: true}, spoken: "Fixed."}
	other := clause{line: line{text: "Other.", node: "n"}, spoken: "Other."}
	keys := clause{line: line{digits: "1"}}
	for _, tt := range []struct {
		name    string
		in      []clause
		every   time.Duration // between them
		thrifty bool
		left    time.Duration // to hear
		want    []string
	}{
		{"plenty left of the minute", mk("A.", "B."), 0, false, time.Minute, []string{"A.", "B."}},
		{"little left of the minute", mk("A.", "B.", "C."), 0, true, 5 * time.Second, []string{"A. B. C."}},
		{"they are waited for", mk("A.", "B."), time.Second, true, 5 * time.Second, []string{"A. B."}},
		{"but not into silence", mk("A.", "B."), 4 * time.Second, true, 5 * time.Second, []string{"A.", "B."}},
		{"nothing is left to hear", mk("A.", "B."), time.Second, true, 0, []string{"A.", "B."}},
		{"fixed lines and keys stand alone", append(mk("A."), fixed, keys, other), 0, true, time.Minute, []string{"A.", "Fixed.", "", "Other."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := make(chan clause)
				go func() {
					defer close(in)
					for i, c := range tt.in {
						if i > 0 {
							time.Sleep(tt.every)
						}
						in <- c
					}
				}()
				q := clauseQueue{in: in}
				var got []string
				for {
					c, ok := q.next(func() bool { return tt.thrifty }, func() time.Duration { return tt.left })
					if !ok {
						break
					}
					got = append(got, c.spoken)
					if c.digits == "" && c.text != c.spoken {
						t.Errorf("text %q is spoken as %q", c.text, c.spoken)
					}
				}
				if len(got) != len(tt.want) {
					t.Fatalf("said %q, want %q", got, tt.want)
				}
				for i := range got {
					if got[i] != tt.want[i] {
						t.Errorf("said %q, want %q", got, tt.want)
					}
				}
			})
		})
	}
}

func TestVoiceIsThrifty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := voiceOf(&scriptedTTS{})
		v.vendors[0].PerMinute = 4
		defer v.close()
		for n, want := range []bool{false, false, true} {
			if got := v.thrifty(); got != want {
				t.Errorf("after %d clauses thrifty %v, want %v", n, got, want)
			}
			if err := v.say(context.Background(), Clause{Text: "Hello."}, Delivery{}, false, func(spoken) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if v.thrifty() {
			t.Error("still thrifty a minute later")
		}
	})
}
