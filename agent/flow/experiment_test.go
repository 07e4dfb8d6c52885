package flow

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
)

// likely fails where n trials with chance p hit x times and 4.5 standard
// deviations of the binomial distribution do not reach it: once in 150,000
// tests of a fair draw. The draws are fixed, so that a test never flickers.
func likely(t *testing.T, what string, x, n int, p float64) {
	t.Helper()
	if mean, sd := float64(n)*p, math.Sqrt(float64(n)*p*(1-p)); math.Abs(float64(x)-mean) > 4.5*sd {
		t.Errorf("%s: %d of %d, want %.0f ± %.0f", what, x, n, mean, 4.5*sd)
	}
}

const splitting = `{"experiments": [{"id": "x", "split": [{"arm": "a", "weight": 70}, {"arm": "b", "weight": 20}, {"arm": "c", "weight": 10}, {"arm": "d", "weight": 0}], "goal": "won"}],
	"goals": {"won": {"node": "a"}}, "nodes": [
	{"id": "s", "type": "split", "content": {"experiment": "x"}, "connections": {"a": "a", "b": "b"}},
	{"id": "a", "type": "message", "content": {"text": "a"}}, {"id": "b", "type": "message", "content": {"text": "b"}}]}`

// events returns what the last step reported of a type, as texts.
func (k *talk) events(typ string, fields ...string) []string {
	out := []string{}
	for _, e := range k.last {
		e, ok := e.(Emit)
		if !ok || e.Type != typ {
			continue
		}
		var data map[string]any
		if err := json.Unmarshal(e.Data, &data); err != nil {
			k.t.Fatal(err)
		}
		s := ""
		for _, f := range fields {
			s += fmt.Sprint(data[f], " ")
		}
		out = append(out, s[:max(0, len(s)-1)])
	}
	return out
}

func TestSplitDrawsByWeight(t *testing.T) {
	f := mustParse(t, splitting)
	for _, who := range []struct {
		name string
		init func(i int) Init
	}{
		{"session", func(i int) Init { return Init{ID: fmt.Sprint("s", i)} }},
		{"caller", func(i int) Init {
			return Init{ID: "s", Context: map[string]any{"caller": fmt.Sprintf("+1555%07d", i)}}
		}},
		{"user", func(i int) Init { return Init{ID: "s", User: map[string]any{"id": fmt.Sprint("u", i)}} }},
	} {
		t.Run(who.name, func(t *testing.T) {
			const n = 1000
			drawn := map[string]int{}
			for i := range n {
				k := newTalk(t, f, who.init(i))
				drawn[k.events("experiment_arm", "arm")[0]]++
			}
			for arm, p := range map[string]float64{"a": .7, "b": .2, "c": .1, "d": 0} {
				likely(t, arm, drawn[arm], n, p)
			}
		})
	}
}

// The same person always draws the same arm: in another session, on another
// channel, and from a withheld number the session is the person.
func TestPersonKeepsArm(t *testing.T) {
	f := mustParse(t, splitting)
	arm := func(init Init) string { return newTalk(t, f, init).events("experiment_arm", "arm")[0] }
	withheld := map[string]bool{}
	for i := range 100 {
		user, caller := map[string]any{"id": i}, map[string]any{"caller": fmt.Sprintf("+1555%07d", i)}
		if a, b := arm(Init{ID: "1", User: user}), arm(Init{ID: "2", User: user, Context: caller, Channel: "voice"}); a != b {
			t.Errorf("user %d: %s, then %s", i, a, b)
		}
		if a, b := arm(Init{ID: "1", Context: caller}), arm(Init{ID: "2", Context: caller}); a != b {
			t.Errorf("caller %d: %s, then %s", i, a, b)
		}
		withheld[arm(Init{ID: fmt.Sprint(i), Context: map[string]any{"caller": "anonymous"}})] = true
	}
	if len(withheld) < 2 {
		t.Error("all withheld numbers are one person")
	}
}

// Where arms change, only those move who have to.
func TestArmsChangeLittle(t *testing.T) {
	old := []arm{{"a", 50}, {"b", 50}}
	moved, n := 0, 2000
	for i := range n {
		id := fmt.Sprint(i)
		draw := func(arms []arm) string {
			t := &turn{s: State{Session: Session{ID: id}}}
			return t.drawArm("x", arms, "")
		}
		was, is := draw(old), draw([]arm{{"a", 50}, {"b", 50}, {"c", 25}})
		if is != was {
			if moved++; is != "c" {
				t.Fatalf("%s moves from %s to %s, which stood before", id, was, is)
			}
		}
		if was == "a" && draw(old[:1]) != "a" || draw([]arm{{"a", 500}, {"b", 500}}) != was {
			t.Fatalf("%s moves though its arm stands", id)
		}
	}
	likely(t, "moved", moved, n, .2)
}

