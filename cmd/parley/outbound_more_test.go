package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"parley/signaling"
)

// rings orders a call to whoever lets it ring, and returns once it does.
func (w *town) rings(from string) (order, try map[string]any) {
	w.t.Helper()
	d := w.want(202, "POST", "/v1/calls", fmt.Sprintf(`{"agent_id":"front-desk","to":%q,"from":%q}`, calleeIsSlow, from))
	w.poll(time.Minute, "the telephone to ring", func() bool {
		_, d = w.n.ask(w.site, "GET", "/v1/dials/"+d["id"].(string), "")
		return attempt(d, 0)["status"] == "ringing"
	})
	return d, attempt(d, 0)
}

// byTheTenantsAccount: a number on an account of its tenant calls by that
// account, whose token alone signs what is told of the call.
func (w *town) byTheTenantsAccount() {
	const account, token, number = "AC11111111111111111111111111111111", "11111111111111111111111111111111", "+12025550198"
	w.twilio.Tokens = map[string]string{account: token}
	at := slices.IndexFunc(w.env, func(v string) bool { return strings.HasPrefix(v, "TWILIO_BASE_URL=") })
	_, rest, _ := strings.Cut(w.env[at], "=")
	w.want(201, "PUT", "/v1/secrets/carrier", fmt.Sprintf(`{"value":%q,"hosts":[%q]}`, token, rest))
	made := w.want(201, "POST", "/v1/carrier-accounts", fmt.Sprintf(`{"name":"ours","account_sid":%q,"token_secret":"carrier"}`, account))
	w.want(201, "POST", "/v1/numbers", fmt.Sprintf(`{"number":%q,"agent_id":%q,"carrier_account_id":%q}`, number, w.agent, made["id"]))
	d, try := w.rings(number)
	requests := w.twilio.Requests()
	asked := requests[slices.IndexFunc(requests, func(form url.Values) bool { return form.Get("From") == number })]
	if p, _ := w.twilio.Lookup(fmt.Sprint(try["carrier_call_id"])); p.From != number {
		w.t.Errorf("the carrier has the call %+v", p)
	}
	callback, _, _ := strings.Cut(asked.Get("StatusCallback"), "#")
	form := url.Values{"CallSid": {fmt.Sprint(try["carrier_call_id"])}, "AccountSid": {account}, "CallStatus": {"ringing"},
		"From": {number}, "To": {calleeIsSlow}}
	for _, signed := range []struct {
		token string
		want  int
	}{{siteToken, 403}, {"guessed", 403}, {token, 204}} { // the operator's is none of theirs
		req, err := http.NewRequestWithContext(w.t.Context(), "POST", w.address+strings.TrimPrefix(callback, sitePublic), strings.NewReader(form.Encode()))
		if err != nil {
			w.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("X-Twilio-Signature", signaling.TwilioSignature(signed.token, callback, form))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != signed.want {
			w.t.Errorf("signed with %s: %d %s, want %d", signed.token, res.StatusCode, body, signed.want)
		}
	}
	w.want(200, "POST", "/v1/dials/"+d["id"].(string)+"/cancel", "") // by the account too
	if d := w.stands(d, "canceled"); attempt(d, 0)["outcome"] != "canceled" {
		w.t.Errorf("taken back: %v", d)
	}
}

// defrauded: whoever has a key orders one number of a hundred after the other.
// Orders are refused then and say why, one that waits goes on waiting, a call in
// progress goes on, until the operator lifts it.
func (w *town) defrauded() {
	ringing, _ := w.rings(ourNumber)
	tomorrow := fmt.Sprintf(`,"at":%q`, time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339))
	waiting := w.order(calleePicksUp, tomorrow)
	for n := range 20 {
		w.order(fmt.Sprintf("+120655501%02d", n), tomorrow)
	}
	var refused map[string]any
	w.poll(30*time.Second, "orders to be refused", func() bool {
		status, m := w.n.ask(w.site, "POST", "/v1/calls", fmt.Sprintf(`{"agent_id":"front-desk","to":"+12065550119","from":%q%s}`, ourNumber, tomorrow))
		refused = m
		return status == 403
	})
	tenant := w.tenant()
	resume := "/v1/tenants/" + tenant + "/outbound/resume"
	if text := fmt.Sprint(refused["detail"]); refused["code"] != "outbound_stopped" || !strings.Contains(text, "20 numbers that begin with +120655501") || !strings.Contains(text, resume) {
		w.t.Errorf("the order is refused with %v", refused)
	}
	if p := w.want(200, "GET", "/v1/outbound-policy", ""); p["stopped"] == nil {
		w.t.Errorf("the policy does not say that calls are stopped: %v", p)
	}
	if log := w.n.log.String(); strings.Count(log, "they look like toll fraud") != 1 || !strings.Contains(log, tenant) {
		w.t.Errorf("the log tells of it %d times", strings.Count(log, "they look like toll fraud"))
	}
	w.sql(`UPDATE dials SET due_at = now() WHERE id = $1`, waiting["id"]) // a day passes
	w.poll(30*time.Second, "the waiting order to be held", func() bool {
		_, now := w.n.ask(w.site, "GET", "/v1/dials/"+waiting["id"].(string), "")
		return now["status"] == "scheduled" && now["reason"] == "blocked"
	})
	if _, now := w.n.ask(w.site, "GET", "/v1/dials/"+ringing["id"].(string), ""); attempt(now, 0)["status"] != "ringing" {
		w.t.Errorf("the call in progress: %v", now)
	}
	if status, m := w.byPassword("POST", resume); status != 200 || m["lifted_at"] == nil {
		w.t.Fatalf("lifted: %d %v", status, m)
	}
	w.sql(`UPDATE dials SET due_at = now() WHERE id = $1`, waiting["id"]) // a minute passes
	w.stands(waiting, "completed")
	w.want(200, "POST", "/v1/dials/"+ringing["id"].(string)+"/cancel", "")
	w.stands(ringing, "canceled")
}

// tenant is the one of the site.
func (w *town) tenant() string {
	w.t.Helper()
	for _, item := range w.want(200, "GET", "/v1/audit", "")["items"].([]any) {
		if object, ok := strings.CutPrefix(fmt.Sprint(item.(map[string]any)["object"]), "tenant:"); ok {
			return object
		}
	}
	w.t.Fatal("the audit trail does not name the tenant")
	return ""
}

// byPassword asks as the site's owner, who looks after all tenants.
func (w *town) byPassword(method, path string) (int, map[string]any) {
	w.t.Helper()
	var m map[string]any
	var cookie string
	for _, ask := range [][3]string{{"POST", "/v1/auth/login", fmt.Sprintf(`{"email":%q,"password":%q}`, siteOwner, w.password)}, {method, path, ""}} {
		req, err := http.NewRequestWithContext(w.t.Context(), ask[0], w.n.url+ask[1], strings.NewReader(ask[2]))
		if err != nil {
			w.t.Fatal(err)
		}
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		req.Header.Set("Cookie", cookie)
		if ask[2] != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		m = nil
		err = json.NewDecoder(res.Body).Decode(&m)
		res.Body.Close()
		if err != nil || ask[1] == path {
			return res.StatusCode, m
		}
		for _, c := range res.Cookies() {
			if strings.HasSuffix(c.Name, "parley_session") && c.Value != "" {
				cookie = c.Name + "=" + c.Value
			}
		}
	}
	return 0, m
}
