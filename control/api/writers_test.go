package api_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
	"parley/control"
)

// adding calls outside for each answer, and adds it to a list.
const adding = `{"defaults":{"limits":{"turns":10000}},"nodes":[
	{"id":"q","type":"question","content":{"question":"?","variable":"now"},"connections":{"default":"w"}},
	{"id":"w","type":"webhook","content":{"url":"https://a.example/","method":"POST","body":{"said":"{now}"}},"connections":{"success":"a","error":"@end"}},
	{"id":"a","type":"action","content":{"actions":[{"type":"append","variable":"said","value":"{now}"}]},"connections":{"default":"q"}}]}`

// A crowd writes to a few sessions at once.
type crowd struct {
	*plane
	other    *control.Chats // another process over the same rows
	sessions []session
	tallies  []tally

	mu   sync.Mutex
	keys map[string]int // of calls outside, by idempotency key
}

// A tally is what writers were told of one session.
type tally struct {
	mu             sync.Mutex
	said, patched  map[string]bool
	refused, ended atomic.Int64
}

// 10,000 writers (PARLEY_WRITERS; else 400) come to a few sessions at once, by
// REST, by another process, and with claims alone: each is done exactly once,
// or refused and nothing is changed. What they were told adds up.
func TestParallelWriters(t *testing.T) {
	writers, err := strconv.Atoi(cmp.Or(os.Getenv("PARLEY_WRITERS"), "400"))
	if err != nil {
		t.Fatal(err)
	}
	c := newCrowd(t, max(2, writers/500))
	began := time.Now()
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() { c.write(t, i%len(c.sessions), i/len(c.sessions), i) })
	}
	all.Wait()
	took := time.Since(began)
	var done, refused int64
	for i := range c.sessions {
		c.check(t, i)
		done += int64(len(c.tallies[i].said) + len(c.tallies[i].patched))
		refused += c.tallies[i].refused.Load()
	}
	t.Logf("%d writers to %d sessions in %v: %d done, %d refused", writers, len(c.sessions), took.Round(time.Millisecond), done, refused)
	if done == 0 || refused == 0 {
		t.Errorf("%d done, %d refused: nobody met a rival", done, refused)
	}
}

func newCrowd(t *testing.T, sessions int) *crowd {
	c := &crowd{plane: newPlane(t), tallies: make([]tally, sessions), keys: map[string]int{}}
	c.plane.effect = func(e flow.Effect) flow.Result {
		call, ok := e.(flow.Call)
		if !ok {
			return flow.Result{}
		}
		c.mu.Lock()
		c.keys[call.ID]++
		c.mu.Unlock()
		return flow.Result{At: flow.At{At: time.Now()}, ID: call.ID, Outcome: "success"}
	}
	other := *c.o.Chats
	other.Graphs = &control.Graphs{Store: c.store}
	c.other = &other
	id := c.publish("adding", adding, true)
	for i := range sessions {
		c.sessions = append(c.sessions, c.chat("", `{"flow_id":"`+id+`"}`))
		c.tallies[i].said, c.tallies[i].patched = map[string]bool{}, map[string]bool{}
	}
	return c
}

// write is one writer. Every third tries until it is let, the others once.
func (c *crowd) write(t *testing.T, session, turn, writer int) {
	name := fmt.Sprint("w", writer)
	for {
		status := c.try(t, session, writer%5, name)
		switch status {
		case 200:
			return
		case 409:
			c.tallies[session].refused.Add(1)
			if turn%3 != 0 {
				return
			}
			<-time.After(time.Duration(5+writer%50) * time.Millisecond) // as a client does
		default:
			t.Errorf("writer %d: %d", writer, status)
			return
		}
	}
}

