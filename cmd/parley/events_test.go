package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/control/signature"
)

// mailbox is a receiver of webhooks, which keeps what it is sent.
type mailbox struct {
	t      *testing.T
	secret string

	mu   sync.Mutex
	seqs map[string][]int // by session
	seen map[string]bool  // ids of events
	last map[string]string
}

func newMailbox(t *testing.T) *mailbox {
	return &mailbox{t: t, seqs: map[string][]int{}, seen: map[string]bool{}, last: map[string]string{}}
}

// lastOf is the type of the last event of a session that has come.
func (m *mailbox) lastOf(session string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last[session]
}

func (m *mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var e struct {
		ID      string `json:"id"`
		Type    string `json:"event_type"`
		Session string `json:"session_id"`
		Seq     int    `json:"sequence"`
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	err := signature.Verify(r.Header.Get(signature.Header), body, time.Now(), signature.Tolerance, m.secret)
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	if err != nil {
		m.t.Error(err)
	}
	if !m.seen[e.ID] { // at least once
		m.seen[e.ID] = true
		m.seqs[e.Session] = append(m.seqs[e.Session], e.Seq)
		m.last[e.Session] = e.Type
	}
}

// Two processes share one queue, and the one that serves the chat is killed:
// its receiver and whoever follows the other process get every event once, in
// the order of the session. An address that flows may not reach is not reached
// by a webhook either.
func TestEventsReachTheWorld(t *testing.T) {
	t.Parallel()
	s := newSite(t, directly)
	box := newMailbox(t)
	receiver := httptest.NewServer(box)
	t.Cleanup(receiver.Close)
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("an inner address was reached") }))
	t.Cleanup(inside.Close)
	s.env = append(s.env, "PARLEY_EGRESS_ALLOW="+strings.TrimPrefix(receiver.URL, "http://"))
	a, b := s.start("a", "127.0.0.1:0"), s.start("b", "127.0.0.1:0")

	box.mu.Lock()
	box.secret, _ = s.ask(a, "POST", "/v1/webhooks", s.key, `{"name":"box","timeout_seconds":2,"url":"`+receiver.URL+`"}`, 201)["secret"].(string)
	box.mu.Unlock()
	for _, address := range []string{inside.URL, "http://169.254.169.254/latest/meta-data/", "http://[::1]:1/"} {
		hook := s.ask(a, "POST", "/v1/webhooks", s.key, `{"name":"inner","url":"`+address+`","enabled":false}`, 201)
		got := s.ask(b, "POST", "/v1/webhooks/"+hook["id"].(string)+"/test", s.key, "", 200)
		if got["delivered"] != false || got["error"] != "refused: address" {
			t.Errorf("%s: %v", address, got)
		}
	}
	if !strings.Contains(b.log.String(), "outbound request refused") {
		t.Error("the refusals are not in the log")
	}
	follow, err := http.NewRequestWithContext(t.Context(), "GET", b.url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	follow.Header.Set("Authorization", "Bearer "+s.key)
	stream, err := http.DefaultClient.Do(follow)
	if err != nil || stream.StatusCode != 200 {
		t.Fatal(stream, err)
	}
	t.Cleanup(func() { _ = stream.Body.Close() })

	doc := `{"nodes":[{"id":"one","type":"question","content":{"question":"1?","variable":"a"},"connections":{"default":"two"}},
		{"id":"two","type":"question","content":{"question":"2?","variable":"b"},"connections":{"default":"bye"}},{"id":"bye","type":"message","content":{"text":"Bye."}}]}`
	f := s.ask(a, "POST", "/v1/flows", s.key, `{"name":"two","document":`+doc+`}`, 201)
	s.ask(a, "POST", "/v1/flows/"+f["id"].(string)+"/publish", s.key, `{}`, 200)
	chat := s.ask(a, "POST", "/chat/start", s.key, `{"flow_id":"two"}`, 201)
	id, token := chat["session_id"].(string), chat["session_token"].(string)
	s.ask(a, "POST", "/chat/sessions/"+token+"/interact", token, `{"input":"x"}`, 200)
	a.signal(t, os.Kill)
	s.ask(b, "POST", "/chat/sessions/"+token+"/interact", token, `{"input":"y"}`, 200)
	s.ask(b, "DELETE", "/v1/sessions/"+id, s.key, "", 204)

	s.await(60*time.Second, "the last event", func() bool {
		box.mu.Lock()
		defer box.mu.Unlock()
		return box.last[id] == "session_deleted"
	})
	var followed []string
	lines := bufio.NewScanner(stream.Body)
	for len(followed) == 0 || followed[len(followed)-1] != "session_deleted" {
		if !lines.Scan() {
			t.Fatalf("the stream ends after %v: %v", followed, lines.Err())
		}
		if typ, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			followed = append(followed, typ)
		}
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	for i, seq := range box.seqs[id] {
		if seq != i+1 {
			t.Errorf("the receiver got %v", box.seqs[id])
			break
		}
	}
	if len(followed) != len(box.seqs[id]) {
		t.Errorf("followed %v, received %v", followed, box.seqs[id])
	}
}
