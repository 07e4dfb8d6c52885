package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/media"
	"parley/signaling/signalingtest"
	"parley/store/postgres/postgrestest"
)

const (
	ourNumber = "+12025550199"

	// Whom outbound tests call.
	calleePicksUp  = "+12025550101"
	calleeIsBusy   = "+12025550102" // at first
	calleeIsAway   = "+12025550103"
	calleeMachine  = "+12025550104"
	calleeIsSlow   = "+12025550105"
	calleeRefused  = "+12025550106" // by the carrier
	calleeAbsentee = "+12025550107" // a machine that gets no message
)

// A town is a site whose carrier has telephones.
type town struct {
	*site
	n     *node
	db    postgrestest.Database
	agent string // front-desk's id

	mu    sync.Mutex
	rung  map[string]int       // by callee
	heard map[string]time.Time // when the agent was last heard, by callee
}

func newTown(t *testing.T, env ...string) *town {
	w := &town{rung: map[string]int{}, heard: map[string]time.Time{}}
	w.site = newSite(t, func(db postgrestest.Database) string { w.db = db; return db.AppURL })
	w.env = append(w.env, env...)
	wait := w.twilio.Phones(t.Context(), w.phone)
	t.Cleanup(wait)
	w.n = w.start("a", "127.0.0.1:0")
	_, agents := w.n.ask(w.site, "GET", "/v1/agents", "")
	for _, a := range agents["items"].([]any) {
		if a := a.(map[string]any); a["name"] == "front-desk" {
			w.agent = a["id"].(string)
		}
	}
	w.want(201, "POST", "/v1/numbers", fmt.Sprintf(`{"number":%q,"agent_id":%q}`, ourNumber, w.agent))
	w.want(200, "PUT", "/v1/outbound-policy", dayAndNight)
	return w
}

const dayAndNight = `{"quiet_hours":{"from":"00:00","until":"00:00","time_zone":"UTC"},"concurrency":10,"number_concurrency":10,
	"per_minute":6000,"daily_spend":0,"prefixes":["+1"],"consent_required":false}`

// phone is what rings.
func (w *town) phone(form url.Values) (signalingtest.CarrierOptions, func(*signalingtest.CarrierCall), error) {
	to := form.Get("To")
	w.mu.Lock()
	w.rung[to]++
	first := w.rung[to] == 1
	w.mu.Unlock()
	o := signalingtest.CarrierOptions{URL: w.address, PublicURL: sitePublic, AuthToken: cmp.Or(w.twilio.Tokens[form.Get("AccountSid")], siteToken),
		Rings: 100 * time.Millisecond, AnsweredBy: "human", DetectAfter: 300 * time.Millisecond,
		Heard: func(at time.Time, frame []byte, played int) {
			if played > 0 && loud(media.DecodePCMU(nil, frame)) {
				w.mu.Lock()
				w.heard[to] = at
				w.mu.Unlock()
			}
		}}
	switch to {
	case calleeIsBusy:
		if first {
			o.Unanswered = "busy"
		}
	case calleeIsAway:
		o.RingsOut = 100 * time.Millisecond
	case calleeMachine:
		o.AnsweredBy = "machine_end_beep"
	case calleeAbsentee:
		o.AnsweredBy = "machine_start"
	case calleeIsSlow:
		o.Rings = time.Minute
	case calleeRefused:
		return o, nil, errors.New("no such number")
	}
	return o, w.talk, nil
}

