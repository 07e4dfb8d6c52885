package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"parley/agent/flow"
	"parley/control"
	"parley/control/api"
)

// told is a flow that says text and calls itself version.
func told(version, text string) string {
	return `{"version":"` + version + `","nodes":[{"id":"a","type":"message","content":{"text":"` + text + `"}}]}`
}

// An environment runs its own version, trial and rollback, and touches no other.
func TestEnvironments(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	id := p.publish("desk", told("1.0.0", "one"), true)
	path := "/v1/flows/" + id
	says := func(environment string) string {
		return texts(p.chat(key, `{"flow_id":"desk","environment":"`+environment+`"}`).first)
	}
	p.want(404, "POST", "/chat/start", key, `{"flow_id":"desk","environment":"staging"}`)
	p.want(404, "POST", path+"/rollback", key, `{"environment":"staging"}`)
	p.want(422, "POST", path+"/publish", key, `{"environment":"Staging"}`)
	p.want(422, "POST", path+"/publish", key, `{"environment":"staging","percent":5}`)
	p.do("POST", path+"/versions", key, `{"document":`+told("1.1.0", "two")+`}`)
	p.want(200, "POST", path+"/publish", key, `{"environment":"staging"}`)
	if says("staging") != "two" || says("") != "one" || says("live") != "one" {
		t.Errorf("staging says %q, live %q", says("staging"), says("live"))
	}
	p.want(403, "POST", "/chat/start", "", `{"flow_id":"`+id+`","environment":"staging"}`)
	p.do("POST", path+"/versions", key, `{"document":`+told("1.2.0", "three")+`}`)
	p.want(200, "POST", path+"/publish", key, `{"environment":"staging"}`)
	p.want(200, "POST", path+"/publish", key, `{"environment":"staging","number":1}`)
	// Back from what was tried last, each time; what was taken back stays so.
	for _, want := range []string{"three", "two", "one"} {
		if want != "one" {
			if p.want(200, "POST", path+"/rollback", key, `{"environment":"staging"}`); says("staging") != want {
				t.Errorf("rolled back, staging says %q, want %q", says("staging"), want)
			}
			continue
		}
		p.want(404, "POST", path+"/rollback", key, `{"environment":"staging"}`)
	}
	if says("") != "one" {
		t.Error("live has changed")
	}
	m := p.want(200, "GET", path, key, "")
	if list := m["environments"].([]any); len(list) != 2 || list[0].(map[string]any)["name"] != "live" || m["published_id"] != list[0].(map[string]any)["published_id"] {
		t.Errorf("environments: %v", m)
	}
	if n := len(p.want(200, "GET", path+"/publications?environment=staging", key, "")["items"].([]any)); n != 5 {
		t.Errorf("%d publications in staging", n)
	}
}

// A composite's range leads to the newest version that was published for all
// and is not taken back; a session keeps what it began with.
func TestCompositeRanges(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	id := p.publish("inner", told("1.0.0", "1.0.0"), false)
	path := "/v1/flows/" + id
	release := func(version string) {
		p.want(201, "POST", path+"/versions", key, `{"document":`+told(version, version)+`}`)
		p.want(200, "POST", path+"/publish", key, "")
	}
	made := map[string]bool{}
	says := func(version string) string {
		doc := `{"nodes":[{"id":"c","type":"composite","content":{"flow":"inner","version":` + version + `},"connections":{"error":"@end"}}]}`
		name := fmt.Sprintf("outer-%x", version)
		if !made[name] {
			made[name] = true
			f := p.want(201, "POST", "/v1/flows", key, `{"name":"`+name+`","document":`+doc+`}`)
			p.do("POST", "/v1/flows/"+f["id"].(string)+"/publish", key, "")
		}
		resp, m := p.do("POST", "/chat/start", key, `{"flow_id":"`+name+`"}`)
		if resp.StatusCode != 201 {
			return fmt.Sprint(resp.StatusCode)
		}
		return texts(m)
	}
	for _, v := range []string{"1.2.0", "1.10.1", "2.0.0"} {
		release(v)
	}
	p.want(201, "POST", path+"/versions", key, `{"document":`+told("1.99.0", "never published")+`}`)
	for version, want := range map[string]string{`"^1.2"`: "1.10.1", `"~1.2.0"`: "1.2.0", `"1.x"`: "1.10.1", `"1.0.0"`: "1.0.0", `"*"`: "2.0.0",
		`2`: "1.2.0", `""`: "2.0.0", `"^3"`: "404", `"1.99.0"`: "404"} {
		if got := says(version); got != want {
			t.Errorf("version %s says %q, want %q", version, got, want)
		}
	}
	p.want(200, "POST", path+"/rollback", key, "") // 2.0.0
	p.want(200, "POST", path+"/rollback", key, "") // 1.10.1
	if got := says(`"*"`); got != "1.2.0" {
		t.Errorf("after two rollbacks * says %q", got)
	}
	m := p.want(422, "POST", "/v1/flows", key, `{"name":"wrong","document":{"nodes":[{"id":"c","type":"composite","content":{"flow":"inner","version":"new"}}]}}`)
	if !strings.Contains(fmt.Sprint(m["errors"]), "bad-version") {
		t.Errorf("a version that is none: %v", m)
	}
}

