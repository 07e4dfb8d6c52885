package control_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"parley/agent/flow"
	"parley/control"
)

// replay runs a conversation again, and prints what came of it.
func (w *town) replay(s *control.Chats, id uuid.UUID, o *control.OtherVersion) string {
	w.t.Helper()
	c, err := w.store.Conversation(w.ctx, id)
	if err != nil {
		w.t.Fatal(err)
	}
	var against *flow.Flow
	if o != nil {
		if against, err = s.Against(w.ctx, c, *o); err != nil {
			w.t.Fatal(err)
		}
	}
	sent := len(w.sent)
	r, err := s.Replay(w.ctx, c, against)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(w.sent) != sent {
		w.t.Error("a replay calls somebody")
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s\n", r.Verdict, r.Reason)
	for i, t := range r.Turns {
		if t.Equal && len(t.Notes) == 0 {
			continue
		}
		fmt.Fprintf(&out, "%d %s %q", i+1, t.Event, t.Input)
		for _, res := range []*control.TurnResult{t.Stored, t.Replayed} {
			if res != nil {
				fmt.Fprintf(&out, " [%s @%s %s]", flow.Text(res.Messages), res.Node, res.Status)
			}
		}
		for _, c := range t.State {
			fmt.Fprintf(&out, " %s:%v->%v", c.Path, c.From, c.To)
		}
		fmt.Fprintf(&out, " %s\n", strings.Join(t.Notes, "; "))
	}
	return out.String()
}

func (w *town) say(s *control.Chats, id uuid.UUID, texts ...string) {
	w.t.Helper()
	for _, text := range texts {
		if _, err := s.Interact(w.ctx, id, control.Answer{Text: text, Mode: "text"}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// A stored conversation runs again to the same hashes, from its history alone;
// what was altered shows.
func TestReplayExactly(t *testing.T) {
	w := newTown(t, shop)
	s := w.process()
	id := w.start(s).ID
	w.say(s, id, "tea")
	if got := w.replay(w.process(), id, nil); got != "equal \n" {
		t.Errorf("in progress: %s", got)
	}
	if _, err := s.Patch(w.ctx, id, map[string]any{"user": map[string]any{"name": "Ann", "big": 1}}, 0); err != nil {
		t.Fatal(err)
	}
	w.say(s, id, "no")
	if got := w.replay(w.process(), id, nil); got != "equal \n" {
		t.Errorf("completed: %s", got)
	}
	w.exec(`UPDATE conversation_history SET messages = '[{"type":"text","text":"Order 8."}]' WHERE conversation_id = $1 AND revision = 3`, id)
	if got := w.replay(s, id, nil); !strings.HasPrefix(got, "different revision 3: says something else\n2 input \"tea\" [Order 8.") {
		t.Errorf("altered words: %s", got)
	}
	other := w.start(s).ID
	w.say(s, other, "tea")
	w.exec(`UPDATE conversation_history SET event = jsonb_set(event, '{data,number}', '8') WHERE conversation_id = $1 AND event->>'type' = 'result' AND revision = 3`, other)
	if got := w.replay(s, other, nil); !strings.HasPrefix(got, "different revision 3: says something else") {
		t.Errorf("an altered result: %s", got)
	}
	third := w.start(s).ID
	w.exec(`UPDATE conversations SET state = jsonb_set(state, '{variables,what}', '"gold"') WHERE id = $1`, third)
	if got := w.replay(s, third, nil); !strings.HasPrefix(got, "different the state that is stored") || !strings.Contains(got, "/variables/what:gold-><nil>") {
		t.Errorf("an altered state: %s", got)
	}
	w.exec(`DELETE FROM conversation_history WHERE conversation_id = $1`, third)
	if got := w.replay(s, third, nil); !strings.HasPrefix(got, "impossible its history") {
		t.Errorf("without a history: %s", got)
	}
}

// Answers that are not kept cannot be given again.
func TestReplaySensitive(t *testing.T) {
	w := newTown(t, strings.Replace(shop, `"question":"What?",`, `"voice":{"sensitive":true},"question":"What?",`, 1))
	s := w.process()
	id := w.start(s).ID
	w.say(s, id, "tea")
	if got := w.replay(s, id, nil); !strings.HasPrefix(got, "impossible the answer at revision 2 is sensitive") {
		t.Error(got)
	}
}

// Against another version the same inputs are given, with the results that are
// stored; what is not stored is said.
func TestReplayAgainst(t *testing.T) {
	w := newTown(t, shop)
	s := w.process()
	id := w.start(s).ID
	w.say(s, id, "tea", "no")
	add := func(old, now string) *control.OtherVersion {
		if !strings.Contains(shop, old) {
			t.Fatal(old)
		}
		v, err := s.Flows.Releases().Add(w.ctx, w.flow, []byte(strings.Replace(shop, old, now, 1)), "", 0)
		if err != nil {
			t.Fatal(err)
		}
		return &control.OtherVersion{Number: v.Number}
	}
	if got := w.replay(s, id, &control.OtherVersion{Number: 1}); got != "equal \n" {
		t.Errorf("the same version: %s", got)
	}
	got := w.replay(s, id, add(`Order {number}.`, `Your order is {number}.`))
	if want := "different different from turn 2 on\n" +
		"2 input \"tea\" [Ordering tea. Order 7. Paid. More? @paid active] [Ordering tea. Your order is 7. Paid. More? @paid active] \n"; got != want {
		t.Errorf("other words: %s", got)
	}
	// A node by another name finds the result of its address; a new call has none.
	got = w.replay(s, id, add(`"connections":{"default":"pay"}},
	{"id":"pay",`, `"connections":{"default":"charge"}},
	{"id":"charge",`))
	if !strings.HasPrefix(got, "equal ") {
		t.Errorf("a new name: %s", got)
	}
	got = w.replay(s, id, add(`"https://shop.example/pay"`, `"https://bank.example/charge"`))
	if !strings.Contains(got, "call at pay (POST https://bank.example/charge): what it came to is stored of another request (POST https://shop.example/pay)") {
		t.Errorf("another address: %s", got)
	}
	got = w.replay(s, id, add(`{"id":"ordered","type":"message","content":{"text":"Order {number}."},"connections":{"default":"pay"}}`,
		`{"id":"ordered","type":"webhook","content":{"url":"https://new.example/"},"connections":{"success":"pay","error":"failed"}}`))
	if want := "different different from turn 2 on\n" +
		"2 input \"tea\" [Ordering tea. Order 7. Paid. More? @paid active] [Ordering tea. That failed. @ completed] call at ordered (GET https://new.example/): the history does not say what it came to; taken as an error\n" +
		"3 input \"no\" [Bye. @ completed] the conversation is over: this is not asked any more\n"; got != want {
		t.Errorf("a new call: %s", got)
	}
	got = w.replay(s, id, &control.OtherVersion{Document: []byte(strings.Replace(shop, `"variable":"more"`, `"variable":"again"`, 1))})
	if !strings.Contains(got, " /variables/again:<nil>->no /variables/more:no-><nil>") {
		t.Errorf("a document: %s", got)
	}
	if _, err := s.Against(context.WithoutCancel(w.ctx), control.Conversation{Flow: w.flow}, control.OtherVersion{Version: "^9"}); err == nil {
		t.Error("a version that is not there")
	}
}
