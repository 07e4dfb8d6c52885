package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/signaling/signalingtest"
)

// An office is a site with one node whose operators act on calls, and whose
// colleagues and carrier do as their numbers say.
type office struct {
	*site
	n        *node
	troubles *troubles
}

// troubles are what goes wrong at the carrier, by the number called or the sid.
type troubles struct {
	mu sync.Mutex
	of map[string]*signalingtest.Trouble
}

func (t *troubles) set(key string, trouble *signalingtest.Trouble) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of[key] = trouble
}

func (t *troubles) get(sid string, form url.Values) *signalingtest.Trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	if sid == "" {
		return t.of[form.Get("To")]
	}
	return t.of[sid]
}

// Colleagues, by what they do.
const (
	whoIsBusy     = "+15550010"
	whoIsAway     = "+15550011"
	whoFails      = "+15550012"
	whoDeclines   = "+15550013"
	whoHangsUp    = "+15550014"
	whoAccepts    = "+15550015"
	whoIsInNoRush = "+15550016"
	whoIsUnclear  = "+15550017" // accepts, but the carrier's answer is lost
)

func (o *office) rings(form url.Values) (string, error) {
	what := map[string][2]string{whoIsBusy: {"busy", ""}, whoIsAway: {"no-answer", ""}, whoFails: {"failed", ""},
		whoDeclines: {"", "2"}, whoHangsUp: {"", "hangup"}, whoAccepts: {"", "1"}, whoIsInNoRush: {"", "wait"}, whoIsUnclear: {"", "1"}}[form.Get("To")]
	return o.colleague(what[0], what[1])(form)
}

// call returns the office for a test of its own, with a call that waits for its
// caller's answer.
func (o *office) call(t *testing.T, options signalingtest.CarrierOptions) (*office, *telephone, string) {
	t.Helper()
	s := *o.site
	s.t = t
	mine := &office{&s, o.n, o.troubles}
	p := mine.ring(options)
	p.sounded()
	p.quiet()
	c, _ := mine.records(p.SID)
	return mine, p, "/v1/calls/" + c.ID.String()
}

// order asks for something, and returns the command's path.
func (o *office) order(path, body string) string {
	o.t.Helper()
	status, made := o.n.ask(o.site, "POST", path, body)
	if status != 202 {
		o.t.Fatalf("POST %s: %d %v", path, status, made)
	}
	return path[:strings.LastIndex(path, "/")] + "/commands/" + made["id"].(string)
}

// became waits until a command is over.
func (o *office) became(command, status, reason string) {
	o.t.Helper()
	var now map[string]any
	o.eventually("a command to be over", func() bool {
		_, now = o.n.ask(o.site, "GET", command, "")
		return now["status"] == "done" || now["status"] == "failed"
	})
	if got, _ := now["reason"].(string); now["status"] != status || got != reason {
		o.t.Errorf("it is %s for %q, want %s for %q", now["status"], got, status, reason)
	}
}

// stands waits until a call is in a status.
func (o *office) stands(call, status string) map[string]any {
	o.t.Helper()
	var now map[string]any
	o.eventually("the call to be "+status, func() bool {
		_, now = o.n.ask(o.site, "GET", call, "")
		return now["status"] == status
	})
	return now
}

// dials counts what the caller's line was connected to.
func dials(p *telephone) (to []string) {
	for _, e := range p.Events() {
		if e.Kind == "dial" {
			to = append(to, e.Text)
		}
	}
	return to
}

func TestOperatorsAct(t *testing.T) {
	s := newSite(t, directly)
	o := &office{s, s.start("a", "127.0.0.1:0"), &troubles{of: map[string]*signalingtest.Trouble{}}}
	s.twilio.Place = o.rings
	s.twilio.Vex(o.troubles.get)
	for name, test := range map[string]func(*testing.T, *office){
		"hang-up": testHangUp, "cold": testColdTransfer, "cold-comes-back": testColdComesBack,
		"refused": testRefusedColleagues, "in-trouble": testTroubledCarrier, "meet": testMeet,
		"caller-leaves": testCallerLeavesTheHold, "elsewhere": testHangUpElsewhere,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, o) })
	}
}