// talk is a person who answers what the agent asks, by keys.
func (w *town) talk(c *signalingtest.CarrierCall) {
	p, _ := w.twilio.Lookup(c.SID)
	if p.To != calleePicksUp && p.To != calleeIsBusy {
		return
	}
	since := time.Time{}
	for _, keys := range []string{"1", "4#"} {
		for asked := false; !asked; { // and has nothing more to say
			select {
			case <-c.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
			w.mu.Lock()
			last := w.heard[p.To]
			w.mu.Unlock()
			asked = last.After(since) && time.Since(last) > 800*time.Millisecond
		}
		c.Digits(keys)
		since = time.Now()
	}
}

// want asks, and returns the answer, which must have a status.
func (w *town) want(status int, method, path, body string) map[string]any {
	w.t.Helper()
	got, m := w.n.ask(w.site, method, path, body)
	if got != status {
		w.t.Fatalf("%s %s: %d %v, want %d", method, path, got, m, status)
	}
	return m
}

// order orders a call with more fields than who is called.
func (w *town) order(to, more string) map[string]any {
	w.t.Helper()
	return w.want(202, "POST", "/v1/calls", fmt.Sprintf(`{"agent_id":"front-desk","to":%q,"from":%q%s}`, to, ourNumber, more))
}

// stands waits until an order has a status, and returns it.
func (w *town) stands(d map[string]any, status string) map[string]any {
	w.t.Helper()
	var now map[string]any
	w.poll(time.Minute, "the order to be "+status, func() bool {
		_, now = w.n.ask(w.site, "GET", "/v1/dials/"+d["id"].(string), "")
		return now["status"] == status
	})
	return now
}

// attempt is one of an order's.
func attempt(d map[string]any, i int) map[string]any {
	attempts, _ := d["attempts"].([]any)
	if i >= len(attempts) {
		return map[string]any{}
	}
	return attempts[i].(map[string]any)
}

// poll asks until something is, within what a key may ask in a minute.
func (w *town) poll(limit time.Duration, what string, is func() bool) {
	w.t.Helper()
	next := time.Time{}
	w.await(limit, what, func() bool {
		if time.Now().Before(next) {
			return false
		}
		next = time.Now().Add(150 * time.Millisecond)
		return is()
	})
}

func (w *town) sql(q string, args ...any) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.SuperURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(w.t.Context())
	if _, err := conn.Exec(w.t.Context(), q, args...); err != nil {
		w.t.Fatal(err)
	}
}

// An order is carried out: the callee answers, hears the agent, talks with it, and
// the order, its attempt, its call and the ledger say so.
func TestOutboundCall(t *testing.T) {
	w := newTown(t)
	d := w.order(calleePicksUp, `,"reference":"order 17"`)
	done := w.stands(d, "completed")
	a := attempt(done, 0)
	if done["outcome"] != "answered" || done["attempts_made"] != 1.0 || a["status"] != "ended" || a["answered_by"] != "human" ||
		a["answered_at"] == nil || a["cost"] != 0.02 { // a begun minute of +1
		t.Errorf("the order ended as %v", done)
	}
	if w.rung[calleePicksUp] != 1 {
		t.Errorf("the callee was rung %d times", w.rung[calleePicksUp])
	}
	call := "/v1/calls/" + a["id"].(string)
	var c map[string]any
	w.poll(30*time.Second, "the call's records", func() bool {
		_, c = w.n.ask(w.site, "GET", call, "")
		return c["status"] == "ended"
	})
	if c["direction"] != "outbound" || c["from"] != ourNumber || c["to"] != calleePicksUp || c["end_reason"] != "goodbye" || c["carrier_call_id"] != a["carrier_call_id"] {
		t.Errorf("its call is %v", c)
	}
	_, lines := w.records(a["carrier_call_id"].(string))
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "agent: Would you like red or blue?") || !strings.Contains(text, "goodbye") {
		t.Errorf("what was said:\n%s", text)
	}
	w.poll(30*time.Second, "the carrier's part in the ledger", func() bool {
		_, usage := w.n.ask(w.site, "GET", call+"/usage", "")
		text, _ := json.Marshal(usage)
		return bytes.Contains(text, []byte(`"carrier_ms"`))
	})
	if found := w.want(200, "GET", "/v1/dials?reference=order+17", ""); len(found["items"].([]any)) != 1 {
		t.Errorf("by its reference: %v", found)
	}
}

