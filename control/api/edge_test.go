package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"parley/agent/flow"
)

// hostileTexts are what people type to get at what is not theirs.
var hostileTexts = []string{"{secret:k}", "{{secret:k}}", "{user.plan}", "{{ user.plan }}", `\{user.plan}`, "${user.plan}", "{input.x}", "../../etc/passwd", "..%2f",
	"a\r\nX-Evil: 1", `"}],"x":{"y":"`, "<speak><break time=\"9s\"/></speak>", "' or 1=1 --", "\u202e{session.id}", "user.plan == 'gold' || true", "%s%n", "[redacted]"}

// What people type is shown as they typed it, in every place and by every road
// through a flow, and is never read as a reference or an expression.
func TestUserTextIsNeverExpanded(t *testing.T) {
	p := newPlane(t)
	var sent []flow.Call
	p.effect = func(e flow.Effect) flow.Result {
		c, ok := e.(flow.Call)
		if !ok {
			return flow.Result{}
		}
		sent = append(sent, c)
		data, _ := json.Marshal(map[string]any{"echo": c.Query[0].Value[0].Text})
		return flow.Result{At: flow.At{At: time.Now()}, ID: c.ID, Outcome: "success", Data: data}
	}
	id := p.publish("echo", `{"nodes":[
		{"id":"q","type":"question","content":{"question":"?","variable":"v"},"connections":{"default":"set"}},
		{"id":"set","type":"action","content":{"actions":[{"type":"set_variable","variable":"temp.copy","value":"{v}"},{"type":"set_variable","variable":"temp.deep","value":{"k":["{temp.copy}"]}},
			{"type":"append","variable":"list","value":"{temp.copy}"},{"type":"aggregate","expression":"string(v)","target":"temp.cel"}]},"connections":{"success":"c","error":"c"}},
		{"id":"c","type":"composite","content":{"inputs":{"x":"{temp.copy}","p":"v"},"nodes":[
			{"id":"i","type":"composite","content":{"inputs":{"y":"{input.x}"},"nodes":[{"id":"o","type":"action","content":{"actions":[{"type":"set_variable","variable":"output.z","value":"{input.y}"}]}}],"outputs":{"z":"output.z"}}}],
			"outputs":{"z":"temp.through"}},"connections":{"complete":"if","error":"@end"}},
		{"id":"if","type":"condition","content":{"conditions":[{"if":"v == temp.through","then":"w"}],"else":"w"}},
		{"id":"w","type":"webhook","content":{"url":"https://a.example/{v}","query_params":{"q":"{v}"},"headers":{"X":"{v}"},"body":{"b":"{temp.deep}"},"response_mapping":{"temp.back":"$.echo"}},"connections":{"success":"say","error":"say"}},
		{"id":"say","type":"message","content":{"messages":[{"type":"text","content":"{v}|{temp.copy}|{temp.through}|{temp.cel}|{temp.back}"},{"type":"image","url":"https://a.example/{v}","alt":"{v}"}]},"connections":{"default":"again"}},
		{"id":"again","type":"question","content":{"question":"{temp.back}?","variable":"v","validation":{"error_message":"not {v}"}},"connections":{"default":"set"}}],
		"defaults":{"limits":{"turns":10000}}}`, true)
	s := p.chat("", `{"flow_id":"`+id+`","initial_state":{"user":{"plan":"Midas"}}}`)
	for _, text := range hostileTexts {
		body, _ := json.Marshal(map[string]string{"input": text})
		m := s.say(200, string(body))
		list := m["messages"].([]any)
		want := strings.Join([]string{text, text, text, text, text}, "|")
		if got := list[0].(map[string]any)["text"]; got != want {
			t.Errorf("%q is shown as %q", text, got)
		}
		if got := list[2].(map[string]any)["text"]; got != text+"?" {
			t.Errorf("%q is asked as %q", text, got)
		}
		if got := fmt.Sprint(list[1].(map[string]any)["url"]); got != "https://a.example/"+url.PathEscape(text) {
			t.Errorf("%q is in the address %q", text, got)
		}
		if all := fmt.Sprint(sent[len(sent)-1].Body, sent[len(sent)-1].Headers, list); strings.Contains(all, "Midas") {
			t.Errorf("%q was expanded: %s", text, all)
		}
		for _, part := range append(sent[len(sent)-1].Body, sent[len(sent)-1].Headers[0].Value...) {
			if part.Secret != "" {
				t.Errorf("%q asks for the secret %s", text, part.Secret)
			}
		}
	}
	// Values that a program brings are no templates either.
	p.want(200, "PATCH", "/chat/sessions/"+s.token+"/state", s.token, `{"updates":{"variables":{"v":"{user.plan}"},"user":{"name":"{{user.plan}}"}}}`)
	m := p.want(200, "GET", "/chat/sessions/"+s.token, "", "")
	if got := fmt.Sprint(m["state"].(map[string]any)["user"]); !strings.Contains(got, "name:{{user.plan}}") {
		t.Errorf("patched: %s", got)
	}
}

