package main

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/control"
	"parley/control/identity"
	"parley/signaling"
)

// An evening is an attacker, a tenant as any other with a carrier account of
// their own, whose token they know, beside a tenant with a caller on the line.
type evening struct {
	*wired
	victim, attacker identity.DemoMade
	call             control.Call // the victim's, in progress
}

const (
	victimNumber   = "+12025550110"
	attackerNumber = "+12025550111"
	attackerSID    = "AC11111111111111111111111111111111"
	attackerToken  = "the attacker knows this one"
	victimsCaller  = "+12025550199"
)

func newEvening(t *testing.T) *evening {
	t.Helper()
	w := newWired(t)
	e := &evening{wired: w, victim: w.tenant("victim@example.com"), attacker: w.tenant("attacker@example.com")}
	e.own(201, "PUT", "/v1/secrets/twilio", `{"value":"`+attackerToken+`","hosts":["api.twilio.com"]}`)
	account := e.own(201, "POST", "/v1/carrier-accounts", `{"name":"mine","account_sid":"`+attackerSID+`","token_secret":"twilio"}`)["id"].(string)
	e.own(201, "POST", "/v1/numbers", `{"number":"`+attackerNumber+`","agent_id":"`+e.attacker.Agents[0].ID.String()+`","carrier_account_id":"`+account+`"}`)
	got := w.ask(sending{method: "POST", path: "/v1/numbers", bearer: e.victim.APIKey, body: `{"number":"` + victimNumber + `","agent_id":"` + e.victim.Agents[0].ID.String() + `"}`})
	if got.status != 201 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := e.hook(siteAccount, siteToken, "/twilio/voice", "CAvictim", victimsCaller, victimNumber); got.status != 200 || !strings.Contains(got.body, "<Stream") {
		t.Fatalf("the victim's call: %d %s", got.status, got.body)
	}
	id := w.list(`SELECT id::text FROM calls WHERE carrier_call_id = 'CAvictim'`)[0]
	ctx, v, err := w.calls.Begin(t.Context(), id, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ctx })
	e.call = v.Call
	return e
}

// as asks with a key, and wants an answer.
func (e *evening) as(key string, want int, method, path, body string, header ...string) map[string]any {
	e.t.Helper()
	e.forgive()
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	got := e.ask(sending{method: method, path: path, bearer: key, body: body, header: h})
	if got.status != want {
		e.t.Errorf("%s %s %s: %d %s, want %d", method, path, body, got.status, got.body, want)
	}
	var m map[string]any
	_ = json.Unmarshal([]byte(got.body), &m)
	return m
}

// own asks as the attacker.
func (e *evening) own(want int, method, path, body string, header ...string) map[string]any {
	e.t.Helper()
	return e.as(e.attacker.APIKey, want, method, path, body, header...)
}

// hook sends a webhook that says it is of an account, signed by a token. extra
// are more fields, in pairs.
func (e *evening) hook(account, token, path, sid, from, to string, extra ...string) told {
	e.t.Helper()
	e.forgive()
	form := url.Values{"AccountSid": {account}, "CallSid": {sid}, "From": {from}, "To": {to}, "CallStatus": {"in-progress"}, "Direction": {"inbound"}}
	for i := 0; i+1 < len(extra); i += 2 {
		form.Set(extra[i], extra[i+1])
	}
	return e.ask(sending{method: "POST", path: path, body: form.Encode(), header: http.Header{
		"Content-Type":       {"application/x-www-form-urlencoded"},
		"X-Twilio-Signature": {signaling.TwilioSignature(token, "https://"+wiredHost+path, form)}}})
}

// An attacker's evening: what they try against another tenant comes to nothing.
func TestAttackersEvening(t *testing.T) {
	e := newEvening(t)
	for _, tt := range []struct {
		name string
		try  func(*testing.T, *evening)
	}{
		{"consult-of-another", testConsultOfAnother}, {"forged-webhooks", testForgedWebhooks}, {"foreign-ids", testForeignIDs},
		{"little-keys", testLittleKeys}, {"twiml", testTwiML}, {"numbers", testHostileNumbers}, {"search", testHostileSearch},
		{"filters", testHostileFilters}, {"names-of-requests", testNamesOfAnother}, {"forgetting", testForgettingAnother},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e.t = t
			tt.try(t, e)
		})
	}
}