// try writes once, in one of five ways, and notes what it was told.
func (c *crowd) try(t *testing.T, i, way int, name string) int {
	s, tenant := c.sessions[i], c.demo.Tenant
	ctx := control.WithTenant(t.Context(), tenant)
	id := uuid.MustParse(s.id)
	note := func(m map[string]bool, status int) int {
		if status == 200 {
			c.tallies[i].mu.Lock()
			m[name] = true
			c.tallies[i].mu.Unlock()
		}
		return status
	}
	switch way {
	case 0:
		return note(c.tallies[i].said, c.send("POST", "/chat/sessions/"+s.token+"/interact", s.token, `{"input":"`+name+`"}`))
	case 1:
		return note(c.tallies[i].patched, c.send("PATCH", "/chat/sessions/"+s.id+"/state", c.demo.APIKey, `{"updates":{"user":{"`+name+`":true}}}`))
	case 2:
		_, err := c.other.Interact(ctx, id, control.Answer{Text: name, Mode: "text"})
		return note(c.tallies[i].said, statusOf(err))
	case 3:
		_, err := c.other.Patch(ctx, id, map[string]any{"user": map[string]any{name: true}}, 0)
		return note(c.tallies[i].patched, statusOf(err))
	}
	k := control.Claim{ID: uuid.New(), Lease: time.Minute}
	_, err := c.store.ClaimConversation(ctx, id, k)
	if err == nil {
		err = c.store.ReleaseConversation(ctx, id, k, control.LeaveDue)
	}
	return statusOf(err)
}

// send is a request without the harness's own checks.
func (c *crowd) send(method, path, key, body string) int {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r)
	return w.Code
}

func statusOf(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, control.ErrConflict):
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

// check holds a session against its tally, and then has many end it.
func (c *crowd) check(t *testing.T, i int) {
	t.Helper()
	s, told := c.sessions[i], &c.tallies[i]
	m := c.want(200, "GET", "/chat/sessions/"+s.token, "", "")
	state := m["state"].(map[string]any)
	said, _ := state["variables"].(map[string]any)["said"].([]any)
	user, _ := state["user"].(map[string]any)
	for _, v := range said {
		if !told.said[v.(string)] {
			t.Errorf("%v is there, and its writer was refused; or it is there twice", v)
		}
		delete(told.said, v.(string))
	}
	if len(told.said) > 0 {
		t.Errorf("answers that are lost: %v", told.said)
	}
	for _, v := range said {
		told.said[v.(string)] = true
	}
	if len(user) != len(told.patched) {
		t.Errorf("%d updates were made, %d are there", len(told.patched), len(user))
	}
	want := 1 + 2*len(told.said) + len(told.patched)
	if m["revision"] != float64(want) {
		t.Errorf("revision %v, want %d", m["revision"], want)
	}
	if n := len(strings.Split(c.events(s.id), ", ")); n != want {
		t.Errorf("%d events, want %d: one a revision", n, want)
	}
	c.history(t, s, want)
	c.mu.Lock()
	for key, n := range c.keys {
		if n != 1 {
			t.Errorf("key %s was sent %d times", key, n)
		}
	}
	c.mu.Unlock()
	c.end(t, s, told)
}

// history must have every revision once.
func (c *crowd) history(t *testing.T, s session, revisions int) {
	t.Helper()
	id, last := uuid.MustParse(s.id), 0
	ctx := control.WithTenant(context.Background(), c.demo.Tenant)
	for {
		page, err := c.store.History(ctx, id, last, 200)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if e.Revision != last+1 || !json.Valid(e.Event) {
				t.Fatalf("revision %d follows %d", e.Revision, last)
			}
			last = e.Revision
		}
	}
	if last != revisions {
		t.Errorf("history ends at %d, want %d", last, revisions)
	}
}

// end has twenty writers end a session: one does.
func (c *crowd) end(t *testing.T, s session, told *tally) {
	t.Helper()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			switch status := c.send("POST", "/chat/sessions/"+s.token+"/end", s.token, ""); status {
			case 200:
				told.ended.Add(1)
			case 409:
			default:
				t.Errorf("end: %d", status)
			}
		})
	}
	all.Wait()
	if n := told.ended.Load(); n != 1 {
		t.Errorf("ended %d times", n)
	}
}
