package api_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

// asking asks for a name and a number, and greets by both.
const asking = `{"entry":"hi","nodes":[
	{"id":"hi","type":"message","content":{"messages":[{"type":"text","content":"Hello."},{"type":"image","url":"https://e.example/a.gif","alt":"waving"}]},"connections":{"default":"name"}},
	{"id":"name","type":"question","content":{"question":"Your name?","variable":"name","validation":{"required":true,"pattern":"^[a-z]+$","error_message":"Letters only."}},"connections":{"default":"size"}},
	{"id":"size","type":"question","content":{"question":"How many, {name}?","input_type":"number","variable":"size"},"connections":{"default":"bye"}},
	{"id":"bye","type":"message","content":{"text":"{size} for {name}, {user.plan}."}}]}`

// A session is one chat of a test.
type session struct {
	p               *plane
	id, token, csrf string
	cookies         []*http.Cookie
	first           map[string]any
}

// publish makes a flow and publishes it, for all or for keys alone.
func (p *plane) publish(name, document string, public bool) string {
	p.t.Helper()
	f := p.want(201, "POST", "/v1/flows", p.demo.APIKey, `{"name":"`+name+`","document":`+document+`}`)
	path := "/v1/flows/" + f["id"].(string)
	p.want(200, "PATCH", path, p.demo.APIKey, fmt.Sprintf(`{"public":%v}`, public))
	p.want(200, "POST", path+"/publish", p.demo.APIKey, "")
	return f["id"].(string)
}

func (p *plane) chat(key, body string) session {
	p.t.Helper()
	resp, m := p.do("POST", "/chat/start", key, body)
	if resp.StatusCode != 201 {
		p.t.Fatalf("start: %d %v\n%s", resp.StatusCode, m, p.log)
	}
	return session{p: p, id: m["session_id"].(string), token: m["session_token"].(string), csrf: m["csrf_token"].(string),
		cookies: resp.Cookies(), first: m}
}

// say answers by Bearer.
func (s session) say(status int, body string) map[string]any {
	s.p.t.Helper()
	return s.p.want(status, "POST", "/chat/sessions/"+s.token+"/interact", s.token, body)
}

func texts(m map[string]any) string {
	var out []string
	list, _ := m["messages"].([]any)
	for _, e := range list {
		msg := e.(map[string]any)
		if msg["type"] == "text" {
			out = append(out, msg["text"].(string))
		} else {
			out = append(out, fmt.Sprint(msg["type"], " ", msg["url"]))
		}
	}
	return strings.Join(out, " | ")
}

func TestChat(t *testing.T) {
	p := newPlane(t)
	id := p.publish("asking", asking, true)
	s := p.chat("", `{"flow_id":"`+id+`","initial_state":{"user":{"plan":"free"}},"locale":"de-DE"}`)
	if got := texts(s.first); got != "Hello. | image https://e.example/a.gif | Your name?" {
		t.Errorf("start says %q", got)
	}
	in, _ := s.first["input"].(map[string]any)
	if s.first["status"] != "active" || s.first["revision"] != 1.0 || s.first["current_node"] != "name" || in["type"] != "text" || in["validation"] == nil {
		t.Errorf("start: %v", s.first)
	}
	if m := s.say(200, `{"input":"R2"}`); texts(m) != "Letters only. | Your name?" || m["revision"] != 2.0 {
		t.Errorf("a bad answer: %v", m)
	}
	if m := s.say(409, `{"input":"ann","expected_revision":1}`); m["code"] != "conflict" {
		t.Errorf("an old revision: %v", m)
	}
	if m := s.say(200, `{"input":"ann","expected_revision":2}`); texts(m) != "How many, ann?" {
		t.Errorf("the name: %v", m)
	}
	m := p.want(200, "GET", "/chat/sessions/"+s.token, "", "")
	state := m["state"].(map[string]any)
	if v := state["variables"].(map[string]any); v["name"] != "ann" || state["system"] != nil || len(state) != 5 {
		t.Errorf("state: %v", state)
	}
	if ctx := state["context"].(map[string]any); ctx["locale"] != "de-DE" || ctx["channel"] != "chat" {
		t.Errorf("context: %v", ctx)
	}
	if m := s.say(200, `{"input":3}`); texts(m) != "3 for ann, free." || m["status"] != "completed" || m["input"] != nil {
		t.Errorf("the end: %v", m)
	}
	if m := s.say(409, `{"input":"more"}`); m["code"] != "ended" {
		t.Errorf("after the end: %v", m)
	}
	var said []string
	for next := ""; ; {
		page := p.want(200, "GET", "/chat/sessions/"+s.token+"/history?limit=2"+next, "", "")
		for _, e := range page["items"].([]any) {
			h := e.(map[string]any)
			said = append(said, fmt.Sprintf("%v %v %q %s", h["revision"], h["event"], h["input"], texts(h)))
		}
		if page["next"] == nil {
			break
		}
		next = "&after=" + page["next"].(string)
	}
	want := `1 start %!q(<nil>) Hello. | image https://e.example/a.gif | Your name?
2 input "R2" Letters only. | Your name?
3 input "ann" How many, ann?
4 input "3" 3 for ann, free.`
	if got := strings.Join(said, "\n"); got != want {
		t.Errorf("history:\n%s\nwant:\n%s", got, want)
	}
	if strings.Contains(p.log.String(), s.token) {
		t.Error("the log holds the token")
	}
}

