package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

// A callTown is one tenant with many calls of the last 30 days, in proportions
// of a help desk: 6 turns, 4 entries of usage, a conversation and 2 steps of its
// flow each; 20 agents, 50 numbers, words as often as words are.
type callTown struct {
	tenancy
	db    postgrestest.Database
	calls int
}

func newCallTown(t testing.TB, db postgrestest.Database) *callTown {
	t.Helper()
	w := &callTown{tenancy: seed(t, db, "a"), db: db}
	w.run(t, `DELETE FROM figure_marks`, `INSERT INTO agents SELECT (jsonb_populate_record(a, jsonb_build_object('id', gen_random_uuid(), 'name', 'desk ' || n))).*
			FROM agents a, generate_series(2, 20) n WHERE a.id = '`+w.agent.String()+`'`,
		`INSERT INTO agent_versions (id, tenant_id, agent_id, number, document)
			SELECT gen_random_uuid(), v.tenant_id, a.id, 1, v.document FROM agents a, agent_versions v
			WHERE v.agent_id = '`+w.agent.String()+`' AND a.tenant_id = v.tenant_id AND a.id <> v.agent_id`)
	return w
}

// run runs statements as nobody may but who seeds: without triggers and walls.
func (w *callTown) run(t testing.TB, statements ...string) {
	t.Helper()
	super := dial(t, w.db.SuperURL)
	defer func() { _ = super.Close(context.WithoutCancel(t.Context())) }()
	for _, q := range append([]string{`SET session_replication_role = replica`, `SET synchronous_commit = off`,
		`SELECT setseed(0.5)`, `SELECT set_config('app.tenant', '` + w.tenant.String() + `', false)`}, statements...) {
		if _, err := super.Exec(t.Context(), q); err != nil {
			t.Fatalf("%.200s: %v", q, err)
		}
	}
}

// grow adds calls until there are so many, spread over the 30 days, and counts
// their figures.
func (w *callTown) grow(t testing.TB, calls int) {
	t.Helper()
	const days = 30
	w.run(t, `CREATE TABLE IF NOT EXISTS seed_indexes (relation text, name text, definition text)`,
		// An index is made at once sooner than row by row.
		`INSERT INTO seed_indexes SELECT c.relname, i.relname, pg_get_indexdef(i.oid) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
			JOIN pg_class c ON c.oid = x.indrelid WHERE c.relname IN ('turns', 'usage_entries', 'conversations', 'conversation_history')
			AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid) AND NOT x.indisunique`,
		`DO $$ DECLARE x record; BEGIN FOR x IN SELECT name FROM seed_indexes LOOP EXECUTE format('DROP INDEX %I', x.name); END LOOP; END $$`,
		`SET maintenance_work_mem = '256MB'`, `SET work_mem = '128MB'`, fmt.Sprintf(`
		CREATE TEMP TABLE new_calls AS
		SELECT n, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid AS id,
			at, (random() * 400)::int AS seconds, random() AS luck, (random() * random() * 20)::int %% 20 AS desk, (random() * random() * 50)::int %% 50 AS line
		FROM (SELECT n, date_trunc('day', now(), 'UTC') - random() * interval '%d days' AS at FROM generate_series(%d, %d) n) s`, days, w.calls+1, calls),
		`CREATE TEMP TABLE desks AS SELECT row_number() OVER (ORDER BY a.created_at, a.name) - 1 AS desk, a.id AS agent, v.id AS version
			FROM agents a JOIN agent_versions v ON v.agent_id = a.id AND v.number = 1 WHERE a.tenant_id = current_tenant()`,
		`INSERT INTO calls (id, tenant_id, agent_id, agent_version_id, carrier, direction, caller, callee, status, started_at, answered_at, ended_at, end_reason, transfer_to, recording)
			SELECT c.id, current_tenant(), d.agent, d.version, 'twilio', CASE WHEN c.n % 5 = 0 THEN 'outbound' ELSE 'inbound' END,
				CASE WHEN c.n % 5 = 0 THEN '+4930100' || c.line ELSE '+49151' || lpad((c.n % 400000)::text, 7, '0') END,
				CASE WHEN c.n % 5 = 0 THEN '+49151' || lpad((c.n % 400000)::text, 7, '0') ELSE '+4930100' || c.line END,
				'ended', c.at, CASE WHEN c.luck < .95 THEN c.at END, c.at + c.seconds * interval '1 second',
				CASE WHEN c.luck >= .95 THEN 'missed' WHEN c.luck < .6 THEN 'goodbye' WHEN c.luck < .8 THEN 'caller' WHEN c.luck < .948 THEN 'transfer' ELSE 'vendor' END,
				CASE WHEN c.luck >= .8 AND c.luck < .948 THEN '+4930999' ELSE '' END, CASE WHEN c.n % 3 = 0 THEN 'r/' || c.id || '.wav' ELSE '' END
			FROM new_calls c JOIN desks d USING (desk) ORDER BY c.id`,
		// What is said is drawn from so many sayings: to make each anew takes minutes.
		`CREATE TEMP TABLE sayings AS SELECT k, said, to_tsvector('simple', said) AS words FROM (
			SELECT k, (SELECT string_agg('w' || floor(20000 ^ random())::int, ' ') FROM generate_series(1, 8) WHERE k >= 0) AS said
			FROM generate_series(0, 49999) k) s`,
		`ANALYZE sayings`,
		`INSERT INTO turns (tenant_id, call_id, index, speaker, generated, start_ms, end_ms, end_of_turn_ms, first_audio_ms, written_at, words, interrupted, pauses)
			SELECT current_tenant(), c.id, i, CASE WHEN i % 2 = 0 THEN 'agent' ELSE 'caller' END, s.said || o.said, i * 5000, i * 5000 + 4000,
				CASE WHEN i % 2 = 0 THEN 200 + 300 * random() END, CASE WHEN i % 2 = 0 THEN exp(6.4 + .5 * (random() + random() + random() - 1.5)) END,
				c.at, s.words || to_tsvector('simple', o.said), i % 2 = 0 AND random() < .1, CASE WHEN i % 2 = 0 AND random() < .1 THEN ARRAY['words/yield'] ELSE '{}' END
			FROM new_calls c CROSS JOIN generate_series(0, 5) i
			CROSS JOIN LATERAL (SELECT CASE WHEN c.n <= 10 AND i = 1 THEN ' order4711' ELSE '' END) o(said)
			JOIN sayings s ON s.k = abs(hashint8(c.n * 6 + i) % 50000)`,
		`INSERT INTO usage_entries (tenant_id, call_id, generation, turn, kind, vendor, agent_id, amount, currency, micros, at)
			SELECT current_tenant(), c.id, 1, k, CASE WHEN k = 0 THEN 'stt' ELSE 'tts' END, 'v' || k, d.agent, 1000, 'USD', 1000, c.at
			FROM new_calls c JOIN desks d USING (desk), generate_series(0, 3) k ORDER BY c.id`,
		`INSERT INTO conversations (id, tenant_id, call_id, flow_id, flow_version_id, revision, status, state, state_hash, created_at, updated_at, ended_at)
			SELECT c.id, current_tenant(), c.id, '`+w.flow.String()+`', (SELECT id FROM flow_versions WHERE flow_id = '`+w.flow.String()+`' LIMIT 1), 2,
				CASE WHEN c.luck < .6 THEN 'completed' WHEN c.luck < .8 THEN 'abandoned' ELSE 'transferred' END,
				'{"variables":{}}', repeat('0', 44), c.at, c.at, c.at + c.seconds * interval '1 second' FROM new_calls c ORDER BY c.id`,
		`INSERT INTO conversation_history (tenant_id, conversation_id, revision, status, state_hash, entered, written_at, no_input)
			SELECT current_tenant(), c.id, r, 'active', repeat('0', 44), CASE r WHEN 1 THEN ARRAY['greeting', 'ask'] ELSE ARRAY['n' || c.n % 12] END,
				c.at + r * interval '10 seconds', CASE WHEN r = 2 AND c.n % 9 = 0 THEN 'ask' ELSE '' END
			FROM new_calls c, generate_series(1, 2) r ORDER BY c.id`)
	w.calls = calls
	w.run(t, `SET maintenance_work_mem = '256MB'`,
		`DO $$ DECLARE x record; BEGIN FOR x IN SELECT definition FROM seed_indexes LOOP EXECUTE x.definition; END LOOP; END $$`, `DROP TABLE seed_indexes`,
		`VACUUM ANALYZE calls, turns, usage_entries, conversations, conversation_history`)
	w.count(t, days, 3)
}