// By a webhook of their own account, they pick up the phone of the victim's
// colleague: they hear nothing of the caller, and neither take nor end the offer.
func testConsultOfAnother(t *testing.T, e *evening) {
	ctx := control.WithTenant(t.Context(), e.victim.Tenant)
	c, err := e.calls.Order(ctx, control.Command{Call: e.call.ID, Kind: control.CommandWarm, Target: "+12025550120", Words: "Her word is mango."}, control.AnyRevision)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.super.Exec(t.Context(), `UPDATE call_commands SET status = 'taken', stage = 'calling' WHERE id = $1`, c.ID); err != nil {
		t.Fatal(err)
	}
	path := "/twilio/consult/" + c.ID.String()
	for _, step := range []string{"", "/answer", "/status"} {
		got := e.hook(attackerSID, attackerToken, path+step, "CAattack", attackerNumber, "+12025550120", "Digits", "1", "CallStatus", "completed")
		if strings.Contains(got.body, "mango") || strings.Contains(got.body, "Conference") || got.status >= 500 {
			t.Errorf("%s: %d %s", step, got.status, got.body)
		}
	}
	if got := e.hook(siteAccount, siteToken, path, "CAcolleague", victimNumber, "+12025550120"); !strings.Contains(got.body, "mango") {
		t.Errorf("the victim's colleague hears %d %s", got.status, got.body)
	}
	if now := e.list(`SELECT status || ' ' || stage FROM call_commands WHERE id = $1`, c.ID)[0]; now != "taken offered" {
		t.Errorf("the offer is %s", now)
	}
	if _, err := e.super.Exec(t.Context(), `UPDATE call_commands SET status = 'failed', ended_at = now() WHERE id = $1`, c.ID); err != nil {
		t.Fatal(err)
	}
}