func TestWhoMayStart(t *testing.T) {
	p := newPlane(t)
	open, closed := p.publish("open", asking, true), p.publish("closed", asking, false)
	draft := p.want(201, "POST", "/v1/flows", p.demo.APIKey, `{"name":"draft","document":`+asking+`}`)["id"].(string)
	p.want(200, "PATCH", "/v1/flows/"+draft, p.demo.APIKey, `{"public":true}`)
	chat := p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"c","scopes":["chat"]}`)["secret"].(string)
	reader := p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"r","scopes":["agents.read"]}`)["secret"].(string)
	theirs := p.ensure("other@example.com", false).APIKey
	for name, tt := range map[string]struct {
		key, body string
		want      int
	}{
		"open":                   {"", `{"flow_id":"` + open + `"}`, 201},
		"closed":                 {"", `{"flow_id":"` + closed + `"}`, 404},
		"draft":                  {"", `{"flow_id":"` + draft + `"}`, 404},
		"unknown":                {"", `{"flow_id":"` + uuid.NewString() + `"}`, 404},
		"by-name":                {"", `{"flow_id":"open"}`, 404},
		"closed-by-key":          {chat, `{"flow_id":"closed","user_id":"u1","initial_state":{"context":{"a":1}}}`, 201},
		"draft-by-key":           {chat, `{"flow_id":"` + draft + `"}`, 404},
		"other-tenant":           {theirs, `{"flow_id":"` + closed + `"}`, 404},
		"other-tenant-open":      {theirs, `{"flow_id":"` + open + `"}`, 404},
		"without-the-scope":      {reader, `{"flow_id":"` + open + `"}`, 403},
		"user-without-key":       {"", `{"flow_id":"` + open + `","user_id":"u1"}`, 403},
		"user.id-without-key":    {"", `{"flow_id":"` + open + `","initial_state":{"user":{"id":"u1"}}}`, 403},
		"context-without-key":    {"", `{"flow_id":"` + open + `","initial_state":{"context":{"channel":"voice"}}}`, 403},
		"session":                {chat, `{"flow_id":"` + open + `","initial_state":{"session":{"status":"x"}}}`, 422},
		"system":                 {chat, `{"flow_id":"` + open + `","initial_state":{"system":{}}}`, 422},
		"too-deep":               {chat, `{"flow_id":"` + open + `","initial_state":{"temp":` + strings.Repeat(`{"x":`, 40) + "1" + strings.Repeat("}", 40) + `}}`, 422},
		"unknown-property":       {"", `{"flow_id":"` + open + `","x":1}`, 422},
		"over-a-mebibyte":        {"", `{"flow_id":"` + strings.Repeat("x", 1<<20) + `"}`, 413},
		"state-over-a-megabyte":  {chat, `{"flow_id":"` + open + `","initial_state":{"temp":{"x":"` + strings.Repeat("é", 1<<19-100) + `"}}}`, 422},
		"no-json":                {"", `flow`, 400},
		"not-a-key-nor-a-bearer": {"parley_x", `{"flow_id":"` + open + `"}`, 201},
	} {
		if resp, m := p.do("POST", "/chat/start", tt.key, tt.body); resp.StatusCode != tt.want {
			t.Errorf("%s: %d %v, want %d", name, resp.StatusCode, m, tt.want)
		}
	}
	s := p.chat(chat, `{"flow_id":"closed","user_id":"u1","initial_state":{"user":{"id":"fake","plan":9007199254740993}}}`)
	resp, _ := p.do("GET", "/chat/sessions/"+s.id, chat, "")
	if raw, _ := io.ReadAll(resp.Body); !bytes.Contains(raw, []byte(`"id":"u1"`)) || !bytes.Contains(raw, []byte("9007199254740993")) {
		t.Errorf("state %s", raw)
	}
	if list := p.want(200, "GET", "/v1/sessions?user_id=u1&status=active&channel=chat", p.demo.APIKey, "")["items"].([]any); len(list) != 2 {
		t.Errorf("sessions of u1: %v", list)
	}
}

