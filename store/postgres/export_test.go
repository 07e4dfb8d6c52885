package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"parley/control"
)

// ShelvesOfTables returns, for each table that the shelves list, the columns
// that they name, in a test's own words: "" alone where none is.
func ShelvesOfTables() map[string][]string {
	named := map[string][]string{}
	for _, f := range shelves() {
		columns := append(append([]string{}, f.numbers...), f.users...)
		for _, c := range []string{f.session, f.age} {
			if c != "" {
				columns = append(columns, c)
			}
		}
		if len(columns) == 0 && f.why == "" {
			columns = []string{""}
		}
		named[f.table] = columns
	}
	return named
}

// DuePlanOf explains how a batch of what is due is picked; for tests outside.
func DuePlanOf(t *testing.T, ctx context.Context, s *Store, due control.Due) string {
	t.Helper()
	q, args := dueQuery(due, due.Before, 100)
	var plan []string
	err := s.keeping(ctx, true, func(tx pgx.Tx) error {
		r, err := tx.Query(ctx, "EXPLAIN "+q, args...)
		if err == nil {
			plan, err = pgx.CollectRows(r, pgx.RowTo[string])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "\n")
}