// Signed by the wrong token, or by the right one about somebody else's call.
func testForgedWebhooks(t *testing.T, e *evening) {
	before := e.rowsOf(e.victim.Tenant)
	desk := "/twilio/voice/" + e.victim.Agents[0].ID.String()
	for name, got := range map[string]told{
		"operator's account, own token":  e.hook(siteAccount, attackerToken, "/twilio/voice", "CA1", victimsCaller, victimNumber),
		"own account, operator's token":  e.hook(attackerSID, siteToken, "/twilio/voice", "CA2", victimsCaller, attackerNumber),
		"account of nobody":              e.hook("AC22222222222222222222222222222222", attackerToken, "/twilio/voice", "CA3", victimsCaller, victimNumber),
		"status of the victim's call":    e.hook(attackerSID, attackerToken, "/twilio/status", "CAvictim", victimsCaller, victimNumber, "CallStatus", "completed"),
		"next of the victim's call":      e.hook(attackerSID, attackerToken, "/twilio/next", "CAvictim", victimsCaller, victimNumber),
		"the victim's call as their own": e.hook(attackerSID, attackerToken, "/twilio/voice", "CAvictim", victimsCaller, attackerNumber),
		"no account":                     e.hook("", attackerToken, "/twilio/voice", "CA4", victimsCaller, attackerNumber),
	} {
		if got.status != http.StatusForbidden {
			t.Errorf("%s: %d %s, want 403", name, got.status, got.body)
		}
	}
	for name, got := range map[string]told{
		"the victim's number": e.hook(attackerSID, attackerToken, "/twilio/voice", "CA5", victimsCaller, victimNumber),
		"the victim's agent":  e.hook(attackerSID, attackerToken, desk, "CA6", victimsCaller, attackerNumber),
	} {
		if got.status >= 500 || strings.Contains(got.body, "<Stream") {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if e.rowsOf(e.victim.Tenant) != before {
		t.Error("something of the victim's has changed")
	}
}

// The victim's ids, alone and behind one's own: as if they were not.
func testForeignIDs(t *testing.T, e *evening) {
	ctx := control.WithTenant(t.Context(), e.victim.Tenant)
	c, err := e.calls.Order(ctx, control.Command{Call: e.call.ID, Kind: control.CommandSay, Words: "x"}, control.AnyRevision)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := e.calls.Arrive(t.Context(), control.Arrival{Carrier: "webrtc", Agent: e.attacker.Agents[0].ID.String()})
	if err != nil {
		t.Fatal(err)
	}
	other, nobody := "/v1/calls/"+e.call.ID.String(), "/v1/calls/"+control.NewID().String()
	for _, a := range [][3]string{
		{"GET", "/listen", ""}, {"GET", "/live", ""}, {"GET", "/events", ""}, {"GET", "/commands/" + c.ID.String(), ""}, {"GET", "/usage", ""}, {"GET", "/recording", ""},
		{"POST", "/whisper", `{"text":"x"}`}, {"POST", "/hangup", `{}`}, {"POST", "/transfer", `{"to":"+12025550120"}`}, {"DELETE", "", ""}, {"POST", "/restore", ""},
	} {
		theirs, none := e.own(404, a[0], other+a[1], a[2]), e.own(404, a[0], nobody+a[1], a[2])
		if theirs["detail"] != none["detail"] || theirs["code"] != none["code"] {
			t.Errorf("%s %s: %v, and of nobody's call %v", a[0], a[1], theirs, none)
		}
	}
	e.own(404, "GET", "/v1/calls/"+mine.ID.String()+"/commands/"+c.ID.String(), "")
	agent, number := e.victim.Agents[0].ID.String(), e.list(`SELECT id::text FROM numbers WHERE tenant_id = $1 LIMIT 1`, e.attacker.Tenant)[0]
	e.own(422, "PATCH", "/v1/numbers/"+number, `{"agent_id":"`+agent+`"}`)
	e.own(422, "PATCH", "/v1/numbers/"+number, `{"routes":[{"agent_id":"`+agent+`"}]}`)
	e.own(409, "POST", "/v1/numbers", `{"number":"`+victimNumber+`","agent_id":"`+e.attacker.Agents[0].ID.String()+`"}`)
	consent, when := `"consent":{"given":true,"source":"f","at":"2026-01-02T03:04:05Z"}`, time.Now().Add(40*time.Hour).UTC().Format(time.RFC3339)
	for _, order := range []string{
		`{"agent_id":"` + agent + `","to":"+12025550123","from":"` + attackerNumber + `","at":"` + when + `",` + consent + `}`,
		`{"agent_id":"` + e.attacker.Agents[0].ID.String() + `","to":"+12025550123","from":"` + victimNumber + `","at":"` + when + `",` + consent + `}`,
	} {
		if got := e.ask(sending{method: "POST", path: "/v1/calls", bearer: e.attacker.APIKey, body: order}); got.status < 400 || got.status >= 500 {
			t.Errorf("%s: %d %s", order, got.status, got.body)
		}
	}
}

// A key of one scope on what asks for another.
func testLittleKeys(t *testing.T, e *evening) {
	call := "/v1/calls/" + e.call.ID.String()
	reader := e.keyOf(e.victim.Tenant, control.CallsRead)
	for _, a := range [][3]string{
		{"GET", call + "/listen", ""}, {"GET", call + "/usage", ""}, {"GET", "/v1/analytics/live", ""}, {"GET", "/v1/analytics/calls", ""}, {"POST", call + "/hangup", "{}"},
		{"POST", call + "/say", `{"text":"x"}`}, {"DELETE", call, ""}, {"POST", "/v1/erasures", `{"caller":"` + victimsCaller + `"}`}, {"POST", "/v1/carrier-accounts", "{}"},
		{"POST", "/v1/calls", "{}"}, {"GET", "/v1/holds", ""}, {"PUT", "/v1/retention", "{}"}, {"GET", "/v1/secrets", ""},
	} {
		if m := e.as(reader, 403, a[0], a[1], a[2]); m["code"] != "forbidden" {
			t.Errorf("%s %s: %v", a[0], a[1], m)
		}
	}
}

// verbs are the elements of a document, which must be well formed.
func verbs(t *testing.T, doc string) (names []string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(doc)); ; {
		tok, err := d.Token()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Errorf("no XML: %v in %s", err, doc)
			return names
		}
		if s, ok := tok.(xml.StartElement); ok {
			names = append(names, s.Name.Local)
		}
	}
}

