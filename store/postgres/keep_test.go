package postgres_test

import (
	"slices"
	"testing"

	"parley/store/postgres"
)

// Every table of tenants is on the list of what is kept how long, with columns
// that there are; and nothing else is.
func TestShelvesOfEveryTable(t *testing.T) {
	super := dial(t, server.New(t).SuperURL)
	listed := postgres.ShelvesOfTables()
	there := list(t, super, `SELECT c.relname FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'tenant'
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1`)
	for _, table := range there {
		columns, ok := listed[table]
		if !ok {
			t.Errorf("%s is not on the list in shelf.go: say how long it is kept, and how it goes", table)
		}
		has := list(t, super, `SELECT attname FROM pg_attribute WHERE attrelid = 'public.`+table+`'::regclass AND attnum > 0 AND NOT attisdropped`)
		for _, c := range columns {
			if !slices.Contains(has, c) {
				t.Errorf("%s: the list in shelf.go names the column %q, which there is not", table, c)
			}
		}
	}
	for table := range listed {
		if !slices.Contains(there, table) {
			t.Errorf("%s is on the list in shelf.go and in no database", table)
		}
	}
	// What names a call or a person by its columns' names is not the tenant's own.
	for _, table := range list(t, super, `SELECT DISTINCT c.table_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
		WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.column_name IN ('call_id', 'session_id', 'conversation_id', 'caller', 'callee', 'phone', 'e164_from') ORDER BY 1`) {
		if columns, ok := listed[table]; ok && len(columns) == 0 && !slices.Contains([]string{"webhook_deliveries", "token_grants", "erasures", "legal_holds", "figures_kept"}, table) {
			t.Errorf("%s has a column of a call, and the list in shelf.go says that it stays", table)
		}
	}
}
