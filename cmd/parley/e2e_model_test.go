package main

import (
	"encoding/json"
	"strings"
	"testing"

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

// testModelNodes has the same flow led by the same answers, by telephone and
// in chat.
func testModelNodes(t *testing.T, e *endToEnd) {
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
	h := e.call(t, "booker-flow", `
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