func TestEngagement(t *testing.T) {
	f := mustParse(t, `{"nodes": [
		{"id": "s", "type": "split", "content": {"experiment": "x", "arms": ["a"]}, "connections": {"a": "q"}},
		{"id": "q", "type": "question", "content": {"question": "?", "input_type": "number", "variable": "n"}, "connections": {"default": "s"}}]}`)
	k := newTalk(t, f, Init{Channel: "voice"})
	k.step(Silence{epoch})
	if got := k.events("experiment_engaged"); len(got) != 0 {
		t.Errorf("silence is an answer: %v", got)
	}
	k.say("what?")
	if got := k.events("experiment_engaged", "experiment", "arm"); !slices.Equal(got, []string{"x a"}) {
		t.Errorf("engaged %v", got)
	}
	k.say("4")
	if len(k.events("experiment_engaged")) != 0 || len(k.events("experiment_arm")) != 1 {
		t.Errorf("after the second answer: %v", k.last)
	}
}

func TestGoals(t *testing.T) {
	f := mustParse(t, `{"goals": {"asked": {"node": "q"}, "done": "end", "both": {"nodes": ["q", "end"]}}, "nodes": [
		{"id": "q", "type": "question", "content": {"question": "?", "variable": "x"}, "connections": {"default": "b"}},
		{"id": "b", "type": "action", "content": {"actions": [{"type": "goal", "goal": "paid", "value": "{price}"}, {"type": "goal", "name": "paid"}]},
		 "connections": {"success": "r"}},
		{"id": "r", "type": "condition", "content": {"conditions": [{"if": {"var": "x", "eq": "more"}, "then": "q"}], "else": "end"}},
		{"id": "end", "type": "hangup"}]}`)
	for _, p := range f.Check() {
		if p.Code != "unwired-outcome" {
			t.Error(p)
		}
	}
	k := newTalk(t, f, Init{Variables: map[string]any{"price": 12.5}})
	want := func(goals ...string) {
		t.Helper()
		if got := k.events("goal", "goal", "node", "value"); !slices.Equal(got, goals) {
			t.Errorf("goals %q, want %q", got, goals)
		}
	}
	want("asked q <nil>", "both q <nil>")
	k.say("more")
	want("paid b 12.5")
	k.say("no")
	want("done end <nil>")
}

func TestGoalProblems(t *testing.T) {
	f := mustParse(t, `{"goals": {"a": {"node": "gone"}, "b": {}}, "experiments": [{"id": "x", "goal": "c"}, {"id": "y", "goal": "d"}], "nodes": [
		{"id": "n", "type": "action", "content": {"actions": [{"type": "goal"}, {"type": "goal", "goal": "d"}]}}]}`)
	got := map[string]bool{}
	for _, p := range f.Check() {
		got[p.Pointer+" "+p.Code] = true
	}
	for _, want := range []string{"/goals/a/node missing-target", "/goals/b missing-field", "/experiments unknown-goal", "/nodes/0/content/actions/0 missing-field"} {
		if !got[want] {
			t.Errorf("no problem %q in %v", want, got)
		}
	}
}

func TestExperiments(t *testing.T) {
	inner := mustParse(t, `{"nodes": [{"id": "deep", "type": "split", "content": {"arms": ["m", {"arm": "n", "weight": 3}]}}]}`)
	f := mustParse(t, `{"experiments": [{"id": "x", "split": ["a", "b"], "goal": "won"}], "nodes": [
		{"id": "c", "type": "composite", "content": {"nodes": [{"type": "split", "content": {"experiment": "x"}}]}, "connections": {"complete": "d"}},
		{"id": "d", "type": "composite", "content": {"flow": "sub"}}]}`).With(map[string]*Flow{"sub": inner})
	b, err := json.Marshal(f.Experiments())
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"id":"deep","arms":[{"arm":"m","weight":1},{"arm":"n","weight":3}]},{"id":"x","goal":"won","arms":[{"arm":"a","weight":1},{"arm":"b","weight":1}]}]`
	if string(b) != want {
		t.Errorf("%s, want %s", b, want)
	}
}

// What is wrong with a content is said in words, with its place where there is one.
func TestCheckContentSaysWhatIsWrong(t *testing.T) {
	const shown = "a secret would be shown to the caller"
	for name, tt := range map[string]struct {
		content any
		want    string
	}{
		"whole": {map[string]any{"text": "a {secret:k}"}, "flow: " + shown},
		"sound": {map[string]any{"text": "a joke"}, ""},
	} {
		got := ""
		if err := CheckContent(tt.content); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
