package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
)

func (v tenancy) find(t testing.TB, text string) []control.Found {
	t.Helper()
	q, err := control.ParseWordQuery(text)
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.store.SearchCalls(v.ctx, q, control.Page{Limit: 10})
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return got
}

// Calls are found by what was said in them, sealed or not, over a change of the
// key; and nobody finds another's.
func TestSearchCalls(t *testing.T) {
	db := server.New(t)
	a, b := seed(t, db, "a"), seed(t, db, "b")
	write := func(n int, turn agent.Turn) {
		t.Helper()
		turn.Index = n
		if err := a.store.WriteTurn(a.ctx, control.Hold{Call: a.call}, turn, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	keys := sealing(t, a.store)
	write(10, agent.Turn{Speaker: "caller", Heard: "My order number is forty two, and I don't like it."})
	if _, err := keys.Rotate(a.ctx); err != nil {
		t.Fatal(err)
	}
	write(11, agent.Turn{Speaker: "agent", Generated: "Your parcel left yesterday from Ärlöv.", Sent: "Your parcel left", Heard: "Your parcel"})
	for text, want := range map[string]string{
		"number order": "order number", `"order number"`: "order number", "DON'T": "don't", "parcel ärlöv": "parcel", "yesterday": "yesterday",
		`"number order"`: "", "order -forty": "", "parcel order": "", "nothing": "", `"it your"`: "",
	} {
		got := a.find(t, text)
		if (len(got) == 1) != (want != "") {
			t.Errorf("%s: %d calls", text, len(got))
			continue
		}
		if want != "" && (len(got[0].Snippets) != 1 || !strings.Contains(got[0].Snippets[0].Text, want)) {
			t.Errorf("%s: snippets %+v", text, got[0].Snippets)
		}
	}
	if got := b.find(t, "order"); len(got) != 0 {
		t.Errorf("another tenant's: %v", got)
	}
	if got := dump(t, db, "parcel"); len(got) != 0 {
		t.Errorf("a dump has a word in %v", got)
	}
	if _, err := a.store.DestroyDataKeys(a.ctx, uuid.Nil); err != nil {
		t.Fatal(err)
	}
	if got := a.find(t, "order"); len(got) != 0 {
		t.Errorf("with its key destroyed: %v", got)
	}
	if _, err := a.store.EraseClear(a.ctx); err != nil {
		t.Fatal(err)
	}
	if left := list(t, dial(t, db.SuperURL), `SELECT words::text FROM turns WHERE words IS NOT NULL AND tenant_id = '`+a.tenant.String()+`'`); len(left) != 0 {
		t.Errorf("words are left: %v", left)
	}
}

// Whatever is typed, the database can read what is made of it.
func FuzzSearchCalls(f *testing.F) {
	db := server.New(f)
	a := seed(f, db, "a")
	for _, s := range []string{"a & b", `"x:* <-> y" -!z`, "don't ' \\ '' :", "\x00\xff a", "ﬁ’s İ ß"} {
		f.Add(s)
	}
	n := 100
	f.Fuzz(func(t *testing.T, text string) {
		n++
		ctx := control.WithTenant(context.Background(), a.tenant)
		if err := a.store.WriteTurn(ctx, control.Hold{Call: a.call}, agent.Turn{Index: n, Speaker: "caller", Heard: text}, time.Now()); err != nil {
			t.Fatalf("write %q: %v", text, err)
		}
		q, err := control.ParseWordQuery(text)
		if err != nil {
			return
		}
		if _, err := a.store.SearchCalls(ctx, q, control.Page{}); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// The search reads the index, as the application role, among rows of two
// tenants.
func TestSearchCallsByIndex(t *testing.T) {
	db := server.New(t)
	a, b := seed(t, db, "a"), seed(t, db, "b")
	super := dial(t, db.SuperURL)
	for _, v := range []tenancy{a, b} {
		_, err := super.Exec(t.Context(), `
			INSERT INTO turns (tenant_id, call_id, index, speaker, start_ms, end_ms, words)
			SELECT $1, $2, 1000 + i, 'caller', 0, 0, to_tsvector('simple', 'word' || i || ' common') FROM generate_series(1, 3000) i`, v.tenant, v.call)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := super.Exec(t.Context(), `VACUUM ANALYZE turns`); err != nil {
		t.Fatal(err)
	}
	plan := explained(t, db.SuperURL, a, `SELECT * FROM locate_calls_by_words('`+a.tenant.String()+`', 'word77', NULL, 50)`)
	if !strings.Contains(plan, "Bitmap Index Scan on turns_words") {
		t.Errorf("the index is not read:\n%s", plan)
	}
}