// What a tenant writes and a caller is called does not become a verb.
func testTwiML(t *testing.T, e *evening) {
	number := e.list(`SELECT id::text FROM numbers WHERE tenant_id = $1 LIMIT 1`, e.attacker.Tenant)[0]
	text, _ := json.Marshal(`]]></Say><Dial>+19005550100</Dial><Say>&amp;"'` + "\x01\u2028<!--")
	for i, route := range []string{`{"message":` + string(text) + `}`, `{"transfer_to":"sip:a@b</Sip><Number>+1900"}`, `{"transfer_to":"client:x\"><Record/>"}`} {
		e.forgive()
		got := e.ask(sending{method: "PATCH", path: "/v1/numbers/" + number, bearer: e.attacker.APIKey, body: `{"routes":[` + route + `]}`})
		if got.status >= 500 {
			t.Errorf("%s: %d %s", route, got.status, got.body)
		}
		if got.status != 200 {
			continue
		}
		doc := e.hook(attackerSID, attackerToken, "/twilio/voice", "CAtwiml"+string(rune('a'+i)), `"><Hangup/><x y="`, attackerNumber)
		if found := verbs(t, doc.body); slices.Contains(found, "Dial") && i == 0 || slices.Contains(found, "Record") || slices.Contains(found, "Number") || len(found) > 4 {
			t.Errorf("%s makes %v: %s", route, found, doc.body)
		}
	}
	e.own(200, "PATCH", "/v1/numbers/"+number, `{"routes":[]}`)
}

// Numbers that would be more than a number in a request to the carrier.
func testHostileNumbers(t *testing.T, e *evening) {
	id := e.attacker.Agents[0].ID.String()
	call := "/v1/calls/" + e.call.ID.String()
	for _, bad := range []string{"+1202555\r\nX-Evil: 1", "+12025550120&Url=https://evil.example", "+12025550120</Number><Number>+1900", "+1202\u06605550120", "+12025550120;ext=1",
		"sip:a@b\r\nRoute: <sip:evil>", "tel:+19005550100", "conference:" + e.call.ID.String(), "+", strings.Repeat("+1", 100), "\x00", "+1202555%0d%0a"} {
		text, _ := json.Marshal(bad)
		e.as(e.victim.APIKey, 422, "POST", call+"/transfer", `{"to":`+string(text)+`}`)
		e.own(422, "POST", "/v1/numbers", `{"number":`+string(text)+`,"agent_id":"`+id+`"}`)
		e.own(422, "POST", "/v1/calls", `{"agent_id":"`+id+`","to":`+string(text)+`,"from":"`+attackerNumber+`","consent":{"given":true,"source":"f","at":"2026-01-02T03:04:05Z"}}`)
		e.own(422, "POST", "/v1/agents", `{"name":"x","settings":{"kind":"prompt","prompt":"x","transfers":[{"name":"a","to":`+string(text)+`}]}}`)
	}
}