// A draft is kept with all its faults, and becomes a version without them.
func TestDraft(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	path := "/v1/flows/" + p.publish("desk", told("1.0.0", "one"), true)
	p.want(404, "GET", path+"/draft", key, "")
	p.want(404, "POST", path+"/versions", key, `{}`)
	resp, _ := p.do("PUT", path+"/draft", key, `{"document":{"nodes":[{"id":"a","type":"message","content":{"text":"."},"connections":{"default":"b"}}]}}`)
	tag := resp.Header.Get("ETag")
	m := p.want(200, "GET", path+"/draft", key, "")
	if list := m["problems"].([]any); resp.StatusCode != 200 || list[0].(map[string]any)["code"] != "missing-target" {
		t.Errorf("draft: %v", m)
	}
	p.want(422, "POST", path+"/versions", key, `{}`)
	p.want(200, "PUT", path+"/draft", key, `{"document":`+told("1.1.0", "two")+`}`, "If-Match", tag)
	p.want(412, "PUT", path+"/draft", key, `{"document":{}}`, "If-Match", tag)
	if m := p.want(201, "POST", path+"/versions", key, `{}`); m["number"] != 2.0 || m["version"] != "1.1.0" {
		t.Errorf("version: %v", m)
	}
	p.want(404, "GET", path+"/draft", key, "")
	p.want(200, "PUT", path+"/draft", key, `{"document":{}}`)
	p.want(200, "DELETE", path+"/draft", key, "")
	p.want(404, "GET", path+"/draft", key, "")
}

// Who did what stands in the trail, and stays there.
func TestAudit(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	id := p.publish("desk", told("1.0.0", "one"), false)
	path := "/v1/flows/" + id
	resp, _ := p.do("PATCH", path, key, `{"name":"counter"}`)
	request := resp.Header.Get("X-Request-Id")
	v := p.want(201, "POST", path+"/versions", key, `{"document":`+told("1.1.0", "two")+`}`)
	p.want(200, "POST", path+"/publish", key, `{"environment":"staging"}`)
	p.want(200, "POST", path+"/publish", key, "")
	p.want(200, "POST", path+"/rollback", key, "")
	s := p.chat(key, `{"flow_id":"front-desk"}`)
	p.want(204, "DELETE", "/v1/sessions/"+s.id, key, "")
	all := p.want(200, "GET", "/v1/audit", key, "")["items"].([]any)
	var got []string
	for i := len(all) - 1; i >= 0; i-- {
		e := all[i].(map[string]any)
		if e["seq"] != float64(len(all)-i) {
			t.Errorf("entry %v at %d", e["seq"], len(all)-i)
		}
		if e["object"] == "flow:"+id || strings.HasPrefix(e["object"].(string), "session:") {
			d := e["detail"].(map[string]any)
			got = append(got, strings.TrimRight(fmt.Sprint(e["action"], " ", d["number"], " ", d["environment"]), " "))
			if !strings.HasPrefix(e["actor"].(string), "key:") || e["request_id"] == "" {
				t.Errorf("nobody: %v", e)
			}
		}
	}
	want := "flow.create <nil> <nil>, flow.version 1 <nil>, flow.publish 1 live, flow.change <nil> <nil>, flow.version 2 <nil>, " +
		"flow.publish 2 staging, flow.publish 2 live, flow.rollback 1 live, session.delete <nil> <nil>"
	if strings.Join(got, ", ") != want {
		t.Errorf("audited %q,\n   want %q", strings.Join(got, ", "), want)
	}
	published := p.want(200, "GET", "/v1/audit?action=flow.publish&object=flow:"+id+"&limit=1", key, "")
	e := published["items"].([]any)[0].(map[string]any)
	f, err := flow.Parse([]byte(told("1.1.0", "two")))
	if err != nil {
		t.Fatal(err)
	}
	if d := e["detail"].(map[string]any); d["hash"] != flow.Hash(f.Canonical()) || d["hash"] != v["hash"] || d["version"] != "1.1.0" {
		t.Errorf("published: %v", d)
	}
	next := p.want(200, "GET", "/v1/audit?action=flow&object=flow:"+id+"&limit=2&after="+published["next"].(string), key, "")["items"].([]any)
	if len(next) != 2 || next[0].(map[string]any)["detail"].(map[string]any)["environment"] != "staging" {
		t.Errorf("the next page: %v", next)
	}
	if list := p.want(200, "GET", "/v1/audit?actor=nobody", key, "")["items"].([]any); len(list) != 0 {
		t.Errorf("nobody did %v", list)
	}
	if change := all[len(all)-1]; request == "" || change == nil {
		t.Error("no request")
	}
	// The application cannot take a word back, and another tenant sees none.
	app, err := pgx.Connect(t.Context(), p.db.AppURL)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close(t.Context())
	for _, q := range []string{`UPDATE audit SET actor = 'x'`, `DELETE FROM audit`, `TRUNCATE audit`} {
		if _, err := app.Exec(t.Context(), q); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v, want insufficient_privilege", q, err)
		}
	}
	other := p.ensure("other@example.com", true)
	for _, e := range p.want(200, "GET", "/v1/audit?limit=200", other.APIKey, "")["items"].([]any) {
		if e.(map[string]any)["object"] == "flow:"+id {
			t.Error("another tenant reads the trail")
		}
	}
}

