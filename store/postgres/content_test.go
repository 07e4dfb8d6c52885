package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parley/control"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

func newContent(text string, change func(*control.Content)) control.Content {
	b, _ := json.Marshal(map[string]string{"text": text}) // texts
	c := control.Content{ID: uuid.Must(uuid.NewV7()), Type: "joke", Body: b, Tags: []string{}, Status: control.ContentPublished, Weight: 100, CreatedAt: time.Now().UTC()}
	if change != nil {
		change(&c)
	}
	return c
}

func (v tenancy) content(t *testing.T, text string, change func(*control.Content)) control.Content {
	t.Helper()
	c := newContent(text, change)
	if err := v.store.InsertContent(v.ctx, c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestContentIsWalledOff(t *testing.T) {
	db := server.New(t)
	a, b := seed(t, db, "a"), seed(t, db, "b")
	theirs := b.content(t, "a secret joke", nil)
	v := control.Variant{ID: uuid.New(), Content: theirs.ID, Key: "k", Data: []byte(`{}`), CreatedAt: time.Now()}
	if err := b.store.InsertVariant(b.ctx, v, 20); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"get":            second(a.store.Content(a.ctx, theirs.ID)),
		"update":         second(a.store.UpdateContent(a.ctx, theirs)),
		"variant":        second(a.store.Variant(a.ctx, theirs.ID, v.ID)),
		"insert-variant": a.store.InsertVariant(a.ctx, v, 20),
		"update-variant": second(a.store.UpdateVariant(a.ctx, v)),
		"delete-variant": a.store.DeleteVariant(a.ctx, theirs.ID, v.ID, 0),
	} {
		if !errors.Is(err, control.ErrNotFound) {
			t.Errorf("%s of another tenant: %v, want ErrNotFound", name, err)
		}
	}
	for name, f := range map[string]control.ContentFilter{"all": {}, "words": {Query: "secret"}, "type": {Type: "joke"}} {
		if got, err := a.store.ContentList(a.ctx, f); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := a.store.Published(a.ctx, []uuid.UUID{theirs.ID}); err != nil || len(got) != 0 {
		t.Errorf("published: %v, %v", got, err)
	}
	if got, err := a.store.Candidates(a.ctx, "joke", nil); err != nil || len(got) != 0 {
		t.Errorf("candidates: %v, %v", got, err)
	}
	// The function itself looks at no tenant but the caller's, whatever it is told.
	conn := dial(t, db.AppURL)
	for _, as := range []string{a.tenant.String(), ""} {
		if _, err := conn.Exec(t.Context(), `SELECT set_config('app.tenant', $1, false)`, as); err != nil {
			t.Fatal(err)
		}
		var n int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM search_content($1, 'secret', NULL, NULL, NULL, NULL, NULL, 10)`, b.tenant).Scan(&n)
		if err != nil || n != 0 {
			t.Errorf("search_content as %q finds %d of b, %v", as, n, err)
		}
	}
}

func TestSearchContent(t *testing.T) {
	a := seed(t, server.New(t), "a")
	tag := func(tags ...string) func(*control.Content) { return func(c *control.Content) { c.Tags = tags } }
	dogs := a.content(t, "Why do dogs chase cars?", tag("animals", "short"))
	cat := a.content(t, "The cat sat.", tag("animals"))
	draft := a.content(t, "A draft about dogs", func(c *control.Content) { c.Status, c.Locale = control.ContentDraft, "en-US" })
	german := a.content(t, "Die Häuser sind groß.", func(c *control.Content) { c.Type, c.Locale = "fact", "de-DE" })
	tests := []struct {
		name string
		f    control.ContentFilter
		want []control.Content
	}{
		{"none", control.ContentFilter{}, []control.Content{german, draft, cat, dogs}},
		{"stem", control.ContentFilter{Query: "dog chasing", Locale: ""}, nil}, // without a locale a text is not stemmed
		{"word", control.ContentFilter{Query: "dogs"}, []control.Content{draft, dogs}},
		{"phrase", control.ContentFilter{Query: `"chase cars"`}, []control.Content{dogs}},
		{"not", control.ContentFilter{Query: "dogs -draft"}, []control.Content{dogs}},
		{"or", control.ContentFilter{Query: "cat or cars"}, []control.Content{cat, dogs}},
		{"tag-as-word", control.ContentFilter{Query: "short"}, []control.Content{dogs}},
		{"language", control.ContentFilter{Query: "draft dog"}, []control.Content{draft}},
		{"german", control.ContentFilter{Query: "Haus", Locale: "de"}, []control.Content{german}},
		{"tags", control.ContentFilter{Tags: []string{"animals", "short"}}, []control.Content{dogs}},
		{"tag", control.ContentFilter{Tags: []string{"animals"}}, []control.Content{cat, dogs}},
		{"status", control.ContentFilter{Status: "draft"}, []control.Content{draft}},
		{"status-words", control.ContentFilter{Status: "published", Query: "dogs"}, []control.Content{dogs}},
		{"type", control.ContentFilter{Type: "fact"}, []control.Content{german}},
		{"type-words", control.ContentFilter{Type: "fact", Query: "dogs"}, nil},
		{"locale", control.ContentFilter{Locale: "en"}, []control.Content{draft}},
		{"page", control.ContentFilter{Page: control.Page{Limit: 1}, Query: "dogs"}, []control.Content{draft}},
		{"next-page", control.ContentFilter{Page: control.Page{Limit: 1, After: draft.ID}, Query: "dogs"}, []control.Content{dogs}},
		{"nonsense", control.ContentFilter{Query: `"& | ! ( :*`}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := a.store.ContentList(a.ctx, tt.f)
			same := slices.EqualFunc(got, tt.want, func(x, y control.Content) bool { return x.ID == y.ID })
			if err != nil || !same {
				t.Errorf("got %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestContentChanges(t *testing.T) {
	a := seed(t, server.New(t), "a")
	c := a.content(t, "one", nil)
	c.Revision, c.Locale = 1, "en"
	c, err := a.store.UpdateContent(a.ctx, c)
	if err != nil || c.Revision != 2 || c.Locale != "en" {
		t.Fatalf("%+v, %v", c, err)
	}
	c.Revision = 1
	if _, err := a.store.UpdateContent(a.ctx, c); !errors.Is(err, control.ErrConflict) {
		t.Errorf("an old revision: %v, want ErrConflict", err)
	}
	v := control.Variant{ID: uuid.New(), Content: c.ID, Key: "k", Data: []byte(`{"text":"two"}`), Weight: 7, Conditions: []byte(`"vip"`), CreatedAt: time.Now()}
	if err := a.store.InsertVariant(a.ctx, v, 1); err != nil {
		t.Fatal(err)
	}
	v.ID = uuid.New()
	if err := a.store.InsertVariant(a.ctx, v, 2); !errors.Is(err, control.ErrConflict) {
		t.Errorf("a key twice: %v, want ErrConflict", err)
	}
	if err := a.store.InsertVariant(a.ctx, v, 1); !errors.Is(err, control.ErrBusy) {
		t.Errorf("one too many: %v, want ErrBusy", err)
	}
	list, err := a.store.Published(a.ctx, []uuid.UUID{c.ID, uuid.New()})
	b, _ := json.Marshal(list)
	want := fmt.Sprintf(`[{"id":%q,"type":"joke","content":{"text":"one"},"weight":100,"variants":[{"variant_key":"k","weight":7,"variant_data":{"text":"two"},"conditions":"vip"}]}]`, c.ID)
	if err != nil || string(b) != want {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
}

// queries counts what a store sends. It implements pgx.BatchTracer.
type queries struct{ batches, statements int }

func (q *queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	q.statements++
	return ctx
}
func (q *queries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (q *queries) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	q.batches++
	return ctx
}
func (q *queries) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {
	q.statements++
}
func (q *queries) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// Any number of contents comes by one query, in one round trip.
func TestContentComesByOneQuery(t *testing.T) {
	db := server.New(t)
	a := seed(t, db, "a")
	var ids []string
	for i := range 20 {
		c := a.content(t, fmt.Sprint("joke ", i), nil)
		ids = append(ids, c.ID.String())
	}
	count := &queries{}
	s, err := postgres.Open(t.Context(), db.AppURL, postgres.Options{MaxConns: 1, Tracer: count})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	shelf := &control.Shelf{Store: s}
	for _, n := range []int{1, 5, 20} {
		*count = queries{}
		// The statement that sets the tenant, and the query.
		got, err := shelf.Contents(a.ctx, ids[:n])
		if err != nil || len(got) != n || count.batches != 1 || count.statements != 2 {
			t.Errorf("%d contents: got %d, %v, by %+v", n, len(got), err, *count)
		}
	}
	*count = queries{}
	if got, err := shelf.Contents(a.ctx, ids); err != nil || len(got) != 20 || *count != (queries{}) {
		t.Errorf("kept content: got %d, %v, by %+v", len(got), err, *count)
	}
}

// plans returns the plans of all statements, those within functions too, that
// a query takes as the application's role.
func plans(t *testing.T, db postgrestest.Database, tenant uuid.UUID, q string, args ...any) string {
	t.Helper()
	super := dial(t, db.SuperURL)
	for name, value := range map[string]string{"session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0",
		"auto_explain.log_nested_statements": "on", "auto_explain.log_level": "notice"} {
		if _, err := super.Exec(t.Context(), fmt.Sprintf(`ALTER DATABASE %s SET %s = '%s'`, db.Name, name, value)); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := pgx.ParseConfig(db.AppURL)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { out.WriteString(n.Message + "\n") }
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `SELECT set_config('app.tenant', $1, false)`, tenant.String()); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if _, err := conn.Exec(t.Context(), q, args...); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Searches use their indexes as the role that the program works as, whom row
// security binds.
func TestSearchUsesIndexes(t *testing.T) {
	db := server.New(t)
	a := seed(t, db, "a")
	super := dial(t, db.SuperURL)
	for _, q := range []string{
		`INSERT INTO tenants (id, name) SELECT gen_random_uuid(), 'other' FROM generate_series(1, 15)`,
		`INSERT INTO contents (id, tenant_id, type, body, tags, status)
		 SELECT gen_random_uuid(), t.id, 'joke', jsonb_build_object('text', 'word' || n || ' and common words'),
		        ARRAY['tag' || n % 100], 'published' FROM tenants t, generate_series(1, 500) n`,
		`INSERT INTO events (tenant_id, session_id, seq, type, flow_id, data)
		 SELECT '` + a.tenant.String() + `', gen_random_uuid(), 1, CASE n % 3 WHEN 0 THEN 'content_shown' WHEN 1 THEN 'experiment_arm' ELSE 'node_changed' END,
		        CASE n % 3 WHEN 1 THEN gen_random_uuid() END, jsonb_build_object('content_id', n % 500, 'experiment', 'x', 'arm', 'a', 'variant', 'base')
		 FROM generate_series(1, 6000) n`,
		`VACUUM ANALYZE contents, events`,
	} {
		if _, err := super.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, q, index string }{
		{"words", `SELECT * FROM search_content(current_tenant(), 'word77', NULL, NULL, NULL, NULL, NULL, 50)`, "contents_search"},
		{"tags", `SELECT * FROM search_content(current_tenant(), NULL, '{tag77}', 'joke', NULL, 'published', NULL, 50)`, "contents_search"},
		{"count-content", `SELECT data FROM events WHERE tenant_id = current_tenant() AND subject = '77' AND type IN ('content_shown', 'content_engaged')`, "events_content"},
		{"count-arms", `SELECT data FROM events WHERE tenant_id = current_tenant() AND flow_id = '` + a.flow.String() + `' AND type IN ('experiment_arm', 'experiment_engaged')`, "events_experiment"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := plans(t, db, a.tenant, tt.q)
			if !strings.Contains(got, tt.index) || strings.Contains(got, "Seq Scan") {
				t.Errorf("no use of %s:\n%s", tt.index, got)
			}
		})
	}
	t.Run("without-the-function", func(t *testing.T) { // or it would not be needed
		got := plans(t, db, a.tenant, `SELECT id FROM contents WHERE tenant_id = current_tenant() AND search @@ websearch_to_tsquery('simple', 'word77')`)
		if _, cond, _ := strings.Cut(got, "Index Cond:"); strings.Contains(strings.SplitN(cond, "\n", 2)[0], "@@") {
			t.Errorf("row security lets @@ use an index now: search_content is not needed\n%s", got)
		}
	})
}
