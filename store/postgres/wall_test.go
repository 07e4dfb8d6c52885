package postgres_test

import (
	"cmp"
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
	"parley/store/postgres/postgrestest"
)

// seedAll is seed, and a row in the tables that seed leaves empty.
func seedAll(t *testing.T, db postgrestest.Database, name string) tenancy {
	t.Helper()
	a := seed(t, db, name)
	seedFigures(t, db, a)
	v := control.Variant{ID: uuid.New(), Content: a.content(t, "a joke", nil).ID, Key: "k", Data: []byte(`{}`), CreatedAt: time.Now()}
	if err := a.store.InsertVariant(a.ctx, v, 20); err != nil {
		t.Fatal(err)
	}
	return a
}

// A wall is a table that row security guards, as the catalogue has it.
type wall struct {
	table   string
	owner   string   // SQL that is true of $1's rows
	columns []string // that can be written
	moves   string   // the column that says whose a row is; "" if another table does
}

// walls lists every table of the catalogue but those without a tenant, which
// Verify holds to its own list. Partitions are tables of their own.
func walls(t *testing.T, super *pgx.Conn) []wall {
	t.Helper()
	var all []wall
	for _, table := range list(t, super, `
		SELECT c.relname FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'tenant'
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1`) {
		w := wall{table: table, columns: list(t, super, `SELECT quote_ident(attname) FROM pg_attribute
			WHERE attrelid = 'public.`+table+`'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum`)}
		switch {
		case slices.Contains(w.columns, "tenant_id"):
			w.owner, w.moves = "tenant_id = $1", "tenant_id"
		case table == "tenants":
			w.owner, w.moves = "id = $1", "id"
		case table == "pending_sign_ins": // nobody's yet: it shows to who holds its secret
			w.owner = "$1::uuid IS NOT NULL"
		case slices.Contains(w.columns, "user_id"): // a person's own, in whichever tenant
			w.owner = "user_id IN (SELECT user_id FROM memberships WHERE tenant_id = $1)"
		default: // users
			w.owner = "id IN (SELECT user_id FROM memberships WHERE tenant_id = $1)"
		}
		all = append(all, w)
	}
	return all
}

// asTenant runs a statement as parley_app in a transaction of its own, and
// returns how many rows it touched.
func asTenant(t *testing.T, app *pgx.Conn, tenant, sql string, args ...any) (int64, error) {
	t.Helper()
	tx, err := app.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `SELECT set_config('app.tenant', $1, true)`, tenant); err != nil {
		t.Fatal(err)
	}
	tag, err := tx.Exec(t.Context(), sql, args...)
	if err == nil {
		_, err = tx.Exec(t.Context(), `SET CONSTRAINTS ALL IMMEDIATE`)
	}
	return tag.RowsAffected(), err
}

// refused reports whether the database said no for want of a right.
func refused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501" // insufficient_privilege: of row security too
}

// A query outside of a tenant sees nothing and writes nothing, in every table.
func TestNoTenantNoRows(t *testing.T) {
	db := server.New(t)
	super, app := dial(t, db.SuperURL), dial(t, db.AppURL)
	a := seedAll(t, db, "a")
	for _, w := range walls(t, super) {
		var all, seen int
		if err := super.QueryRow(t.Context(), "SELECT count(*) FROM "+w.table).Scan(&all); err != nil {
			t.Fatal(err)
		}
		err := app.QueryRow(t.Context(), "SELECT count(*) FROM "+w.table).Scan(&seen)
		if all == 0 || seen != 0 || err != nil && !refused(err) {
			t.Errorf("%s: %d rows, %d seen without a tenant, %v; every table needs a seeded row", w.table, all, seen, err)
		}
		w.untouched(t, super, app, "", a.tenant)
	}
}

// No tenant reads, adds, changes, takes, gives away or deletes a row of another,
// in any table of the catalogue, partitions too.
func TestWallsOfEveryTable(t *testing.T) {
	db := server.New(t)
	super, app := dial(t, db.SuperURL), dial(t, db.AppURL)
	a, b := seedAll(t, db, "a"), seedAll(t, db, "b")
	for _, w := range walls(t, super) {
		for _, v := range []tenancy{a, b} {
			var n int
			if err := super.QueryRow(t.Context(), "SELECT count(*) FROM "+w.table+" WHERE "+w.owner, v.tenant).Scan(&n); err != nil || n == 0 {
				t.Errorf("%s: no row of a tenant is seeded (%v)", w.table, err)
			}
		}
		w.untouched(t, super, app, b.tenant.String(), a.tenant)
	}
}

// untouched holds that as (a tenant's id, or "" for none) cannot reach owner's rows.
func (w wall) untouched(t *testing.T, super, app *pgx.Conn, as string, owner uuid.UUID) {
	t.Helper()
	var row string
	var id [2]string // of one of owner's rows
	if err := super.QueryRow(t.Context(), "SELECT to_jsonb(r)::text, r.ctid::text, r.tableoid::regclass::text FROM "+w.table+" r WHERE "+w.owner+" LIMIT 1", owner).Scan(&row, &id[0], &id[1]); err != nil {
		t.Errorf("%s: %v", w.table, err)
		return
	}
	column := cmp.Or(w.moves, w.columns[0])
	columns := strings.Join(w.columns, ", ")
	this := fmt.Sprintf("ctid = '%s' AND tableoid = '%s'::regclass", id[0], id[1])
	for what, sql := range map[string]string{
		"read":   "SELECT * FROM " + w.table + " WHERE " + this,
		"change": "UPDATE " + w.table + " SET " + column + " = " + column + " WHERE " + this,
		"delete": "DELETE FROM " + w.table + " WHERE " + this,
		"lock":   "SELECT * FROM " + w.table + " WHERE " + this + " FOR UPDATE",
	} {
		if n, err := asTenant(t, app, as, sql); n != 0 || err != nil && !refused(err) {
			t.Errorf("%s: %q can %s %d rows of another tenant (%v)", w.table, as, what, n, err)
		}
	}
	if w.moves == "" { // whose it is stands elsewhere, and a new row is nobody's yet
		return
	}
	add := "INSERT INTO " + w.table + " (" + columns + ") OVERRIDING SYSTEM VALUE SELECT " + columns +
		" FROM jsonb_populate_record(NULL::" + w.table + ", $1::jsonb)"
	if n, err := asTenant(t, app, as, add, row); !refused(err) {
		t.Errorf("%s: %q adds %d rows for another tenant (%v)", w.table, as, n, err)
	}
	if as == "" {
		return
	}
	give := "UPDATE " + w.table + " SET " + w.moves + " = '" + owner.String() + "' WHERE " + w.moves + " = '" + as + "'"
	if n, err := asTenant(t, app, as, give); !refused(err) {
		t.Errorf("%s: %q gives %d rows to another tenant (%v)", w.table, as, n, err)
	}
}
