package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
)

// A key is found by the index of prefixes, by the role that runs, however many
// there are.
func TestKeysAreFoundByIndex(t *testing.T) {
	db := server.New(t)
	a := seed(t, db, "a")
	super, app := dial(t, db.SuperURL), dial(t, db.AppURL)
	fill(t, super, a.tenant, 5000)
	for name, q := range map[string]string{
		"find":   `SELECT * FROM api_keys WHERE prefix = 'fill7'`,
		"locate": `SELECT tenant_id, id FROM api_keys WHERE prefix = 'fill7'`,
	} {
		b := new(pgx.Batch)
		b.Queue(`SELECT set_config('app.tenant', $1, true)`, a.tenant.String())
		b.Queue("EXPLAIN " + q)
		r := app.SendBatch(t.Context(), b)
		_, _ = r.Exec()
		rows, err := r.Query()
		if err != nil {
			t.Fatal(err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		_ = r.Close()
		if text := strings.Join(plan, "\n"); err != nil || !strings.Contains(text, "Index Scan using api_keys_prefix_key") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// fill adds n keys of a tenant.
func fill(t testing.TB, super *pgx.Conn, tenant uuid.UUID, n int) {
	t.Helper()
	const q = `
		INSERT INTO api_keys (id, tenant_id, name, prefix, hash, scopes)
		SELECT gen_random_uuid(), $1, 'k', 'fill' || i, sha256(i::text::bytea), '{agents.read}' FROM generate_series(1, $2) i`
	for _, s := range []string{`SET session_replication_role = replica`, `SET synchronous_commit = off`} { // no audit of these
		if _, err := super.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := super.Exec(t.Context(), q, tenant, n); err != nil {
		t.Fatal(err)
	}
	if _, err := super.Exec(t.Context(), `ANALYZE api_keys`); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkKeyCheck is a key's whole check, by four at once, among n keys.
func BenchmarkKeyCheck(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db := server.New(b)
			a := seed(b, db, "a")
			super, err := pgx.Connect(b.Context(), db.SuperURL)
			if err != nil {
				b.Fatal(err)
			}
			defer super.Close(b.Context())
			fill(b, super, a.tenant, n)
			ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
			if err != nil {
				b.Fatal(err)
			}
			s, err := postgres.Open(b.Context(), db.AppURL, postgres.Options{MaxConns: 8})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			keys := &identity.Keys{Store: s, Ring: ring}
			secrets := make([]string, 200)
			for i := range secrets {
				if _, secrets[i], err = keys.Create(a.ctx, identity.Key{Name: "k", Scopes: []control.Permission{control.AgentsRead}}); err != nil {
					b.Fatal(err)
				}
			}
			times := make(chan []time.Duration, 64)
			b.SetParallelism(2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				var took []time.Duration
				for i := 0; pb.Next(); i++ {
					began := time.Now()
					if _, err := keys.Verify(b.Context(), secrets[i%len(secrets)], identity.Visit{}); err != nil {
						b.Error(err)
						return
					}
					took = append(took, time.Since(began))
				}
				times <- took
			})
			b.StopTimer()
			close(times)
			var all []time.Duration
			for t := range times {
				all = append(all, t...)
			}
			slices.Sort(all)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checks/s")
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
		})
	}
}