// Bodies that are too large, too deep or not JSON are refused by every route of
// a chat, with what is wrong and where, and change nothing.
func TestChatBodies(t *testing.T) {
	p := newPlane(t)
	s := p.chat("", `{"flow_id":"`+p.publish("asking", asking, true)+`"}`)
	path := "/chat/sessions/" + s.token
	deep := strings.Repeat(`{"x":`, 40) + "1" + strings.Repeat("}", 40)
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
		at                 string // of the fault
	}{
		"interact-over-a-mebibyte": {"POST", "/interact", `{"input":"` + strings.Repeat("x", 1<<20) + `"}`, 413, ""},
		"patch-over-a-mebibyte":    {"PATCH", "/state", `{"updates":{"temp":{"x":"` + strings.Repeat("x", 1<<20) + `"}}}`, 413, ""},
		"deep":                     {"PATCH", "/state", `{"updates":{"temp":` + deep + `}}`, 422, "updates/temp/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x"},
		"deep-beyond-reason":       {"PATCH", "/state", `{"updates":{"temp":` + strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000) + `}}`, 400, ""},
		"scope-is-a-list":          {"PATCH", "/state", `{"updates":{"temp":[1]}}`, 422, "updates/temp"},
		"updates-is-a-text":        {"PATCH", "/state", `{"updates":"x"}`, 422, "updates"},
		"no-json":                  {"POST", "/interact", `{"input":`, 400, ""},
		"two-values":               {"POST", "/interact", `{"input":"a"}{"input":"b"}`, 400, ""},
		"wrong-field":              {"POST", "/interact", `{"inputs":"a"}`, 422, ""},
		"revision-below-zero":      {"POST", "/interact", `{"input":"a","expected_revision":-1}`, 422, "body.expected_revision"},
		"revision-is-a-text":       {"POST", "/interact", `{"input":"a","expected_revision":"1"}`, 422, "body.expected_revision"},
		"no-input":                 {"POST", "/interact", `{"input":{"a":1}}`, 422, "input"},
		"history-limit":            {"GET", "/history?limit=100000", "", 422, "query.limit"},
		"history-after":            {"GET", "/history?after=-5", "", 422, "query.after"},
	} {
		resp, m := p.do(tt.method, path+tt.path, s.token, tt.body)
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %d %.300v, want %d", name, resp.StatusCode, m, tt.status)
		}
		if got := fmt.Sprint(m["errors"]); tt.at != "" && !strings.Contains(got, "location:"+tt.at+" ") {
			t.Errorf("%s: %.300s, want it at %s", name, got, tt.at)
		}
	}
	// What a foreign page may send unasked.
	if resp, m := p.do("POST", path+"/interact", s.token, "input=a", "Content-Type", "application/x-www-form-urlencoded"); resp.StatusCode != 415 {
		t.Errorf("a form: %d %v, want 415", resp.StatusCode, m)
	}
	if m := p.want(200, "GET", path, "", ""); m["revision"] != 1.0 {
		t.Errorf("refused bodies changed something: %v", m)
	}
}

// Documents that PostgreSQL cannot hold are refused, or held without what
// cannot be; nothing is a fault of ours.
func TestHostileDocuments(t *testing.T) {
	p := newPlane(t)
	for name, text := range map[string]string{"nul": `a\u0000b`, "lone-surrogate": `a\ud800b`, "bell": `a\u0007b`, "noncharacter": `a\uffffb`} {
		doc := `{"nodes":[{"id":"a","type":"message","content":{"text":"` + text + `"},"x-` + text + `":1}]}`
		resp, m := p.do("POST", "/v1/flows", p.demo.APIKey, `{"name":"`+name+`","document":`+doc+`}`)
		if resp.StatusCode == 201 {
			id := m["id"].(string)
			p.want(200, "PATCH", "/v1/flows/"+id, p.demo.APIKey, `{"public":true}`)
			p.want(200, "POST", "/v1/flows/"+id+"/publish", p.demo.APIKey, "")
			p.chat("", `{"flow_id":"`+id+`"}`)
		} else if resp.StatusCode != 422 && resp.StatusCode != 400 {
			t.Errorf("%s: %d %v", name, resp.StatusCode, m)
		}
	}
	for name, body := range map[string]string{
		"user":   `{"flow_id":"demo","user_id":"a\u0000b"}`,
		"locale": `{"flow_id":"demo","locale":"de\u0000"}`,
		"flow":   `{"flow_id":"a\u0000b"}`,
		"state":  `{"flow_id":"demo","initial_state":{"user":{"a\u0000b":"\u0000\ud800","n":1e999999}}}`,
	} {
		if resp, m := p.do("POST", "/chat/start", p.demo.APIKey, body); resp.StatusCode >= 500 {
			t.Errorf("start with %s: %d %v\n%s", name, resp.StatusCode, m, p.log)
		}
	}
	for _, q := range []string{"user_id=a%00b", "status=%00", "channel=%ff", "after=%00", "flow_id=%00"} {
		if resp, m := p.do("GET", "/v1/sessions?"+q, p.demo.APIKey, ""); resp.StatusCode >= 500 {
			t.Errorf("sessions with %s: %d %v\n%s", q, resp.StatusCode, m, p.log)
		}
	}
}
