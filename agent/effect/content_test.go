package effect_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"parley/agent/effect"
	"parley/agent/flow"
)

// library is content that tests put there; it counts what it is asked.
type library struct {
	kept map[string]flow.Content
	err  error
	asks [][]string
}

func (l *library) Candidates(_ context.Context, w flow.Want) ([]string, error) {
	var ids []string
	for id, c := range l.kept {
		if c.Type == w.Type {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, l.err
}

func (l *library) Contents(_ context.Context, ids []string) ([]flow.Content, error) {
	l.asks = append(l.asks, ids)
	var out []flow.Content
	for _, id := range ids {
		if c, ok := l.kept[id]; ok {
			out = append(out, c)
		}
	}
	return out, l.err
}

// A reading is one conversation with content, and what was given to the flow.
type reading struct {
	t      *testing.T
	host   *effect.TextHost
	s      flow.State
	said   []string
	events []flow.Event
	emits  map[string][]string
}

func read(t *testing.T, f *flow.Flow, l effect.Contents, init flow.Init) *reading {
	t.Helper()
	if init.ID == "" {
		init.ID = "s"
	}
	p := &effect.Performer{Contents: l}
	r := &reading{t: t, s: flow.New(f, init), emits: map[string][]string{}}
	r.host = &effect.TextHost{Flow: f, Perform: p.Perform, Commit: func(_ context.Context, st effect.Step) error {
		r.events = append(r.events, st.Event)
		for _, m := range st.Messages() {
			r.said = append(r.said, m.Text)
		}
		for _, e := range st.Effects {
			if e, ok := e.(flow.Emit); ok {
				r.emits[e.Type] = append(r.emits[e.Type], string(e.Data))
			}
		}
		b, err := flow.EncodeState(st.State)
		if err == nil {
			_, err = flow.DecodeState(b, flow.Hash(b))
		}
		return err
	}}
	r.step(flow.Start{})
	return r
}

func (r *reading) step(ev flow.Event) {
	r.t.Helper()
	r.said, r.events = nil, r.events[:len(r.events):len(r.events)]
	s, err := r.host.Turn(r.t.Context(), r.s, ev)
	if err != nil {
		r.t.Fatal(err)
	}
	r.s = s
}

func (r *reading) answer(s string) { r.t.Helper(); r.step(flow.Input{Text: s, Mode: "text"}) }

func parse(t *testing.T, doc string) *flow.Flow {
	t.Helper()
	f, err := flow.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const jokes = `{"nodes": [
	{"id": "joke", "type": "message", "content": {"messages": [{"content_filter": {"type": "joke"}, "text": "No joke today."}]}, "connections": {"default": "more"}},
	{"id": "more", "type": "question", "content": {"question": "More?", "input_type": "yes_no"}, "connections": {"yes": "joke"}}]}`

func jokebook(n int) *library {
	l := &library{kept: map[string]flow.Content{}}
	for i := range n {
		id := fmt.Sprintf("j%02d", i)
		l.kept[id] = flow.Content{ID: id, Type: "joke", Content: id}
	}
	return l
}

// Nothing comes twice before all have come once, and then all come again, in
// another order, never one right after itself.
func TestDrawsWithoutRepeats(t *testing.T) {
	f := parse(t, jokes)
	orders := map[string]bool{}
	for _, session := range []string{"a", "b", "c", "d"} {
		r := read(t, f, jokebook(6), flow.Init{ID: session})
		var told []string
		for range 18 {
			told = append(told, r.said[0])
			r.answer("yes")
		}
		for round := range 3 {
			part := slices.Sorted(slices.Values(told[6*round : 6*round+6]))
			if want := []string{"j00", "j01", "j02", "j03", "j04", "j05"}; !slices.Equal(part, want) {
				t.Errorf("session %s, round %d: %v", session, round, told[6*round:6*round+6])
			}
		}
		if len(slices.Compact(slices.Clone(told))) != len(told) {
			t.Errorf("session %s tells one twice running: %v", session, told)
		}
		orders[fmt.Sprint(told)] = true
	}
	if len(orders) < 3 {
		t.Errorf("only %d orders in 4 sessions", len(orders))
	}
	if r := read(t, f, jokebook(0), flow.Init{}); r.said[0] != "No joke today." {
		t.Errorf("without jokes: %q", r.said)
	}
	if r := read(t, f, jokebook(1), flow.Init{}); r.said[0] != "j00" {
		t.Errorf("with one joke: %q", r.said)
	}
}

// The events alone give the same conversation again, whatever has become of the
// content meanwhile.
func TestReplayIsExact(t *testing.T) {
	f := parse(t, jokes)
	r := read(t, f, jokebook(9), flow.Init{})
	for range 5 {
		r.answer("yes")
	}
	s := flow.New(f, flow.Init{ID: "s"})
	for _, ev := range r.events {
		s, _ = flow.Step(f, s, ev)
	}
	a, errA := flow.EncodeState(r.s)
	b, errB := flow.EncodeState(s)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("%v %v\n%s\n%s", errA, errB, a, b)
	}
}

// All content of a node is loaded at once.
func TestContentComesInOneGo(t *testing.T) {
	l := jokebook(30)
	var messages []string
	for i := range 19 {
		messages = append(messages, fmt.Sprintf(`{"content_id": "j%02d"}`, i%15))
	}
	messages = append(messages, `{"content_filter": {"type": "joke"}, "text": "-"}`)
	f := parse(t, `{"nodes": [{"id": "m", "type": "message", "content": {"messages": [`+strings.Join(messages, ",")+`]}}]}`)
	r := read(t, f, l, flow.Init{})
	if len(r.said) != 20 || len(l.asks) != 1 || len(l.asks[0]) != 16 {
		t.Errorf("%d messages, asked %v", len(r.said), l.asks)
	}
}

func TestContentThatIsAway(t *testing.T) {
	l := jokebook(1)
	l.err = errors.New("away")
	for name, c := range map[string]effect.Contents{"none": nil, "failing": l} {
		if r := read(t, parse(t, jokes), c, flow.Init{}); !slices.Equal(r.said, []string{"No joke today.", "More?"}) {
			t.Errorf("%s: %q", name, r.said)
		}
	}
}

func weigh(n int) *int { return &n }

// A person is shown the same variant in every session and node, unless its
// conditions no longer hold.
func TestVariantSticks(t *testing.T) {
	l := &library{kept: map[string]flow.Content{"hi": {ID: "hi", Type: "message", Content: map[string]any{"text": "base {user.id}"}, Variants: []flow.Variant{
		{Key: "a", Data: map[string]any{"text": "a {user.id}"}, Weight: weigh(200)},
		{Key: "b", Data: map[string]any{"text": "b {user.id}"}, Conditions: map[string]any{"if": map[string]any{"var": "vip", "eq": true}}},
		{Key: "never", Data: "never", Weight: weigh(0)},
	}}}}
	f := parse(t, `{"nodes": [
		{"id": "m", "type": "message", "content": {"content_id": "hi", "text": "none"}, "connections": {"default": "q"}},
		{"id": "q", "type": "question", "content": {"question": {"content_id": "hi"}, "text": "none"}, "connections": {"default": "m"}}]}`)
	shown := map[string]int{}
	for i := range 400 {
		user := map[string]any{"id": fmt.Sprint("u", i)}
		r := read(t, f, l, flow.Init{ID: "1", User: user})
		first := r.said[0]
		if r.said[1] != first || !strings.HasSuffix(first, fmt.Sprint(" u", i)) {
			t.Fatalf("said %q", r.said)
		}
		if again := read(t, f, l, flow.Init{ID: "2", User: user}); again.said[0] != first {
			t.Fatalf("%q in one session, %q in another", first, again.said[0])
		}
		vip := read(t, f, l, flow.Init{ID: "1", User: user, Variables: map[string]any{"vip": true}}).said[0]
		if v := vip[0]; v != 'b' && vip != first {
			t.Fatalf("%q moves to %q though it may stay", first, vip)
		}
		shown[first[:1]]++
		shown["vip "+vip[:1]]++
	}
	// Of 400: base 100 and a 200; for vips b 100 beside them. Five standard
	// deviations of the binomial distribution.
	for v, want := range map[string][2]int{"b": {133, 48}, "a": {267, 48}, "vip a": {200, 50}, "vip b": {200, 50}} {
		if n := shown[v]; n < want[0]-want[1] || n > want[0]+want[1] {
			t.Errorf("%s: %d of 400, want %d ± %d", v, n, want[0], want[1])
		}
	}
}

func TestContentIsTold(t *testing.T) {
	l := jokebook(3)
	f := parse(t, jokes)
	r := read(t, f, l, flow.Init{})
	id := r.said[0]
	want := fmt.Sprintf(`{"content_id":%q,"node":"joke","previous_revision":1,"revision":2,"session_id":"s","type":"joke","variant":"base"}`, id)
	if got := r.emits["content_shown"]; len(got) != 1 || got[0] != want {
		t.Errorf("shown %s, want %s", got, want)
	}
	if got := r.emits["content_engaged"]; len(got) != 0 {
		t.Errorf("engaged before an answer: %s", got)
	}
	r.answer("no")
	want = fmt.Sprintf(`{"content_id":%q,"previous_revision":2,"revision":3,"session_id":"s","variant":"base"}`, id)
	if got := r.emits["content_engaged"]; len(got) != 1 || got[0] != want {
		t.Errorf("engaged %s, want %s", got, want)
	}
}

// A question that is asked again stays the same; entered anew it is another.
func TestQuestionStaysWhileItWaits(t *testing.T) {
	l := &library{kept: map[string]flow.Content{}}
	for i := range 8 {
		id := fmt.Sprint("q", i)
		l.kept[id] = flow.Content{ID: id, Type: "question", Content: map[string]any{"question": id + "?"}}
	}
	f := parse(t, `{"globals": [{"id": "help", "when": {"intent": "help"}, "then": "help", "return": true}], "intents": {"help": ["help"]}, "nodes": [
		{"id": "q", "type": "question", "content": {"content_filter": {"type": "question"}, "text": "?", "input_type": "number", "variable": "n", "max_retries": 1},
		 "connections": {"default": "q", "no_match": "@repeat"}},
		{"id": "help", "type": "message", "content": {"text": "Say a number."}}]}`)
	r := read(t, f, l, flow.Init{})
	first := r.said[0]
	for _, s := range []string{"what", "help", "hm", "what"} {
		r.answer(s)
		if got := r.said[len(r.said)-1]; got != first {
			t.Errorf("after %q it asks %q, want %q", s, got, first)
		}
	}
	if n := len(r.emits["content_shown"]); n != 1 {
		t.Errorf("told %d times", n)
	}
	r.answer("4")
	if r.said[0] == first {
		t.Errorf("asks %q again", first)
	}
}

// What the caller says over a message answers the question that it leads to,
// also where that comes from content; then it was not shown.
func TestAnswerOverMessageBeforeContent(t *testing.T) {
	l := &library{kept: map[string]flow.Content{"q": {ID: "q", Type: "question", Content: "Which size?"}}}
	f := parse(t, `{"nodes": [
		{"id": "m", "type": "message", "content": {"text": "Welcome.", "wait_for_ack": true}, "connections": {"default": "q"}},
		{"id": "q", "type": "question", "content": {"content_id": "q", "text": "?", "variable": "size"}, "connections": {"default": "end"}},
		{"id": "end", "type": "message", "content": {"text": "So {size}."}}]}`)
	r := read(t, f, l, flow.Init{Channel: "voice"})
	r.answer("large")
	if !slices.Equal(r.said, []string{"So large."}) || len(r.emits["content_shown"]) != 0 {
		t.Errorf("said %q, told %q", r.said, r.emits["content_shown"])
	}
}