// What becomes of calls that nobody answers, or that a machine does.
func TestOutboundOutcomes(t *testing.T) {
	w := newTown(t)
	busy := w.order(calleeIsBusy, `,"retry":{"attempts":2,"backoff_seconds":3600,"on":["busy"]}`)
	away := w.order(calleeIsAway, `,"retry":{"attempts":1}`)
	message := w.order(calleeMachine, `,"voicemail":{"mode":"leave_message","message":"Please call us back."}`)
	absent := w.order(calleeAbsentee, "")
	refused := w.order(calleeRefused, `,"retry":{"attempts":3}`)
	slow := w.order(calleeIsSlow, "")

	w.poll(time.Minute, "a telephone to ring", func() bool {
		_, now := w.n.ask(w.site, "GET", "/v1/dials/"+slow["id"].(string), "")
		return attempt(now, 0)["status"] == "ringing"
	})
	w.want(200, "POST", "/v1/dials/"+slow["id"].(string)+"/cancel", "")
	if d := w.stands(slow, "canceled"); d["outcome"] != "canceled" || attempt(d, 0)["outcome"] != "canceled" || attempt(d, 0)["cost"] != 0.0 {
		t.Errorf("the order that was taken back: %v", d)
	}
	if status, m := w.n.ask(w.site, "POST", "/v1/dials/"+slow["id"].(string)+"/cancel", ""); status != 409 {
		t.Errorf("taken back again: %d %v, want 409", status, m)
	}
	if d := w.stands(away, "failed"); d["outcome"] != "no_answer" || d["attempts_made"] != 1.0 {
		t.Errorf("nobody answers: %v", d)
	}
	if d := w.stands(refused, "failed"); d["outcome"] != "refused" || d["attempts_made"] != 1.0 || d["error_code"] != "21211" || d["error"] == nil {
		t.Errorf("the carrier refuses: %v", d)
	}
	if d := w.stands(absent, "completed"); d["outcome"] != "machine" {
		t.Errorf("a machine without a message: %v", d)
	}
	d := w.stands(message, "completed")
	if d["outcome"] != "message" || attempt(d, 0)["answered_by"] != "machine_end_beep" {
		t.Errorf("a machine with a message: %v", d)
	}
	w.poll(30*time.Second, "what the machine was told", func() bool {
		_, lines := w.records(attempt(d, 0)["carrier_call_id"].(string))
		return strings.Contains(strings.Join(lines, "\n"), "Please call us back.")
	})

	w.poll(time.Minute, "the second try to be planned", func() bool {
		_, now := w.n.ask(w.site, "GET", "/v1/dials/"+busy["id"].(string), "")
		return now["status"] == "scheduled" && now["reason"] == "retry" && attempt(now, 0)["outcome"] == "busy"
	})
	w.sql(`UPDATE dials SET due_at = now() WHERE id = $1`, busy["id"]) // an hour passes
	if d := w.stands(busy, "completed"); d["outcome"] != "answered" || d["attempts_made"] != 2.0 || attempt(d, 1)["outcome"] != "answered" {
		t.Errorf("busy, then not: %v", d)
	}
	w.byTheTenantsAccount()
}

// A call that lies in quiet hours is moved, and says so; a repeated order is the
// same one.
func TestOutboundOrdersAreKept(t *testing.T) {
	w := newTown(t, "PARLEY_SECOND_FACTOR=enrolled")
	zone, err := time.LoadLocation("America/New_York") // of +1 202
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().In(zone)
	until := now.Add(2 * time.Hour).Truncate(time.Minute)
	quiet := strings.Replace(dayAndNight, `"from":"00:00","until":"00:00"`,
		fmt.Sprintf(`"from":%q,"until":%q`, now.Add(-2*time.Hour).Format("15:04"), until.Format("15:04")), 1)
	w.want(200, "PUT", "/v1/outbound-policy", quiet)
	d := w.order(calleePicksUp, "")
	due, _ := time.Parse(time.RFC3339, fmt.Sprint(d["due_at"]))
	if d["status"] != "scheduled" || d["reason"] != "quiet_hours" || d["moved_from"] == nil || due.In(zone).Format("15:04") != until.Format("15:04") {
		t.Errorf("in quiet hours the answer is %v; want it moved to %v", d, until)
	}
	w.want(200, "POST", "/v1/dials/"+d["id"].(string)+"/cancel", "")
	w.want(200, "PUT", "/v1/outbound-policy", dayAndNight)

	body := fmt.Sprintf(`{"agent_id":"front-desk","to":%q,"from":%q}`, calleeIsAway, ourNumber)
	var ids [2]string
	for i := range ids {
		req, err := http.NewRequestWithContext(t.Context(), "POST", w.n.url+"/v1/calls", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.key)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "order-17")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		err = json.NewDecoder(res.Body).Decode(&m)
		res.Body.Close()
		if err != nil || res.StatusCode != 202 {
			t.Fatalf("order %d: %d %v, %v", i, res.StatusCode, m, err)
		}
		ids[i] = m["id"].(string)
	}
	w.stands(map[string]any{"id": ids[1]}, "failed")
	if ids[0] != ids[1] || w.rung[calleeIsAway] != 1 {
		t.Errorf("the same order twice is %v and rings %d times", ids, w.rung[calleeIsAway])
	}
	w.defrauded()
}