// Sessions are found by what they remember, and by who called when.
func TestSearchSessions(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	p.publish("asking", asking, true)
	for _, name := range []string{"ann", "bob", "ann"} {
		p.chat(key, `{"flow_id":"asking","initial_state":{"user":{"plan":"free"}}}`).say(200, `{"input":"`+name+`"}`)
	}
	found := func(query string) int {
		return len(p.want(200, "GET", "/v1/sessions?"+query, key, "")["items"].([]any))
	}
	for query, want := range map[string]int{"": 3, "state.variables.name=ann": 2, "state.variables.name=ann&state.user.plan=free": 2,
		"state.variables.name=ann&state.user.plan=paid": 0, "state.session.current_node=size": 3, "since=2020-01-01T00:00:00Z": 3,
		"until=2020-01-01T00:00:00Z": 0, "caller=%2B15550100": 0, "state.variables.name=bob&status=active&channel=chat": 1, "state.variables.name=ann&limit=1": 1} {
		if got := found(query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	for _, query := range []string{"state.system.revision=1", "state.variables=1", "state.variables..x=1", "state.secret.k=1"} {
		p.want(422, "GET", "/v1/sessions?"+query, key, "")
	}
	// The same sessions run again by REST.
	id := p.want(200, "GET", "/v1/sessions?state.variables.name=bob", key, "")["items"].([]any)[0].(map[string]any)["id"].(string)
	if m := p.want(200, "POST", "/v1/sessions/"+id+"/replay", key, ""); m["verdict"] != "equal" || len(m["turns"].([]any)) != 2 {
		t.Errorf("replay: %v", m)
	}
	m := p.want(200, "POST", "/v1/sessions/"+id+"/replay", key, `{"document":`+strings.Replace(asking, "Hello.", "Hi.", 1)+`}`)
	first := m["turns"].([]any)[0].(map[string]any)
	if m["verdict"] != "different" || !strings.HasPrefix(texts(first["stored"].(map[string]any)), "Hello.") || !strings.HasPrefix(texts(first["replayed"].(map[string]any)), "Hi.") {
		t.Errorf("replay against a document: %v", m)
	}
	p.want(404, "POST", "/v1/sessions/"+id+"/replay", key, `{"number":9}`)
	p.want(422, "POST", "/v1/sessions/"+id+"/replay", key, `{"document":{}}`)
}

// What one process publishes, every other begins conversations with at once,
// though it has the version before in its memory.
func TestPublishHoldsInAllProcesses(t *testing.T) {
	p := newPlane(t)
	id := p.publish("desk", told("1.0.0", "one"), false)
	o := p.o
	chats := *p.o.Chats
	chats.Flows, chats.Graphs = &control.Flows{Store: p.store, Changes: p.store}, &control.Graphs{Store: p.store}
	o.Chats = &chats
	other, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	there := *p
	there.Server = other
	key := p.demo.APIKey
	start := func(p *plane) string { return texts(p.chat(key, `{"flow_id":"`+id+`"}`).first) }
	if here, there := start(p), start(&there); here != there {
		t.Fatalf("before: %q and %q", here, there)
	}
	for i, word := range []string{"two", "three"} {
		p.want(201, "POST", "/v1/flows/"+id+"/versions", key, `{"document":`+told(fmt.Sprintf("1.%d.0", i+1), word)+`}`)
		p.want(200, "POST", "/v1/flows/"+id+"/publish", key, "")
		if got := start(&there); !strings.Contains(got, word) {
			t.Errorf("the other process begins with %q, want %q", got, word)
		}
	}
}
