package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/store/postgres/postgrestest"
)

// A load asks a node without pause, as programs do that keep their word: what is
// refused is asked again, and what was promised is noted, to be held against
// what is stored.
type load struct {
	s       *site
	n       *node
	db      postgrestest.Database
	address string // of the shop
	client  *http.Client
	stop    chan struct{}
	group   sync.WaitGroup

	mu      sync.Mutex
	chats   []promised
	keys    []promised
	refused map[string]int // by what and status
	orders  map[string]map[string]int
}

// A promised thing was answered with success.
type promised struct {
	id, secret string
	began, at  time.Time
	revision   int
	lapsed     bool // an attempt at it had to lapse
}

// shopSecret is what the shop wants.
const shopSecret = "shop horse battery staple"

// shop is where chats order. It counts orders by session and key.
func (l *load) shop(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+shopSecret {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		key := r.Header.Get("Idempotency-Key")
		session, _, _ := strings.Cut(key, ":")
		l.mu.Lock()
		if l.orders[session] == nil {
			l.orders[session] = map[string]int{}
		}
		l.orders[session][key]++
		l.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"number":7}`)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

func shopFlow(url string) string {
	return `{"nodes":[{"id":"what","type":"question","content":{"question":"What?","variable":"what"},"connections":{"default":"order"}},
		{"id":"order","type":"webhook","content":{"url":"` + url + `/order","method":"POST","headers":{"Authorization":"Bearer {secret:shop}"},"body":{"what":"{what}"},
		 "response_mapping":{"number":"$.number"}},"connections":{"success":"done","error":"failed"}},
		{"id":"done","type":"message","content":{"text":"Order {number}."}},{"id":"failed","type":"message","content":{"text":"That failed."}}]}`
}

// newLoad prepares one for a site whose node is yet to start.
func newLoad(s *site, db postgrestest.Database) *load {
	l := &load{s: s, db: db, client: &http.Client{Timeout: 20 * time.Second}, stop: make(chan struct{}), refused: map[string]int{}, orders: map[string]map[string]int{}}
	l.address = l.shop(s.t)
	s.env = append(s.env, "PARLEY_EGRESS_ALLOW="+strings.TrimPrefix(l.address, "http://"))
	s.t.Cleanup(l.end)
	return l
}

// begin starts so many who chat with a node, and one who makes keys.
func (l *load) begin(n *node, chats int) {
	l.n = n
	l.s.await(20*time.Second, "the secret to be put", func() bool {
		status, _, _ := l.tell("PUT", "/v1/secrets/shop", l.s.key, "", `{"value":"`+shopSecret+`","hosts":["`+l.address+`"]}`)
		return status == 200 || status == 201
	})
	f := l.s.ask(n, "POST", "/v1/flows", l.s.key, `{"name":"shop","document":`+shopFlow(l.address)+`}`, 201)
	l.s.ask(n, "POST", "/v1/flows/"+f["id"].(string)+"/publish", l.s.key, `{}`, 200)
	for range chats {
		l.group.Go(func() { l.repeat(l.chat, 100*time.Millisecond) })
	}
	l.group.Go(func() { l.repeat(l.key, 550*time.Millisecond) }) // 120 a minute are allowed
}

func (l *load) repeat(do func(), pause time.Duration) {
	for l.going() {
		do()
		select {
		case <-l.stop:
		case <-time.After(pause):
		}
	}
}

func (l *load) going() bool {
	select {
	case <-l.stop:
		return false
	default:
		return true
	}
}

// end has everybody finish what they are at.
func (l *load) end() {
	if l.going() {
		close(l.stop)
	}
	l.group.Wait()
}

// tell sends a request, and returns what came; status 0 for no answer.
func (l *load) tell(method, path, bearer, once, body string) (status int, m map[string]any, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, l.n.url+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("Content-Type", "application/json")
	if once != "" {
		r.Header.Set("Idempotency-Key", once)
	}
	resp, err := l.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && len(raw) > 0 {
		err = json.Unmarshal(raw, &m)
	}
	return resp.StatusCode, m, err
}

// insist tells until it is taken or the deadline passes. Refusals are counted.
func (l *load) insist(what, method, path, bearer, once, body string, done func(status int, m map[string]any) bool) bool {
	var last map[string]any
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && !l.s.t.Failed(); {
		status, m, err := l.tell(method, path, bearer, once, body)
		if err == nil && done(status, m) {
			return true
		}
		if last = m; status == 422 {
			break
		}
		l.mu.Lock()
		l.refused[fmt.Sprint(what, " ", status)]++
		l.mu.Unlock()
		<-time.After(50 * time.Millisecond)
	}
	l.s.t.Errorf("%s %s is refused for a minute, or for good: %v", method, path, last)
	return false
}

// chat holds one whole session.
func (l *load) chat() {
	began := time.Now()
	var id, token string
	if !l.insist("start", "POST", "/chat/start", l.s.key, "", `{"flow_id":"shop"}`, func(status int, m map[string]any) bool {
		if status == 201 {
			id, token = m["session_id"].(string), m["session_token"].(string)
		}
		return status == 201
	}) {
		return
	}
	p := promised{id: id, began: began}
	path := "/chat/sessions/" + token
	if !l.insist("answer", "POST", path+"/interact", token, "", `{"input":"tea","expected_revision":1}`, func(status int, m map[string]any) bool {
		if status != 200 || m["status"] != "completed" { // another try may have been taken, and may still be at it
			status, m, _ = l.tell("GET", path, token, "", "")
		}
		if status == 200 && m["status"] == "completed" {
			p.revision = int(m["revision"].(float64))
		}
		return p.revision > 0
	}) {
		l.s.t.Errorf("session %s stands at %s", id, l.row(id))
		return
	}
	p.at = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.chats = append(l.chats, p)
}

// row is what is stored of a session.
func (l *load) row(id string) (row string) {
	conn, err := pgx.Connect(context.Background(), l.db.SuperURL)
	if err != nil {
		return err.Error()
	}
	defer conn.Close(context.Background())
	err = conn.QueryRow(context.Background(), `SELECT jsonb_build_object('row', to_jsonb(c) - 'state', 'system', state -> 'system', 'now', now())::text FROM conversations c WHERE id = $1`, id).Scan(&row)
	if err != nil {
		return err.Error()
	}
	return row
}

// key makes one API key.
func (l *load) key() {
	p := promised{began: time.Now()}
	if !l.insist("key", "POST", "/v1/keys", l.s.key, uuid.NewString(), `{"name":"k","scopes":["agents.read"]}`, func(status int, m map[string]any) bool {
		p.lapsed = p.lapsed || status == 409 // an attempt is taken to be under way
		if status == 201 {
			p.id, p.secret = m["id"].(string), m["secret"].(string)
		}
		return status == 201
	}) {
		return
	}
	p.at = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = append(l.keys, p)
}

// since waits for a chat and a key that were begun after a time, and returns how
// long each took from then.
func (l *load) since(from time.Time) (chat, key time.Duration) {
	l.s.t.Helper()
	first := func(list []promised) time.Duration {
		for _, p := range list {
			if p.began.After(from) {
				return p.at.Sub(from)
			}
		}
		return 0
	}
	l.s.await(time.Minute, "a chat and a key", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		chat, key = first(l.chats), first(l.keys)
		return chat > 0 && key > 0
	})
	return chat, key
}

// slowest chat that ended within a time.
func (l *load) slowest(from, to time.Time) (n int, slowest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.chats {
		if p.at.After(from) && p.at.Before(to) {
			n, slowest = n+1, max(slowest, p.at.Sub(p.began))
		}
	}
	return n, slowest
}

// held compares what is stored with all that was promised.
func (l *load) held() {
	t := l.s.t
	t.Helper()
	conn, err := pgx.Connect(t.Context(), l.db.SuperURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	// A session's commits and events are numbered from 1, without a gap.
	type stored struct {
		ID, Status                  string
		Revision, Commits, LastSeq  int
		Events, LastCommit, Repeats int
	}
	r, err := conn.Query(t.Context(), `SELECT c.id::text, c.status, c.revision,
		(SELECT count(*)::int FROM conversation_history h WHERE h.conversation_id = c.id) AS commits,
		(SELECT coalesce(max(seq), 0)::int FROM events e WHERE e.session_id = c.id) AS last_seq,
		(SELECT count(*)::int FROM events e WHERE e.session_id = c.id) AS events,
		(SELECT coalesce(max(revision), 0)::int FROM conversation_history h WHERE h.conversation_id = c.id) AS last_commit, 0 AS repeats
		FROM conversations c`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(r, pgx.RowToStructByPos[stored])
	if err != nil {
		t.Fatal(err)
	}
	sessions := map[string]stored{}
	for _, c := range list {
		sessions[c.ID] = c
		if c.Commits != c.Revision || c.LastCommit != c.Revision || c.LastSeq != c.Events {
			t.Errorf("session %s has %d commits up to %d at revision %d, and %d events up to %d", c.ID, c.Commits, c.LastCommit, c.Revision, c.Events, c.LastSeq)
		}
	}
	for _, p := range l.chats {
		if c := sessions[p.id]; c.Status != "completed" || c.Revision != p.revision || c.Events < c.Revision {
			t.Errorf("promised a completed session at %d, stored %+v", p.revision, c)
		}
		if keys := l.orders[p.id]; len(keys) != 1 {
			t.Errorf("session %s ordered under %d keys", p.id, len(keys))
		}
	}
	l.heldKeys(conn)
}

// heldKeys: each key that was promised opens, and each that is stored was noted
// once. The audit trail has no gap.
func (l *load) heldKeys(conn *pgx.Conn) {
	t := l.s.t
	t.Helper()
	for _, p := range l.keys {
		if status, _, err := l.tell("GET", "/v1/agents", p.secret, "", ""); status != 200 {
			t.Errorf("key %s that was promised: %d, %v", p.id, status, err)
		}
	}
	// An attempt that lost its answer, as one does whose database dies between a
	// commit and the word of it, may be made again once it has lapsed.
	lapsed := 0
	for _, p := range l.keys {
		if p.lapsed {
			lapsed++
		}
	}
	var unnoted, twice, gaps int
	err := errors.Join(
		conn.QueryRow(t.Context(), `SELECT count(*) FROM api_keys k WHERE k.name = 'k' AND 1 <> (SELECT count(*) FROM audit a
			WHERE a.tenant_id = k.tenant_id AND a.action = 'key.create' AND a.object = 'key:' || k.id)`).Scan(&unnoted),
		conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM api_keys WHERE name = 'k') - $1`, len(l.keys)).Scan(&twice),
		conn.QueryRow(t.Context(), `SELECT count(*) FROM (SELECT max(seq) <> count(*) AS gap FROM audit GROUP BY tenant_id) t WHERE gap`).Scan(&gaps),
	)
	if err != nil {
		t.Fatal(err)
	}
	if unnoted != 0 || gaps != 0 || twice < 0 || twice > lapsed {
		t.Errorf("%d keys without their entry, %d trails with gaps, %d keys more than were promised, of %d attempts that lapsed", unnoted, gaps, twice, lapsed)
	}
}

func (l *load) tally() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	again := 0
	for _, keys := range l.orders {
		for _, n := range keys {
			again += n - 1
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d chats, %d keys, %d orders given out again under their key; refused and asked again:", len(l.chats), len(l.keys), again)
	for _, what := range slices.Sorted(maps.Keys(l.refused)) {
		fmt.Fprintf(&b, " %s: %d,", what, l.refused[what])
	}
	return strings.TrimSuffix(b.String(), ",")
}
