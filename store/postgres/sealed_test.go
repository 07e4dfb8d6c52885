package postgres_test

import (
	"bytes"
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

	"parley/agent"
	"parley/control"
	"parley/control/seal"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

// canary is what a caller says in these tests.
const canary = "canary-7f3a"

// clearColumns are those that may hold what a caller said, as docs/encryption.md
// has them.
var clearColumns = []string{"conversations.state"}

// sealing has a tenant's store seal with keys of its own ring.
func sealing(t testing.TB, s *postgres.Store) *control.DataKeys {
	t.Helper()
	ring, err := control.NewKeyring(bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	k := &control.DataKeys{Store: s, Provider: control.LocalKeys{Ring: ring}}
	s.SealWith(k)
	s.KeysChanged(k.Forget)
	return k
}

// says writes the canary everywhere a caller's words go, at a revision.
func (v tenancy) says(t testing.TB, n int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	said := json.RawMessage(`{"text":"` + canary + `"}`)
	must(v.store.WriteTurn(v.ctx, control.Hold{Call: v.call}, agent.Turn{Index: n, Speaker: "caller", Generated: canary, Sent: canary, Heard: canary}, time.Now()))
	must(v.store.WriteCommit(v.ctx, control.Hold{Call: v.call}, control.Conversation{ID: v.call, Call: v.call}, control.Revision{
		Entry: control.Entry{Revision: n, Status: "active", Hash: fmt.Sprintf("%044d", 0), Event: said,
			Messages: json.RawMessage(`["` + canary + `"]`), Trace: json.RawMessage(`["` + canary + `"]`), Base: said},
		State: said,
		Events: []control.Reported{{Type: "told", Data: said},
			{Type: "goal", Data: json.RawMessage(`{"goal":"bought","value":"` + canary + `"}`)}},
	}))
	must(v.store.PutCallEvent(v.ctx, control.CallEvent{Call: v.call, Event: "paid", Data: said}))
}

// dump returns the columns of all tables that hold a text, as the superuser.
func dump(t *testing.T, db postgrestest.Database, text string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.SuperURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	columns := list(t, conn, `
		SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped`)
	var held []string
	for _, name := range columns {
		table, column, _ := strings.Cut(name, ".")
		var n int
		// Bytes are looked through as they print, and as the text they may be.
		q := fmt.Sprintf(`SELECT count(*) FROM %[1]s WHERE %[2]s::text LIKE '%%' || $1 || '%%' OR %[2]s::text LIKE '%%' || encode($1::bytea, 'hex') || '%%'
			OR %[2]s::text LIKE '%%' || encode($1::bytea, 'base64') || '%%'`, pgx.Identifier{table}.Sanitize(), pgx.Identifier{column}.Sanitize())
		if err := conn.QueryRow(t.Context(), q, text).Scan(&n); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n > 0 {
			held = append(held, name)
		}
	}
	slices.Sort(held)
	return held
}

// reads returns all that can be read of what was said.
func (v tenancy) reads(t testing.TB) (all []string, err error) {
	t.Helper()
	turns, err := v.store.Turns(v.ctx, v.call, 0, 10)
	for _, u := range turns {
		all = append(all, u.Generated, u.Sent, u.Heard)
	}
	history, err2 := v.store.History(v.ctx, v.call, 1, 10)
	for _, e := range history {
		all = append(all, string(e.Event), string(e.Messages), string(e.Trace), string(e.Base))
	}
	events, err3 := v.store.SessionEvents(v.ctx, v.call, 0, 100)
	for _, e := range events {
		if e.Type == "told" || e.Type == "goal" {
			all = append(all, string(e.Data))
		}
	}
	return all, errors.Join(err, err2, err3)
}

func TestWhatIsSaidIsSealed(t *testing.T) {
	db := server.New(t)
	v := seed(t, db, "a")
	k := sealing(t, v.store)
	v.says(t, 2)
	if got := dump(t, db, canary); !slices.Equal(got, clearColumns) {
		t.Errorf("a dump has the canary in %v, want %v", got, clearColumns)
	}
	check := func(what string) {
		t.Helper()
		all, err := v.reads(t)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(all) != 9 { // a turn, an entry, two events
			t.Errorf("%s: %d texts, want 9: %q", what, len(all), all)
		}
		for _, s := range all {
			if !strings.Contains(s, canary) || strings.Contains(s, "$sealed") {
				t.Errorf("%s: %q is not what was said", what, s)
			}
		}
	}
	check("at once")
	if _, err := k.Rotate(v.ctx); err != nil {
		t.Fatal(err)
	}
	check("after a rotation")
	k.Forget()
	check("after a restart")

	if events, _, err := v.store.Events(v.ctx, control.EventFilter{Types: []string{"told"}}, 0, 100); err != nil || len(events) != 0 {
		t.Errorf("unpublished events: %v, %v", events, err)
	}
	if _, err := v.store.PublishEvents(v.ctx, 100); err != nil {
		t.Fatal(err)
	}
	events, _, err := v.store.Events(v.ctx, control.EventFilter{Types: []string{"told"}}, 0, 100)
	if err != nil || len(events) != 1 || string(events[0].Data) != `{"text":"`+canary+`"}` {
		t.Errorf("the stream: %+v, %v", events, err)
	}
	inbox, err := v.store.TakeCallEvents(v.ctx, []uuid.UUID{v.call})
	if err != nil || len(inbox) != 2 || string(inbox[1].Data) != `{"text":"`+canary+`"}` || inbox[0].Data != nil {
		t.Errorf("the inbox: %+v, %v", inbox, err)
	}
	if again, err := v.store.TakeCallEvents(v.ctx, []uuid.UUID{v.call}); len(again) != 0 || err != nil {
		t.Errorf("the inbox again: %+v, %v", again, err)
	}
	if arms, err := v.store.CountContent(v.ctx, uuid.New(), "bought"); err != nil || len(arms) != 0 {
		t.Errorf("figures: %v, %v", arms, err)
	}
	conn := dial(t, db.SuperURL)
	if got := list(t, conn, `SELECT subject FROM events WHERE type = 'goal'`); !slices.Equal(got, []string{"bought"}) {
		t.Errorf("goals by their subject: %q", got)
	}
}

// Rows from before there were keys are read, and sealed when somebody asks.
func TestClearRowsAreSealedLater(t *testing.T) {
	db := server.New(t)
	v := seed(t, db, "a")
	v.says(t, 2)
	if _, err := v.store.TakeCallEvents(v.ctx, []uuid.UUID{v.call}); err != nil { // a moment later, as in life
		t.Fatal(err)
	}
	before, err := v.reads(t)
	if err != nil {
		t.Fatal(err)
	}
	k := sealing(t, v.store)
	if got, err := v.reads(t); err != nil || !slices.Equal(got, before) {
		t.Errorf("in clear, with keys: %q, %v", got, err)
	}
	// The turns and entries of the seed, and of says, and its two events.
	if n, err := k.Store.SealClear(v.ctx); err != nil || n != 5 {
		t.Errorf("sealed %d, %v, want 5", n, err)
	}
	v.says(t, 3)
	if n, err := k.Store.SealClear(v.ctx); err != nil || n != 0 {
		t.Errorf("sealed %d more, %v", n, err)
	}
	if got := dump(t, db, canary); !slices.Equal(got, []string{"conversations.state"}) {
		t.Errorf("a dump has the canary in %v", got)
	}
	if got, err := v.reads(t); err != nil || !slices.Equal(got[:3], before[:3]) {
		t.Errorf("sealed: %q, %v, want %q", got, err, before)
	}
}

// Nothing can be recovered once the keys are destroyed, whatever stood sealed or
// in clear; another tenant is not touched.
func TestShred(t *testing.T) {
	db := server.New(t)
	v, other := seed(t, db, "a"), seed(t, db, "b")
	v.says(t, 2) // in clear, from before
	k := sealing(t, v.store)
	other.store = v.store
	v.says(t, 3)
	other.says(t, 2)
	copied := list(t, dial(t, db.SuperURL), `SELECT encode(sealed, 'hex') FROM turns WHERE sealed IS NOT NULL AND call_id = '`+v.call.String()+`'`)
	var files tenantFiles
	done, err := k.Shred(v.ctx, &files)
	if err != nil || done.Keys != 1 || files.deleted != v.tenant {
		t.Fatalf("%+v, %v, files of %s", done, err, files.deleted)
	}
	conn := dial(t, db.SuperURL)
	if _, err := conn.Exec(t.Context(), `DELETE FROM conversations WHERE tenant_id = $1`, other.tenant); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, db, canary); len(got) != 0 {
		t.Errorf("a dump has the canary in %v", got)
	}
	if _, err := v.store.Turns(v.ctx, v.call, 2, 10); !errors.Is(err, control.ErrErased) {
		t.Errorf("turns: %v, want ErrErased", err)
	}
	if _, err := v.store.History(v.ctx, v.call, 2, 10); !errors.Is(err, control.ErrErased) {
		t.Errorf("history: %v, want ErrErased", err)
	}
	events, err := v.store.SessionEvents(v.ctx, v.call, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == "told" && string(e.Data) != `{"erased":true}` && string(e.Data) != `{}` {
			t.Errorf("an event says %s", e.Data)
		}
	}
	if c, err := v.store.Conversation(v.ctx, v.call); err != nil || string(c.State) != "{}" || c.Status == "active" {
		t.Errorf("the conversation is %s and remembers %s, %v", c.Status, c.State, err)
	}
	if turns, err := other.store.Turns(other.ctx, other.call, 0, 10); err != nil || len(turns) != 1 || turns[0].Heard != canary {
		t.Errorf("the other tenant's turns: %+v, %v", turns, err)
	}
	for _, wrapped := range list(t, conn, `SELECT coalesce(encode(wrapped, 'hex'), '') FROM data_keys WHERE tenant_id = '`+v.tenant.String()+`'`) {
		if wrapped != "" {
			t.Error("a wrapped key is left")
		}
	}
	if len(copied) != 1 {
		t.Errorf("%d sealed turns, want 1", len(copied))
	}
	audit := list(t, conn, `SELECT action FROM audit WHERE tenant_id = '`+v.tenant.String()+`' AND action LIKE 'data_key.%' ORDER BY seq`)
	if want := []string{"data_key.create", "data_key.destroy"}; !slices.Equal(audit, want) {
		t.Errorf("the audit trail has %q", audit)
	}
}

type tenantFiles struct{ deleted uuid.UUID }

func (f *tenantFiles) DeleteTenant(_ context.Context, t uuid.UUID) error { f.deleted = t; return nil }

// A row that was moved, or altered, is not believed.
func TestSealedRowsStayWhereTheyAre(t *testing.T) {
	db := server.New(t)
	v := seed(t, db, "a")
	sealing(t, v.store)
	v.says(t, 2)
	v.says(t, 3)
	conn := dial(t, db.SuperURL)
	for _, q := range []string{
		`UPDATE turns SET sealed = (SELECT sealed FROM turns WHERE index = 2) WHERE index = 3`,
		`UPDATE conversation_history SET sealed = (SELECT sealed FROM conversation_history WHERE revision = 2) WHERE revision = 3`,
		`UPDATE events SET data = (SELECT data FROM events WHERE type = 'goal' LIMIT 1) WHERE type = 'told'`,
		`UPDATE call_inbox SET event = 'refunded'`,
	} {
		if _, err := conn.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.store.Turns(v.ctx, v.call, 2, 10); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a turn in another's place: %v", err)
	}
	if _, err := v.store.History(v.ctx, v.call, 2, 10); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("an entry in another's place: %v", err)
	}
	events, err := v.store.SessionEvents(v.ctx, v.call, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == "told" && string(e.Data) != `{"unreadable":true}` {
			t.Errorf("an event with another's data says %s", e.Data)
		}
	}
	inbox, err := v.store.TakeCallEvents(v.ctx, []uuid.UUID{v.call})
	if err != nil || len(inbox) != 1 { // the seed's, which has no data
		t.Errorf("the inbox: %+v, %v", inbox, err)
	}
}