// An operator has something said, and ends the call behind a goodbye.
func testHangUp(t *testing.T, o *office) {
	o, p, call := o.call(t, signalingtest.CarrierOptions{})
	p.listen()
	o.became(o.order(call+"/say", `{"text":"The kitchen is closed on monday."}`), "done", "")
	p.quiet()
	if got := p.said("the kitchen is closed on monday", "would you like red or blue", "thank you goodbye"); got != "the kitchen is closed on monday" {
		t.Errorf("the caller hears %q", got)
	}
	if status, no := o.n.ask(o.site, "POST", call+"/whisper", `{"text":"Offer tea."}`); status != 409 || !strings.Contains(fmt.Sprint(no["detail"]), "no node whose model talks") {
		t.Errorf("a note to a flow without a model: %d %v", status, no)
	}
	p.listen()
	command := o.order(call+"/hangup", `{"text":"We are closing now, good night."}`)
	if status, now := o.n.ask(o.site, "POST", call+"/transfer", `{"to":"+15550008"}`); status != 409 || now["call"] == nil {
		t.Errorf("a second operator is answered %d %v, want 409 with the call", status, now)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if got := p.said("we are closing now good night", "would you like red or blue", "thank you goodbye"); got != "we are closing now good night" {
		t.Errorf("the caller hears %q", got)
	}
	o.became(command, "done", "")
	if now := o.stands(call, "ended"); now["end_reason"] != "operator" {
		t.Errorf("it ended by %v", now["end_reason"])
	}
	if status, _ := o.n.ask(o.site, "POST", call+"/hangup", ""); status != 409 && status != 410 {
		t.Errorf("hanging up again: %d", status)
	}
}

// A cold transfer connects the caller once, and to nobody else.
func testColdTransfer(t *testing.T, o *office) {
	o, p, call := o.call(t, signalingtest.CarrierOptions{})
	p.listen()
	command := o.order(call+"/transfer", `{"to":"+15550030","announce":"Here is my colleague."}`)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if got := p.said("here is my colleague", "would you like red or blue", "thank you goodbye"); got != "here is my colleague" {
		t.Errorf("the caller hears %q", got)
	}
	if to := dials(p); len(to) != 1 || to[0] != "+15550030" {
		t.Errorf("the caller was connected to %q", to)
	}
	o.became(command, "done", "")
	if now := o.stands(call, "ended"); now["end_reason"] != "transfer" {
		t.Errorf("it ended by %v", now["end_reason"])
	}
	if strings.Contains(o.n.log.String(), "claim call") {
		t.Error("the call was served twice")
	}
}

// Of a cold transfer that nobody answers the caller comes back, and is hung up on
// at once.
func testColdComesBack(t *testing.T, o *office) {
	o, p, call := o.call(t, signalingtest.CarrierOptions{Transfer: func(context.Context, signalingtest.Dialed) string { return "busy" }})
	p.listen()
	o.became(o.order(call+"/transfer", `{"to":"+15550030"}`), "failed", "busy")
	o.stands(call, "active")
	p.sounded()
	p.quiet()
	command := o.order(call+"/hangup", `{"mode":"now"}`)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	o.became(command, "done", "")
}

// Colleagues who do not take the call, and whom the carrier does not ring: the
// operator reads why, and the caller is with the agent.
func testRefusedColleagues(t *testing.T, o *office) {
	o, p, call := o.call(t, signalingtest.CarrierOptions{})
	for i, tt := range []struct {
		to      string
		trouble *signalingtest.Trouble
		want    string
	}{
		{whoIsBusy, nil, "busy"}, {whoIsAway, nil, "no-answer"}, {whoFails, nil, "failed"},
		{whoDeclines, nil, "declined"}, {whoHangsUp, nil, "declined"},
		{"", &signalingtest.Trouble{Status: 400, Code: 21215}, "the carrier refused: the account may not call this country; allow it in Twilio's geographic permissions"},
		{"", &signalingtest.Trouble{Status: 400, Code: 21999}, "the carrier refused: error 21999 of Twilio, see https://www.twilio.com/docs/api/errors/21999"},
		{"", &signalingtest.Trouble{Status: 401, Code: 20003}, "the carrier refused our credentials: check the account"},
		{"", &signalingtest.Trouble{Status: 404, Code: 20404}, "the carrier refused: Twilio does not find what was asked for; check the account's SID"},
		{"", &signalingtest.Trouble{Status: 429, Code: 20429, RetryAfter: 1}, "the carrier takes no more requests at the moment: try again"},
	} {
		if tt.to == "" {
			tt.to = fmt.Sprint("+1555004", i)
			o.troubles.set(tt.to, tt.trouble)
		}
		o.became(o.order(call+"/transfer", fmt.Sprintf(`{"to":%q,"mode":"warm"}`, tt.to)), "failed", tt.want)
		o.back(call)
	}
	p.listen()
	o.became(o.order(call+"/say", `{"text":"The kitchen is closed on monday."}`), "done", "")
	if to := dials(p); len(to) != 0 {
		t.Errorf("the caller was connected to %q", to)
	}
}

// back waits until the caller does not hold any more.
func (o *office) back(call string) {
	o.t.Helper()
	o.eventually("the caller to be with the agent", func() bool {
		_, now := o.n.ask(o.site, "GET", call, "")
		live, _ := now["live"].(map[string]any)
		return now["status"] == "active" && live["transfer"] == nil && live["phase"] != "holding"
	})
}

// A carrier whose answer leaves open what it has done.
func testTroubledCarrier(t *testing.T, o *office) {
	o, p, call := o.call(t, signalingtest.CarrierOptions{})
	const unclear = "the carrier is in trouble, and may have done it or not: look at the call before trying again"
	for to, tt := range map[string]struct {
		trouble signalingtest.Trouble
		want    string
	}{
		"+15550051": {signalingtest.Trouble{Status: 500, Code: 20500}, unclear},
		"+15550052": {signalingtest.Trouble{Status: 502, Text: "<html>bad gateway</html>"}, unclear},
		"+15550053": {signalingtest.Trouble{Status: 201, Text: `{"sid": 17}`}, unclear},
		"+15550054": {signalingtest.Trouble{}, unclear},
		"+15550055": {signalingtest.Trouble{Silent: true}, "the carrier did not answer in time: look at the call before trying again"},
	} {
		o.troubles.set(to, &tt.trouble)
		o.became(o.order(call+"/transfer", fmt.Sprintf(`{"to":%q,"mode":"warm"}`, to)), "failed", tt.want)
		o.back(call)
	}
	// Its answer is lost, and the colleague takes the call all the same.
	o.troubles.set(whoIsUnclear, &signalingtest.Trouble{Silent: true, Late: true})
	command := o.order(call+"/transfer", fmt.Sprintf(`{"to":%q,"mode":"warm"}`, whoIsUnclear))
	o.meet(command)
	if err := p.HangUp(); err != nil {
		t.Error(err)
	}
	o.apart(command)
	if c := o.stands(call, "ended"); c["end_reason"] != "transfer" {
		t.Errorf("a caller who has talked to a colleague: %v, want end_reason transfer", c)
	}
	o.became(command, "done", "")
}

func room(command string) string { return command[strings.LastIndex(command, "/")+1:] }

// meet waits until caller and colleague are in a conference, apart until nobody is.
func (o *office) meet(command string) {
	o.t.Helper()
	o.await(30*time.Second, "caller and colleague to meet", func() bool { return len(o.twilio.Met(room(command))) == 2 })
}

func (o *office) apart(command string) {
	o.t.Helper()
	o.await(30*time.Second, "the conference to end", func() bool { return len(o.twilio.Met(room(command))) == 0 })
}

// A colleague takes the call: the caller is theirs until one of the two leaves.
func testMeet(t *testing.T, o *office) {
	o, p, call := o.call(t, signalingtest.CarrierOptions{})
	command := o.order(call+"/transfer", fmt.Sprintf(`{"to":%q,"mode":"warm","summary":"A table for four."}`, whoAccepts))
	o.meet(command)
	o.stands(call, "transferring")
	if err := p.HangUp(); err != nil {
		t.Error(err)
	}
	o.apart(command)
	o.stands(call, "ended")
}

// A caller leaves while a colleague listens to the summary: that call ends too.
func testCallerLeavesTheHold(t *testing.T, o *office) {
	o, p, call := o.call(t, signalingtest.CarrierOptions{})
	command := o.order(call+"/transfer", fmt.Sprintf(`{"to":%q,"mode":"warm"}`, whoIsInNoRush))
	o.eventually("the colleague to pick up", func() bool {
		_, now := o.n.ask(o.site, "GET", command, "")
		return now["stage"] == "offered"
	})
	if err := p.HangUp(); err != nil {
		t.Error(err)
	}
	o.stands(call, "ended")
	o.eventually("the colleague to be let go", func() bool {
		for _, r := range o.twilio.Requests() {
			if r.Get("Status") == "completed" {
				return true
			}
		}
		return false
	})
}

// A call that was transferred is hung up on by REST, or stays as it is where the
// carrier refuses.
func testHangUpElsewhere(t *testing.T, o *office) {
	o, p, call := o.call(t, signalingtest.CarrierOptions{Transfer: func(ctx context.Context, _ signalingtest.Dialed) string {
		<-ctx.Done()
		return "completed"
	}})
	o.order(call+"/transfer", `{"to":"+15550031"}`)
	o.stands(call, "transferring")
	for _, tt := range []struct {
		trouble              *signalingtest.Trouble
		status, reason, then string
	}{
		{&signalingtest.Trouble{Status: 401, Code: 20003}, "failed", "the carrier refused our credentials: check the account", "transferring"},
		{&signalingtest.Trouble{Status: 429, Code: 20429, RetryAfter: 1}, "failed", "the carrier takes no more requests at the moment: try again", "transferring"},
		{&signalingtest.Trouble{}, "failed", "the carrier is in trouble, and may have done it or not: look at the call before trying again", "transferring"},
		{&signalingtest.Trouble{Silent: true}, "failed", "the carrier did not answer in time: look at the call before trying again", "transferring"},
		{&signalingtest.Trouble{Status: 400, Code: 21220}, "done", "", "ended"}, // it is over there
	} {
		o.troubles.set(p.SID, tt.trouble)
		status, made := o.hangUp(call)
		if reason, _ := made["reason"].(string); status != 202 || made["status"] != tt.status || reason != tt.reason {
			t.Errorf("after %+v: %d %v, want %s for %q", tt.trouble, status, made, tt.status, tt.reason)
		}
		o.stands(call, tt.then)
	}
	if err := p.HangUp(); err != nil {
		t.Error(err)
	}
}

// hangUp ends a call whatever another operator is at, as one who has seen it may.
func (o *office) hangUp(call string) (status int, made map[string]any) {
	o.t.Helper()
	_, now := o.n.ask(o.site, "GET", call, "")
	req, err := http.NewRequestWithContext(o.t.Context(), "POST", o.n.url+call+"/hangup", strings.NewReader(`{"mode":"now"}`))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+o.key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("If-Match", fmt.Sprintf(`"%v"`, now["revision"]))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&made); err != nil {
		o.t.Fatal(err)
	}
	return res.StatusCode, made
}

// eventually asks three times a second, which is no more than the API takes.
func (o *office) eventually(what string, is func() bool) {
	o.t.Helper()
	last := time.Time{}
	o.await(45*time.Second, what, func() bool {
		if time.Since(last) < 300*time.Millisecond {
			return false
		}
		last = time.Now()
		return is()
	})
}