func TestChatCookies(t *testing.T) {
	p := newPlane(t)
	s := p.chat("", `{"flow_id":"`+p.publish("asking", asking, true)+`"}`)
	got := map[string]*http.Cookie{}
	for _, c := range s.cookies {
		got[c.Name] = c
	}
	if len(got) != 2 || got["chat_session"] == nil || got["csrf_token"] == nil {
		t.Fatalf("cookies %v", s.cookies)
	}
	for name, c := range got {
		if !c.Secure || c.SameSite != http.SameSiteStrictMode || c.HttpOnly != (name == "chat_session") {
			t.Errorf("cookie %v", c)
		}
	}
	if got["chat_session"].Value != s.token || got["csrf_token"].Value != s.csrf {
		t.Error("the cookies are not the tokens of the body")
	}
}

func TestCSRF(t *testing.T) {
	p := newPlane(t)
	flowID := p.publish("asking", asking, true)
	s, other := p.chat("", `{"flow_id":"`+flowID+`"}`), p.chat("", `{"flow_id":"`+flowID+`"}`)
	cookie := func(token, csrf string) string { return "chat_session=" + token + "; csrf_token=" + csrf }
	path := "/chat/sessions/" + s.token
	byID := "/chat/sessions/" + s.id
	change := func(status int, name, path, key string, header ...string) {
		t.Helper()
		for _, r := range [][3]string{{"POST", "/interact", `{"input":"A"}`}, {"PATCH", "/state", `{"updates":{"temp":{"x":1}}}`}, {"POST", "/end", ""}} {
			if status < 400 && r[1] == "/end" {
				continue
			}
			if resp, m := p.do(r[0], path+r[1], key, r[2], header...); resp.StatusCode != status {
				t.Errorf("%s, %s: %d %v, want %d", name, r[1], resp.StatusCode, m, status)
			}
		}
	}
	change(403, "no-header", path, "", "Cookie", cookie(s.token, s.csrf))
	change(403, "header-without-cookie", path, "", "X-CSRF-Token", s.csrf)
	change(403, "another-header", path, "", "Cookie", cookie(s.token, s.csrf), "X-CSRF-Token", s.csrf+"x")
	change(403, "of-another-session", path, "", "Cookie", cookie(s.token, other.csrf), "X-CSRF-Token", other.csrf)
	change(403, "made-up", path, "", "Cookie", cookie(s.token, "a.b"), "X-CSRF-Token", "a.b")
	change(403, "cross-site", path, "", "Cookie", cookie(s.token, s.csrf), "X-CSRF-Token", s.csrf, "Sec-Fetch-Site", "cross-site")
	change(403, "other-origin", path, "", "Cookie", cookie(s.token, s.csrf), "X-CSRF-Token", s.csrf, "Origin", "https://evil.example")
	change(404, "id-without-cookie", byID, "", "X-CSRF-Token", s.csrf)
	change(404, "id-with-another-cookie", byID, "", "Cookie", cookie(other.token, other.csrf), "X-CSRF-Token", other.csrf)
	if m := p.want(200, "GET", path, "", ""); m["revision"] != 1.0 || m["status"] != "active" {
		t.Errorf("refused changes changed something: %v", m)
	}
	change(200, "both", path, "", "Cookie", cookie(s.token, s.csrf), "X-CSRF-Token", s.csrf)
	change(200, "both-by-id", byID, "", "Cookie", cookie(s.token, s.csrf), "X-CSRF-Token", s.csrf, "Sec-Fetch-Site", "same-origin")
	change(200, "bearer", path, s.token)
	change(200, "bearer-by-id", byID, s.token)
	change(200, "key", path, p.demo.APIKey)
	change(200, "key-by-id", byID, p.demo.APIKey)
}

