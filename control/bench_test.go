package control_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent/flow"
	"parley/control"
)

// form asks three questions, with seven nodes between them.
const form = `{"nodes":[
	{"id":"hi","type":"message","content":{"text":"Hello."},"connections":{"default":"name"}},
	{"id":"name","type":"question","content":{"question":"Your name?","variable":"user.name"},"connections":{"default":"set"}},
	{"id":"set","type":"action","content":{"actions":[{"type":"set_variable","variable":"temp.seen","value":true}]},"connections":{"default":"size"}},
	{"id":"size","type":"question","content":{"question":"How many, {user.name}?","input_type":"number","variable":"size"},"connections":{"default":"many"}},
	{"id":"many","type":"condition","content":{"conditions":[{"if":{"var":"size","gt":8},"then":"large"}],"else":"small"}},
	{"id":"large","type":"message","content":{"text":"A large party."},"connections":{"default":"day"}},
	{"id":"small","type":"message","content":{"text":"A small party."},"connections":{"default":"day"}},
	{"id":"day","type":"question","content":{"question":"Which day?","variable":"day"},"connections":{"default":"sum"}},
	{"id":"sum","type":"message","content":{"text":"{size} on {day} for {user.name}."},"connections":{"default":"bye"}},
	{"id":"bye","type":"message","content":{"text":"Bye."}}]}`

// One answer of a chat: claim, step, commit, on a database that keeps its word.
func BenchmarkChatTurn(b *testing.B) {
	w := newTownOn(b, durable(b), `{"defaults":{"limits":{"turns":10000}},"nodes":[{"id":"q","type":"question","content":{"question":"?","input_type":"number","variable":"n"}}]}`)
	s := w.process()
	r := w.start(s)
	var took []time.Duration
	for b.Loop() {
		if r.Status != flow.Active || r.Revision > 9000 {
			r = w.start(s)
		}
		took = append(took, w.timed(s, r.ID, "nonsense"))
		r.Revision++
	}
	report(b, took)
}

// timed gives an answer and returns how long that took.
func (w *town) timed(s *control.Chats, id uuid.UUID, text string) time.Duration {
	w.t.Helper()
	began := time.Now()
	if _, err := s.Interact(w.ctx, id, control.Answer{Text: text, Mode: "text"}); err != nil {
		w.t.Fatal(err)
	}
	return time.Since(began)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "p99-ms")
}

// Whole sessions, of a start and three answers each, four at a time; and what
// each leaves in the database.
func BenchmarkChatSessions(b *testing.B) {
	const atOnce, each = 4, 8
	w := newTownOn(b, durable(b), form)
	s := w.process()
	before, done, began := w.size(b), 0, time.Now()
	for b.Loop() {
		var group sync.WaitGroup
		for range atOnce {
			group.Go(func() {
				for range each {
					w.fill(s)
				}
			})
		}
		group.Wait()
		done += atOnce * each
	}
	b.ReportMetric(float64(done)/time.Since(began).Seconds(), "sessions/s")
	b.ReportMetric(float64(w.size(b)-before)/float64(done), "B/session")
}

// fill holds one session of the form.
func (w *town) fill(s *control.Chats) {
	r, _, err := s.Start(w.ctx, control.Beginning{Flow: w.flow.String()})
	for _, text := range []string{"Ada", "4", "Friday"} {
		if err == nil {
			r, err = s.Interact(w.ctx, r.ID, control.Answer{Text: text, Mode: "text"})
		}
	}
	if err != nil || r.Status != flow.Completed {
		w.t.Errorf("%s, %v", r.Status, err)
	}
}

// size is what the tables and indexes of conversations take.
func (w *town) size(b *testing.B) int64 {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), w.db.SuperURL)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	var n int64
	err = conn.QueryRow(b.Context(), `SELECT sum(pg_total_relation_size(t))::bigint
		FROM unnest(ARRAY['conversations', 'conversation_history', 'events']::regclass[]) t`).Scan(&n)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// An answer where so many sessions are stored: it costs the same.
func BenchmarkStoredSessions(b *testing.B) {
	w := newTownOn(b, durable(b), `{"defaults":{"limits":{"turns":10000}},"nodes":[{"id":"q","type":"question","content":{"question":"?","input_type":"number","variable":"n"}}]}`)
	w.start(w.process())
	for _, stored := range []int{1_000, 10_000, 100_000} {
		ids := w.multiply(b, stored)
		b.Run(fmt.Sprint(stored), func(b *testing.B) {
			s, r := w.process(), rand.New(rand.NewPCG(1, 1))
			var took []time.Duration
			for b.Loop() {
				took = append(took, w.timed(s, ids[r.IntN(len(ids))], "nonsense"))
			}
			report(b, took)
		})
	}
}

// multiply stores copies of the first session, with its history, until there
// are n.
func (w *town) multiply(b *testing.B, n int) []uuid.UUID {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), w.db.SuperURL)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	for _, q := range []string{
		`SET session_replication_role = replica`, // no events
		`CREATE TEMP TABLE one AS SELECT * FROM conversations ORDER BY created_at LIMIT 1`,
		`CREATE TEMP TABLE entry AS SELECT * FROM conversation_history WHERE conversation_id = (SELECT id FROM one)`,
		`CREATE TEMP TABLE copies AS SELECT gen_random_uuid() AS copy FROM generate_series((SELECT count(*) FROM conversations) + 1, ` + fmt.Sprint(n) + `)`,
		`INSERT INTO conversations SELECT (jsonb_populate_record(o, jsonb_build_object('id', copy, 'token_hash', '\x' || md5(copy::text)))).* FROM one o, copies`,
		`INSERT INTO conversation_history SELECT (jsonb_populate_record(h, jsonb_build_object('conversation_id', copy))).* FROM entry h, copies`,
		`VACUUM ANALYZE conversations`, `VACUUM ANALYZE conversation_history`, `CHECKPOINT`,
	} {
		if _, err := conn.Exec(b.Context(), q); err != nil {
			b.Fatalf("%s: %v", q, err)
		}
	}
	rows, err := conn.Query(b.Context(), `SELECT id FROM conversations`)
	if err != nil {
		b.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil || len(ids) != n {
		b.Fatalf("%d sessions of %d: %v", len(ids), n, err)
	}
	return ids
}
