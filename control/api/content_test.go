package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
	"parley/control"
)

func TestContent(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	c := p.want(201, "POST", "/v1/content", key, `{"type":"joke","content":{"text":"Why do dogs bark?"},"tags":["Animals","short","short "],"locale":"en-US"}`)
	path := "/v1/content/" + c["id"].(string)
	if c["status"] != "draft" || c["weight"] != 100.0 || len(c["tags"].([]any)) != 2 || c["tags"].([]any)[0] != "animals" {
		t.Errorf("created %v", c)
	}
	for name, body := range map[string]string{
		"type":       `{"type":"poem","content":"x"}`,
		"empty":      `{"type":"joke","content":{}}`,
		"no-content": `{"type":"joke"}`,
		"blank":      `{"type":"joke","content":" "}`,
		"blank-list": `{"type":"joke","content":{"messages":["",{"text":""}]}}`,
		"list":       `{"type":"joke","content":["x"]}`,
		"secret":     `{"type":"joke","content":"{secret:key}"}`,
		"status":     `{"type":"joke","content":"x","status":"gone"}`,
		"locale":     `{"type":"joke","content":"x","locale":"english please"}`,
		"weight":     `{"type":"joke","content":"x","weight":-1}`,
		"long":       `{"type":"joke","content":"` + strings.Repeat("x", 17<<10) + `"}`,
		"tag":        `{"type":"joke","content":"x","tags":["` + strings.Repeat("x", 51) + `"]}`,
	} {
		t.Run(name, func(t *testing.T) { p.want(422, "POST", "/v1/content", key, body) })
	}
	resp, _ := p.do("GET", path, key, "")
	if resp.Header.Get("ETag") != `"1"` {
		t.Errorf("ETag %s", resp.Header.Get("ETag"))
	}
	c = p.want(200, "PATCH", path, key, `{"status":"published","tags":["dogs"]}`, "If-Match", `"1"`)
	if c["status"] != "published" || c["locale"] != "en-US" || c["revision"] != 2.0 {
		t.Errorf("changed %v", c)
	}
	p.want(412, "PATCH", path, key, `{"weight":1}`, "If-Match", `"1"`)
	p.want(404, "GET", "/v1/content/"+uuid.NewString(), key, "")
	reader := p.want(201, "POST", "/v1/keys", key, `{"name":"r","scopes":["content.read"]}`)["secret"].(string)
	p.want(200, "GET", path, reader, "")
	p.want(403, "POST", path+"/archive", reader, "")

	p.want(201, "POST", "/v1/content", key, `{"type":"fact","content":"Dogs have noses.","status":"published"}`)
	for query, want := range map[string]int{"": 2, "?kind=joke": 1, "?type=fact": 1, "?q=dogs": 2, "?q=dog&locale=en": 1, "?tag=dogs": 1, "?tag=dogs&tag=x": 0,
		"?status=draft": 0, "?locale=en": 1, "?q=noses&kind=joke": 0, "?limit=1": 1} {
		if got := p.want(200, "GET", "/v1/content"+query, key, ""); len(got["items"].([]any)) != want {
			t.Errorf("%s: %v, want %d", query, got["items"], want)
		}
	}
	p.want(422, "GET", "/v1/content?kind=poem", key, "")
	c = p.want(200, "POST", path+"/archive", key, "", "If-Match", `"2"`)
	if c["status"] != "archived" {
		t.Errorf("archived %v", c)
	}
}