// Whatever does not open a chat is the same answer.
func TestChatNotFound(t *testing.T) {
	p := newPlane(t)
	flowID := p.publish("asking", asking, true)
	s, gone := p.chat("", `{"flow_id":"`+flowID+`"}`), p.chat("", `{"flow_id":"`+flowID+`"}`)
	p.exec(`UPDATE conversations SET idle_until = now() - interval '1 second' WHERE id = $1`, gone.id)
	old := p.chat("", `{"flow_id":"`+flowID+`"}`)
	p.exec(`UPDATE conversations SET expires_at = now() - interval '1 second' WHERE id = $1`, old.id)
	theirs := p.ensure("other@example.com", false).APIKey
	c, err := p.o.Calls.Arrive(t.Context(), control.Arrival{Carrier: "webrtc", Agent: "front-desk"})
	if err != nil {
		t.Fatal(err)
	}
	var want string
	for name, tt := range map[string][2]string{
		"unknown": {strings.Repeat("x", 43), ""}, "expired-idle": {gone.token, ""}, "expired": {old.token, old.token},
		"foreign": {s.token, theirs}, "foreign-by-id": {s.id, theirs}, "id-alone": {s.id, ""}, "empty-bearer": {s.token, "x"},
		"other-bearer": {s.token, strings.Repeat("y", 43)}, "call": {c.ID.String(), p.demo.APIKey}, "long": {strings.Repeat("z", 5000), ""},
		"expired-by-key": {gone.id, p.demo.APIKey},
	} {
		for _, r := range [][3]string{{"GET", "", ""}, {"GET", "/history", ""}, {"POST", "/interact", `{"input":"a"}`},
			{"PATCH", "/state", `{"updates":{}}`}, {"POST", "/end", ""}} {
			resp, m := p.do(r[0], "/chat/sessions/"+tt[0]+r[1], tt[1], r[2])
			got := fmt.Sprint(resp.StatusCode, m)
			if want == "" {
				want = got
			}
			if resp.StatusCode != 404 || got != want {
				t.Errorf("%s %s: %s, want %s", name, r[1], got, want)
			}
		}
	}
}

// exec changes rows behind the program's back.
func (p *plane) exec(q string, args ...any) {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.db.SuperURL)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close(p.t.Context())
	if _, err := conn.Exec(p.t.Context(), q, args...); err != nil {
		p.t.Fatal(err)
	}
}

func TestPatchState(t *testing.T) {
	p := newPlane(t)
	s := p.chat("", `{"flow_id":"`+p.publish("asking", asking, true)+`","initial_state":{"user":{"home":{"city":"Bonn","zip":1}}}}`)
	patch := func(status int, key, body string) map[string]any {
		t.Helper()
		return p.want(status, "PATCH", "/chat/sessions/"+s.token+"/state", key, body)
	}
	if m := patch(200, s.token, `{"updates":{"user":{"home":{"city":"Ulm"}},"variables":{"name":"bo"}},"expected_revision":1}`); m["revision"] != 2.0 {
		t.Errorf("patched: %v", m)
	}
	patch(409, s.token, `{"updates":{"user":{"home":{"city":"Rom"}}},"expected_revision":1}`)
	patch(403, s.token, `{"updates":{"user":{"id":"me"}}}`)
	patch(403, s.token, `{"updates":{"context":{"locale":"x"}}}`)
	for _, scope := range []string{"session", "system", "secret", "env"} {
		patch(422, p.demo.APIKey, `{"updates":{"`+scope+`":{"a":1}}}`)
	}
	patch(422, s.token, `{"updates":{"temp":{"x":"`+strings.Repeat("y", 1<<20-100)+`"}}}`)
	patch(200, p.demo.APIKey, `{"updates":{"user":{"id":"u7"},"context":{"shop":"a"}}}`)
	m := p.want(200, "GET", "/chat/sessions/"+s.token, "", "")
	user := m["state"].(map[string]any)["user"].(map[string]any)
	if fmt.Sprint(user) != "map[home:map[city:Ulm zip:1] id:u7]" || m["revision"] != 3.0 {
		t.Errorf("user %v at %v", user, m["revision"])
	}
	// The question stands.
	if m := s.say(200, `{"input":"al"}`); texts(m) != "How many, al?" {
		t.Errorf("after patches: %v", m)
	}
	if m := p.want(200, "POST", "/chat/sessions/"+s.token+"/end", s.token, ""); m["status"] != "completed" {
		t.Errorf("ended: %v", m)
	}
	patch(409, s.token, `{"updates":{"temp":{"x":1}}}`)
	p.want(409, "POST", "/chat/sessions/"+s.token+"/end", s.token, "")
}

