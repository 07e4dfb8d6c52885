package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/agent"
	"parley/agent/providertest"
)

// modelFlow books a table with a model's help: the words are the model's, the
// way is the flow's.
const modelFlow = `{"defaults":{"model":"booker-llm"},"nodes":[
 {"id":"desk","type":"agent","content":{"prompt":"You book tables.","greeting":"Hello, this is the restaurant. How can I help you?",
   "slots":[{"name":"people","type":"number"}],"must_collect":["people"],"exits":[{"name":"booked","when":"the number of people is known"}]},
  "connections":{"exit:booked":"bye","error":"sorry","limit":"sorry"}},
 {"id":"bye","type":"hangup","content":{"text":"A table for {people} is booked."}},
 {"id":"sorry","type":"hangup","content":{"text":"Sorry, that did not work."}}]}`

// whispered is call, with a note of an operator's as soon as the call is active.
func (e *endToEnd) whispered(t *testing.T, agent, note, script string) heldCall {
	t.Helper()
	type placed struct {
		heldCall
		err error
	}
	over, dir := make(chan placed, 1), t.TempDir()
	go func() {
		h, err := e.place(t.Context(), dir, agent, script)
		over <- placed{h, err}
	}()
	var a struct{ ID string }
	e.request(t, "GET", "/v1/agents/"+agent, nil, &a)
	var calls struct{ Items []storedCall }
	for deadline := time.Now().Add(time.Minute); len(calls.Items) == 0 && time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		e.request(t, "GET", "/v1/calls?limit=1&status=active&agent_id="+a.ID, nil, &calls)
	}
	if len(calls.Items) == 0 {
		t.Fatalf("no call of %s is active: %+v", agent, <-over)
	}
	var made, done struct{ ID, Status, Reason string }
	call := "/v1/calls/" + calls.Items[0].ID
	e.request(t, "POST", call+"/whisper", settings{"text": note}, &made)
	end := <-over
	if end.err != nil {
		t.Fatal(end.err)
	}
	if e.request(t, "GET", call+"/commands/"+made.ID, nil, &done); done.Status != "done" {
		t.Errorf("the note is %s: %s", done.Status, done.Reason)
	}
	return end.heldCall
}

// testModelNodes has the same flow led by the same answers, by telephone and
// in chat.
func testModelNodes(t *testing.T, e *endToEnd) {
	const aside = "Offer the terrace to this guest."
	replies := []providertest.Reply{
		{Text: "With pleasure. For how many people?"},
		{Text: "All right.", Calls: []agent.ToolCall{{ID: "c1", Name: "leave", Arguments: `{"exit":"booked"}`}}}, // too early
		{Calls: []agent.ToolCall{{ID: "c2", Name: "fill_slots", Arguments: `{"people":4}`}, {ID: "c3", Name: "leave", Arguments: `{"exit":"booked"}`}}},
	}
	c := e.addClerk(t, "booker", []string{"I would like a table.", "For four people."}, replies...)
	var f struct{ ID string }
	e.request(t, "POST", "/v1/flows", settings{"name": "booker", "document": json.RawMessage(modelFlow)}, &f)
	e.request(t, "POST", "/v1/flows/"+f.ID+"/publish", settings{}, new(struct{}))
	e.addAgent(t, "booker-flow", settings{"kind": "flow", "flow_id": f.ID,
		"stt": []settings{{"vendor": "deepgram", "model": "booker-stt"}},
		"tts": []settings{{"vendor": "openai", "model": "booker-tts", "voice": "alloy"}},
	})
	h := e.whispered(t, "booker-flow", aside, `
wait-speech 20s
wait-quiet 1s
say I would like a table
wait-speech 20s
wait-quiet 1s
say for four people
expect-end goodbye
expect-heard ^With pleasure\. For how many people\?$
expect-heard ^All right\. A table for 4 is booked\.$
`)
	if h.status != exitOK {
		t.Fatalf("exit status %d:\n%s", h.status, h.log())
	}
	t.Logf("latency by the gateway %v, on the line %v", h.report.LatencyMS, h.report.LineLatencyMS)
	reqs := c.models.Requests()
	if len(reqs) != 3 || !strings.Contains(string(reqs[1].Body), "With pleasure. For how many people?") || !strings.Contains(string(reqs[2].Body), "still missing: people") {
		t.Errorf("the model was asked %d times: %s", len(reqs), reqs[len(reqs)-1].Body)
	}
	if last := string(reqs[len(reqs)-1].Body); strings.Count(last, aside) != 1 {
		t.Errorf("an operator's note reaches the model %d times: %s", strings.Count(last, aside), last)
	}
	if _, turns := e.stored(t, "booker-flow"); len(turns) == 0 || strings.Contains(fmt.Sprint(turns), "terrace") {
		t.Errorf("a note stands in what was said: %+v", turns)
	}

	again := providertest.NewOpenAI(providertest.OpenAIScript{Key: providertest.Canary, Replies: replies})
	t.Cleanup(again.Close)
	e.vendors.connect(t, "booker-llm", again.URL)
	var said []string
	type turn struct {
		Token    string `json:"session_token"`
		Status   string
		Messages []struct{ Text string }
	}
	note := func(r turn) {
		for _, m := range r.Messages {
			said = append(said, m.Text)
		}
	}
	var r turn
	e.request(t, "POST", "/chat/start", settings{"flow_id": f.ID}, &r)
	note(r)
	token := r.Token
	for _, in := range []string{"I would like a table.", "For four people."} {
		e.request(t, "POST", "/chat/sessions/"+token+"/interact", settings{"input": in}, &r)
		note(r)
	}
	want := "Hello, this is the restaurant. How can I help you?|With pleasure. For how many people?|All right.|A table for 4 is booked."
	if got := strings.Join(said, "|"); got != want || r.Status != "completed" {
		t.Errorf("chat says %s (%s)\nwant %s", got, r.Status, want)
	}
}