// count counts the figures of the last days as the roll-up does. Those of the
// other days are copies, as days are alike: to count all takes long.
func (w *callTown) count(t testing.TB, days, counted int) {
	t.Helper()
	w.run(t, `TRUNCATE call_figures, node_figures, figure_sums, figure_spans, figure_marks`, fmt.Sprintf(`
		DO $$
		DECLARE
			ids uuid[];
			since timestamptz;
		BEGIN
			SET LOCAL ROLE parley_app;
			FOR day IN 1..%[2]d LOOP
				since := date_trunc('day', now(), 'UTC') - day * interval '1 day';
				SELECT array_agg(id) INTO ids FROM calls WHERE tenant_id = current_tenant() AND started_at >= since AND started_at < since + interval '1 day';
				INSERT INTO call_figures SELECT * FROM count_calls(ids);
				INSERT INTO node_figures SELECT * FROM count_nodes(ids);
				PERFORM open_spans(since + h * interval '1 hour') FROM generate_series(0, 23) h;
				PERFORM sum_figures(1, since + h * interval '1 hour') FROM generate_series(0, 23) h;
				PERFORM sum_figures(24, since);
			END LOOP;
			FOR day IN 1..%[1]d - 1 LOOP
				CONTINUE WHEN day %% %[2]d <> 0;
				INSERT INTO call_figures SELECT (jsonb_populate_record(f, jsonb_build_object('slot', f.slot - day * interval '1 day'))).* FROM call_figures f
					WHERE f.slot >= date_trunc('day', now(), 'UTC') - %[2]d * interval '1 day';
				INSERT INTO node_figures SELECT (jsonb_populate_record(f, jsonb_build_object('slot', f.slot - day * interval '1 day'))).* FROM node_figures f
					WHERE f.slot >= date_trunc('day', now(), 'UTC') - %[2]d * interval '1 day';
				INSERT INTO figure_sums SELECT (jsonb_populate_record(f, jsonb_build_object('start', f.start - day * interval '1 day'))).* FROM figure_sums f
					WHERE f.start >= date_trunc('day', now(), 'UTC') - %[2]d * interval '1 day';
				INSERT INTO figure_spans SELECT (jsonb_populate_record(f, jsonb_build_object('start', f.start - day * interval '1 day'))).* FROM figure_spans f
					WHERE f.start >= date_trunc('day', now(), 'UTC') - %[2]d * interval '1 day';
			END LOOP;
		END $$`, days, counted),
		`VACUUM ANALYZE call_figures, node_figures, figure_sums, figure_spans`, `CHECKPOINT`)
}

// openCalls opens a store of the town's own, in front of the same database.
func (w *callTown) openCalls(t testing.TB) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), w.db.AppURL, postgres.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