func TestQuarantine(t *testing.T) {
	p := newPlane(t)
	s := p.chat("", `{"flow_id":"`+p.publish("asking", asking, true)+`"}`)
	p.exec(`UPDATE conversations SET state = jsonb_set(state, '{variables}', '{"name":"eve"}') WHERE id = $1`, s.id)
	for range 2 {
		if m := s.say(409, `{"input":"ann"}`); m["code"] != "quarantined" {
			t.Errorf("altered: %v", m)
		}
	}
	p.want(409, "GET", "/chat/sessions/"+s.token, "", "")
	m := p.want(200, "GET", "/v1/sessions/"+s.id, p.demo.APIKey, "")
	if m["status"] != "failed" || m["quarantined_at"] == nil || m["state"] != nil {
		t.Errorf("session: %v", m)
	}
	if got := p.events(s.id); got != "1 session_started, 2 session_status_changed" {
		t.Errorf("events: %s", got)
	}
	if !strings.Contains(p.log.String(), "quarantined") {
		t.Error("nothing in the log")
	}
	audit := p.want(200, "GET", "/v1/audit?action=session.quarantine", p.demo.APIKey, "")["items"].([]any)
	if len(audit) != 1 || audit[0].(map[string]any)["object"] != "session:"+s.id {
		t.Errorf("audited: %v", audit)
	}
}

// events lists a session's events.
func (p *plane) events(id string) string {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.db.SuperURL)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close(p.t.Context())
	r, err := conn.Query(p.t.Context(), `SELECT seq || ' ' || type FROM events WHERE session_id = $1 ORDER BY seq`, id)
	if err != nil {
		p.t.Fatal(err)
	}
	list, err := pgx.CollectRows(r, pgx.RowTo[string])
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Join(list, ", ")
}

func TestSessions(t *testing.T) {
	p := newPlane(t)
	key, flowID := p.demo.APIKey, p.publish("asking", asking, true)
	s := p.chat(key, `{"flow_id":"asking","user_id":"u1"}`)
	s.say(200, `{"input":"ann"}`)
	m := p.want(200, "GET", "/v1/sessions/"+s.id, key, "")
	if m["flow_id"] != flowID || m["user_id"] != "u1" || m["channel"] != "chat" || m["current_node"] != "size" || m["state"] == nil {
		t.Errorf("session: %v", m)
	}
	h := p.want(200, "GET", "/v1/sessions/"+s.id+"/history?after=1", key, "")["items"].([]any)
	if e := h[0].(map[string]any); len(h) != 1 || e["event"].(map[string]any)["text"] != "ann" || len(e["state_hash"].(string)) != 44 || e["trace"] == nil {
		t.Errorf("history: %v", h)
	}
	if m := p.want(200, "POST", "/v1/sessions/"+s.id+"/end", key, ""); m["status"] != "completed" {
		t.Errorf("end: %v", m)
	}
	p.want(409, "POST", "/v1/sessions/"+s.id+"/end", key, "")
	p.want(204, "DELETE", "/v1/sessions/"+s.id, key, "")
	p.want(404, "GET", "/v1/sessions/"+s.id, key, "")
	p.want(404, "DELETE", "/v1/sessions/"+s.id, key, "")
	if got := p.events(s.id); got != "1 session_started, 2 node_changed, 3 session_status_changed, 4 session_deleted" {
		t.Errorf("events: %s", got)
	}
	reader := p.want(201, "POST", "/v1/keys", key, `{"name":"r","scopes":["sessions.read"]}`)["secret"].(string)
	p.want(200, "GET", "/v1/sessions?flow_id="+flowID, reader, "")
	p.want(403, "DELETE", "/v1/sessions/"+s.id, reader, "")
}