// Search text is text, and finds nothing of others.
func testHostileSearch(t *testing.T, e *evening) {
	for _, q := range []string{`' OR 1=1 --`, `mango:* | !x & (y <-> z)`, `"unclosed`, `\`, `%`, `_`, "a\x00b", "\x01\x7f", "\ufffd\u202e", strings.Repeat("a ", 249), `-`, `--x`, `"" ""`,
		"\xff\xfe", `');DROP TABLE turns;--`, strings.Repeat(`"`, 99), `a':*`, "＇ OR ＇"} {
		for _, path := range []string{"/v1/calls/search?q=", "/v1/content?q="} {
			e.forgive()
			got := e.ask(sending{method: "GET", path: path + url.QueryEscape(q), bearer: e.attacker.APIKey})
			if got.status != 200 && got.status != 400 && got.status != 422 || strings.Contains(got.body, "SQL") || strings.Contains(got.body, e.call.ID.String()) {
				t.Errorf("%s%q: %d %s", path, q, got.status, got.body)
			}
		}
	}
}

// Filters with the signs of patterns, cursors that are none, bounds that are too wide.
func testHostileFilters(t *testing.T, e *evening) {
	if n := len(e.as(e.victim.APIKey, 200, "GET", "/v1/calls?from_prefix=%2B1202", "")["items"].([]any)); n == 0 {
		t.Error("a prefix finds nothing: nothing is tested")
	}
	for _, q := range []string{"from_prefix=%25", "from_prefix=_", "from_prefix=%2B1%25", "from_prefix=%5C", "to_prefix=%5C%25", "number=%25", "from=" + url.QueryEscape(`' OR ''='`)} {
		if m := e.as(e.victim.APIKey, 200, "GET", "/v1/calls?"+q, ""); len(m["items"].([]any)) != 0 {
			t.Errorf("%s finds %v", q, m["items"])
		}
	}
	for _, q := range []string{"limit=1000000", "limit=-1", "limit=1e9", "after=AAAA", "after=" + strings.Repeat("A", 5000), "from_prefix=" + strings.Repeat("1", 300), "min_seconds=99999999999999999999",
		"started_after=" + url.QueryEscape("0000-00-00"), "agent_id=x"} {
		e.own(422, "GET", "/v1/calls?"+q, "")
	}
	for _, q := range []string{"from=0001-01-01T00:00:00Z&to=9999-12-31T00:00:00Z", "from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z&by=hour", "by=tenant", "tz=../../etc/passwd", "tz=" + strings.Repeat("A", 3000)} {
		e.forgive()
		if got := e.ask(sending{method: "GET", path: "/v1/analytics/calls?" + q, bearer: e.attacker.APIKey}); got.status >= 500 || got.status == 200 && len(got.body) > 1<<20 {
			t.Errorf("%s: %d, %d bytes", q, got.status, len(got.body))
		}
	}
}

// A request's name gives its answer, which may hold a secret, to who sent it and
// to nobody else: not to another key, nor to another tenant.
func testNamesOfAnother(t *testing.T, e *evening) {
	const body, name = `{"name":"hook","url":"https://hooks.example"}`, "one-and-only"
	first := e.as(e.victim.APIKey, 201, "POST", "/v1/webhooks", body, "Idempotency-Key", name)["secret"].(string)
	if again := e.as(e.victim.APIKey, 201, "POST", "/v1/webhooks", body, "Idempotency-Key", name)["secret"]; again != first {
		t.Error("the same request is not answered again: nothing is tested")
	}
	for who, key := range map[string]string{"another key": e.keyOf(e.victim.Tenant, control.WebhooksWrite), "another tenant": e.attacker.APIKey} {
		got := e.ask(sending{method: "POST", path: "/v1/webhooks", bearer: key, body: body, header: http.Header{"Idempotency-Key": {name}}})
		if strings.Contains(got.body, first) || got.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s is given the answer", who)
		}
	}
	e.as(e.keyOf(e.victim.Tenant, control.CallsRead), 403, "POST", "/v1/webhooks", body, "Idempotency-Key", name)
}

// An attacker who has the victim's caller forgotten forgets their own.
func testForgettingAnother(t *testing.T, e *evening) {
	before := e.list(`SELECT caller FROM calls WHERE id = $1`, e.call.ID)
	e.own(202, "POST", "/v1/erasures", `{"caller":"`+victimsCaller+`"}`)
	e.own(404, "POST", "/v1/holds", `{"call_id":"`+e.call.ID.String()+`","reason":"x"}`)
	e.keeper.Now = func() time.Time { return time.Now().Add(time.Hour) }
	if err := e.keeper.EraseNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := e.list(`SELECT caller FROM calls WHERE id = $1`, e.call.ID); !slices.Equal(before, after) {
		t.Errorf("the victim's call was from %v, and is now from %v", before, after)
	}
	// And their hold holds nothing of the victim's.
	if held := e.list(`SELECT count(*)::text FROM legal_holds WHERE tenant_id = $1`, e.victim.Tenant)[0]; held != "0" {
		t.Errorf("%s holds on the victim", held)
	}
}