func TestContentVariants(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	path := "/v1/content/" + p.want(201, "POST", "/v1/content", key, `{"type":"message","content":{"type":"image","url":"https://x.example/a.png","alt":"A"}}`)["id"].(string)
	v := p.want(201, "POST", path+"/variants", key, `{"variant_key":"b","variant_data":{"alt":"B"},"weight":50,"conditions":{"var":"user.vip","eq":true}}`)
	variant := path + "/variants/" + v["id"].(string)
	if v["weight"] != 50.0 || v["conditions"].(map[string]any)["var"] != "user.vip" {
		t.Errorf("created %v", v)
	}
	for name, body := range map[string]string{
		"base":       `{"variant_key":"base","variant_data":"x"}`,
		"key":        `{"variant_key":"a b","variant_data":"x"}`,
		"conditions": `{"variant_key":"c","variant_data":"x","conditions":{"var":"a","is":1}}`,
		"cel":        `{"variant_key":"c","variant_data":"x","conditions":"1 +"}`,
		"data":       `{"variant_key":"c","variant_data":7}`,
		"secret":     `{"variant_key":"c","variant_data":{"alt":"{secret:k}"}}`,
		"says-none":  `{"variant_key":"c","variant_data":{"url":null,"alt":null}}`,
	} {
		t.Run(name, func(t *testing.T) { p.want(422, "POST", path+"/variants", key, body) })
	}
	p.want(409, "POST", path+"/variants", key, `{"variant_key":"b","variant_data":"x"}`)
	p.want(404, "POST", "/v1/content/"+uuid.NewString()+"/variants", key, `{"variant_key":"b","variant_data":"x"}`)
	v = p.want(200, "PATCH", variant, key, `{"weight":0,"conditions":null}`, "If-Match", `"1"`)
	if v["weight"] != 0.0 || v["conditions"] != nil || v["variant_key"] != "b" {
		t.Errorf("changed %v", v)
	}
	p.want(412, "PATCH", variant, key, `{"weight":1}`, "If-Match", `"1"`)
	p.want(412, "DELETE", variant, key, "", "If-Match", `"1"`)
	if got := p.want(200, "GET", path+"/variants", key, ""); len(got["items"].([]any)) != 1 {
		t.Errorf("variants %v", got)
	}
	report := p.want(200, "GET", path+"/experiment", key, "")
	arms := report["arms"].([]any)
	if first := arms[0].(map[string]any); len(arms) != 2 || first["arm"] != "base" || first["sessions"] != 0.0 || first["conversion_rate"] != nil {
		t.Errorf("report %v", report)
	}
	p.want(422, "GET", path+"/experiment?effect=2", key, "")
	p.want(204, "DELETE", variant, key, "", "If-Match", `"2"`)
	p.want(404, "GET", variant, key, "")
	for i := range 20 {
		p.want(201, "POST", path+"/variants", key, `{"variant_key":"k`+uuid.NewString()[:8]+string(rune('a'+i))+`","variant_data":"x"}`)
	}
	p.want(422, "POST", path+"/variants", key, `{"variant_key":"more","variant_data":"x"}`)
}

// Content goes from the API into chats and simulations: published it is shown at
// once, archived no more, and the report counts it.
func TestContentInChat(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	performer := &effect.Performer{Contents: p.o.Contents.Shelf}
	p.effect = func(e flow.Effect) flow.Result {
		return performer.Perform(control.WithTenant(context.Background(), p.demo.Tenant), e)
	}
	id := p.want(201, "POST", "/v1/content", key, `{"type":"joke","content":{"setup":"Knock, {user.id}.","punchline":"Who?"},"status":"published"}`)["id"].(string)
	doc := `{"nodes":[{"id":"a","type":"message","content":{"messages":[{"content_id":"` + id + `","content":"No joke."}]},"connections":{"default":"s"}},
		{"id":"s","type":"split","content":{"experiment":"x","arms":["m"]},"connections":{"m":"q"}},
		{"id":"q","type":"question","content":{"question":"More?","variable":"more"},"connections":{"default":"g"}},
		{"id":"g","type":"action","content":{"actions":[{"type":"goal","goal":"won"}]}}]}`
	f := p.want(201, "POST", "/v1/flows", key, `{"name":"jokes","document":`+doc+`}`)["id"].(string)
	p.want(200, "POST", "/v1/flows/"+f+"/publish", key, "")
	said := func(m map[string]any) string {
		var out []string
		for _, e := range m["messages"].([]any) {
			out = append(out, e.(map[string]any)["text"].(string))
		}
		return strings.Join(out, "|")
	}
	start := func() map[string]any {
		return p.want(http.StatusCreated, "POST", "/chat/start", key, `{"flow_id":"`+f+`","user_id":"Ada"}`)
	}
	chat := start()
	if got := said(chat); got != "Knock, Ada.|Who?|More?" {
		t.Errorf("said %q", got)
	}
	p.want(200, "POST", "/chat/sessions/"+chat["session_token"].(string)+"/interact", key, `{"input":"yes"}`)
	sim := p.want(200, "POST", "/v1/flows/"+f+"/simulate", key, `{}`)["turns"].([]any)[0].(map[string]any)
	if got := said(sim); got != "Knock, .|Who?|More?" {
		t.Errorf("simulated %q", got)
	}
	report := p.want(200, "GET", "/v1/content/"+id+"/experiment", key, "")["arms"].([]any)[0].(map[string]any)
	flows := p.want(200, "GET", "/v1/flows/"+f+"/experiments", key, "")["items"].([]any)[0].(map[string]any)
	for _, arm := range []map[string]any{report, flows["arms"].([]any)[0].(map[string]any)} {
		if arm["impressions"] != 1.0 || arm["sessions"] != 1.0 || arm["engagements"] != 1.0 || arm["conversions"] != 1.0 || arm["conversion_rate"] != 1.0 {
			t.Errorf("report %v", arm)
		}
	}
	p.want(200, "POST", "/v1/content/"+id+"/archive", key, "")
	if got := said(start()); got != "No joke.|More?" {
		t.Errorf("after it was archived: %q", got)
	}
}