func TestAnswersOfAllKinds(t *testing.T) {
	p := newPlane(t)
	const doc = `{"nodes":[{"id":"q","type":"question","content":{"question":"?","input_type":"%s","variable":"v","options":[{"label":"Red","value":"r","dtmf":"1"},{"label":"Blue","value":"b","dtmf":"2"}]},
		"connections":{"default":"e"}},{"id":"e","type":"message","content":{"text":"{v}"}}]}`
	for typ, answers := range map[string]map[string]string{
		"choice":          {`{"input":"blue"}`: "", `{"input":{"label":"Blue","value":"b"}}`: "", `{"input":"2","input_type":"dtmf"}`: ""},
		"multiple_choice": {`{"input":["r","b"]}`: "", `{"input":"red and blue"}`: ""},
		"yes_no":          {`{"input":true}`: "true", `{"input":"no"}`: "false"},
		"number":          {`{"input":12.50}`: "12.5", `{"input":"12"}`: "12"},
	} {
		id := p.publish(strings.ReplaceAll(typ, "_", "-"), fmt.Sprintf(doc, typ), true)
		for body, want := range answers {
			m := p.chat("", `{"flow_id":"`+id+`"}`).say(200, body)
			if m["status"] != "completed" || want != "" && texts(m) != want {
				t.Errorf("%s %s: %v", typ, body, m)
			}
		}
		s := p.chat("", `{"flow_id":"`+id+`"}`)
		s.say(422, `{"input":{"a":1}}`)
		s.say(422, `{"input":"`+strings.Repeat("x", control.MaxAnswer+1)+`"}`)
		s.say(422, `{}`)
	}
}

// What a person types is never expanded, and a secret answer is in no history.
func TestHistoryOfSensitiveAnswers(t *testing.T) {
	p := newPlane(t)
	id := p.publish("pin", `{"nodes":[{"id":"q","type":"question","content":{"question":"PIN?","variable":"pin"},"voice":{"sensitive":true},"connections":{"default":"e"}},
		{"id":"e","type":"message","content":{"text":"Thanks."}}]}`, true)
	s := p.chat("", `{"flow_id":"`+id+`"}`)
	s.say(200, `{"input":"canary-4711"}`)
	for _, path := range []string{"/chat/sessions/" + s.token + "/history", "/v1/sessions/" + s.id + "/history"} {
		resp, _ := p.do("GET", path, p.demo.APIKey, "")
		if raw, _ := io.ReadAll(resp.Body); bytes.Contains(raw, []byte("canary")) || resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, raw)
		}
	}
}

func TestFlowVersions(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	doc := func(text string) string {
		return `{"nodes":[{"id":"a","type":"message","content":{"text":"` + text + `"},"x-note":{"big":12345678901234567890}}]}`
	}
	id := p.publish("hi", doc("one"), true)
	path := "/v1/flows/" + id
	says := func() string { return texts(p.chat("", `{"flow_id":"`+id+`"}`).first) }
	resp, m := p.do("GET", path, key, "")
	tag := resp.Header.Get("ETag")
	if m["revision"] != 3.0 || tag != `"3"` {
		t.Errorf("flow %v, ETag %s", m, tag)
	}
	p.want(412, "POST", path+"/versions", key, `{"document":`+doc("two")+`}`, "If-Match", `"2"`)
	if m := p.want(201, "POST", path+"/versions", key, `{"document":`+doc("two")+`}`, "If-Match", tag); m["number"] != 2.0 {
		t.Errorf("version: %v", m)
	}
	if says() != "one" {
		t.Error("an unpublished version runs")
	}
	p.want(412, "POST", path+"/publish", key, "", "If-Match", tag)
	p.want(422, "POST", path+"/publish", key, `{"number":1,"percent":10}`)
	p.want(404, "POST", path+"/publish", key, `{"number":9}`)
	p.want(200, "POST", path+"/publish", key, `{"number":2,"percent":30}`)
	seen := map[string]int{}
	for range 60 {
		seen[says()]++
	}
	if len(seen) != 2 || seen["two"] == 0 || seen["two"] > 40 {
		t.Errorf("of 60 sessions with 30 %% on trial: %v", seen)
	}
	p.want(200, "POST", path+"/rollback", key, "") // ends the trial
	if m := p.want(200, "GET", path, key, ""); m["canary_id"] != nil || says() != "one" {
		t.Errorf("after the trial: %v", m)
	}
	p.want(404, "POST", path+"/rollback", key, "")
	p.want(200, "POST", path+"/publish", key, "")
	if says() != "two" {
		t.Error("the newest version does not run")
	}
	if m := p.want(200, "POST", path+"/rollback", key, ""); m["number"] != 1.0 || says() != "one" {
		t.Errorf("rolled back: %v", m)
	}
	d := p.want(200, "GET", path+"/diff?from=1&to=2", key, "")
	if fmt.Sprint(d["nodes"]) != "map[added:[] changed:[a] removed:[]]" || len(d["changes"].([]any)) != 1 {
		t.Errorf("diff: %v", d)
	}
	if n := len(p.want(200, "GET", path+"/versions", key, "")["items"].([]any)); n != 2 {
		t.Errorf("%d versions", n)
	}
	if list := p.want(200, "GET", path+"/publications", key, "")["items"].([]any); len(list) != 5 || !strings.HasPrefix(list[0].(map[string]any)["published_by"].(string), "key:") {
		t.Errorf("publications: %v", list)
	}
	resp, _ = p.do("GET", path+"/export?number=1", key, "")
	if raw, _ := io.ReadAll(resp.Body); string(raw) != `{"nodes":[{"content":{"text":"one"},"id":"a","type":"message","x-note":{"big":12345678901234567890}}]}` {
		t.Errorf("export: %s", raw)
	}
}