// away is a sealer whose provider does not answer.
type away struct{ control.Sealer }

func (away) Seal(context.Context, string, []byte) ([]byte, error) {
	return nil, control.ErrUnavailable
}

func (away) Open(context.Context, string, []byte) ([]byte, error) {
	return nil, control.ErrUnavailable
}

// Without the key nothing is lost: what is written and read waits.
func TestWithoutTheKeyThingsWait(t *testing.T) {
	db := server.New(t)
	v := seed(t, db, "a")
	k := sealing(t, v.store)
	v.says(t, 2)
	if _, err := v.store.PublishEvents(v.ctx, 100); err != nil {
		t.Fatal(err)
	}
	queue := func(ctx context.Context, events []control.Event) error {
		for _, e := range events {
			if e.Type == "told" {
				return v.store.InsertDeliveries(ctx, []control.Delivery{{ID: uuid.New(), Webhook: v.webhook, Event: e}})
			}
		}
		return nil
	}
	v.store.SealWith(away{})
	if err := v.store.WriteTurn(v.ctx, control.Hold{Call: v.call}, agent.Turn{Index: 5, Speaker: "agent"}, time.Now()); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("a turn: %v", err)
	}
	if n, err := v.store.ReadEvents(v.ctx, "q", 100, queue); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("read %d events, %v", n, err)
	}
	v.store.SealWith(k)
	if _, err := v.store.ReadEvents(v.ctx, "q", 100, queue); err != nil {
		t.Fatal(err)
	}
	v.store.SealWith(away{})
	conn := dial(t, db.SuperURL)
	if _, err := conn.Exec(t.Context(), `DELETE FROM webhook_deliveries WHERE seq < 3`); err != nil { // the seed's
		t.Fatal(err)
	}
	if list, err := v.store.ClaimDeliveries(v.ctx, v.webhook, 10, time.Minute); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("claimed %d, %v", len(list), err)
	}
	if inbox, err := v.store.TakeCallEvents(v.ctx, []uuid.UUID{v.call}); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("took %d, %v", len(inbox), err)
	}
	v.store.SealWith(k)
	if _, err := conn.Exec(t.Context(), `UPDATE webhook_deliveries SET due_at = now()`); err != nil {
		t.Fatal(err)
	}
	claimed, err := v.store.ClaimDeliveries(v.ctx, v.webhook, 10, time.Minute)
	if err != nil || len(claimed) != 1 || claimed[0].Attempts != 1 || !strings.Contains(string(claimed[0].Event.Data), canary) {
		t.Errorf("claimed %+v, %v", claimed, err)
	}
	if inbox, err := v.store.TakeCallEvents(v.ctx, []uuid.UUID{v.call}); err != nil || len(inbox) != 2 {
		t.Errorf("took %d, %v, want 2", len(inbox), err)
	}
}