// A session stays with the version that it began with, sub-flows included.
func TestSessionsStayWithTheirVersion(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	ask := func(text string) string {
		return `{"nodes":[{"id":"q","type":"question","content":{"question":"?","variable":"v"},"connections":{"default":"e"}},{"id":"e","type":"message","content":{"text":"` + text + `"}}]}`
	}
	sub := p.publish("inner", ask("old"), false)
	id := p.publish("outer", `{"nodes":[{"id":"c","type":"composite","content":{"flow":"inner"},"connections":{"complete":"e"}},{"id":"e","type":"message","content":{"text":"done"}}]}`, true)
	s := p.chat("", `{"flow_id":"`+id+`"}`)
	p.want(201, "POST", "/v1/flows/"+sub+"/versions", key, `{"document":`+ask("new")+`}`)
	p.want(200, "POST", "/v1/flows/"+sub+"/publish", key, "")
	if got := texts(s.say(200, `{"input":"x"}`)); got != "old | done" {
		t.Errorf("a session in progress says %q", got)
	}
	if got := texts(p.chat("", `{"flow_id":"`+id+`"}`).say(200, `{"input":"x"}`)); got != "new | done" {
		t.Errorf("a new session says %q", got)
	}
}

func TestValidateAndSimulate(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	m := p.want(200, "POST", "/v1/flows/validate", key, `{"document":{"nodes":[{"id":"a","type":"nonsense"}]}}`)
	if m["valid"] != false || m["problems"].([]any)[0].(map[string]any)["pointer"] != "/nodes/0/type" {
		t.Errorf("validate: %v", m)
	}
	id := p.publish("asking", asking, false)
	if m := p.want(200, "POST", "/v1/flows/"+id+"/validate", key, ""); m["valid"] != true {
		t.Errorf("validate: %v", m)
	}
	m = p.want(200, "POST", "/v1/flows/"+id+"/simulate", key, `{"inputs":["R2",{"input":"ann"},3,"too many"],"initial_state":{"user":{"plan":"x"}}}`)
	turns := m["turns"].([]any)
	if len(turns) != 4 || texts(turns[1].(map[string]any)) != "Letters only. | Your name?" || texts(turns[3].(map[string]any)) != "3 for ann, x." {
		t.Errorf("simulated: %v", m)
	}
	hook := `{"document":{"nodes":[{"id":"w","type":"webhook","content":{"url":"https://a.example/{secret:k}","response_mapping":{"x":"$.x"}},"connections":{"success":"ok","error":"no"}},
		{"id":"ok","type":"message","content":{"text":"{x}"}},{"id":"no","type":"message","content":{"text":"no"}}]}`
	hook = strings.Replace(hook, "{secret:k}", "x", 1)
	m = p.want(200, "POST", "/v1/flows/"+id+"/simulate", key, hook+`}`)
	if texts(m["turns"].([]any)[0].(map[string]any)) != "no" {
		t.Errorf("simulated: %v", m)
	}
	m = p.want(200, "POST", "/v1/flows/"+id+"/simulate", key, hook+`,"results":{"w":[{"outcome":"success","data":{"x":7}}]}}`)
	if texts(m["turns"].([]any)[0].(map[string]any)) != "7" {
		t.Errorf("simulated: %v", m)
	}
	if n := len(p.want(200, "GET", "/v1/sessions", key, "")["items"].([]any)); n != 0 {
		t.Errorf("simulating left %d sessions", n)
	}
}
