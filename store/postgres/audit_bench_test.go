package postgres_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/control"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

// BenchmarkAudit is one entry's append, and the verification of a whole trail,
// among n entries of one tenant, on a server that keeps its word. Verify reports
// how fast they were sealed, too.
func BenchmarkAudit(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { auditAmong(b, n) })
	}
}

func auditAmong(b *testing.B, n int) {
	db := postgrestest.NewOwn(b).Database
	a := seed(b, db, "a")
	super := dial(b, db.SuperURL)
	for _, q := range []string{
		`DELETE FROM audit_seals`,                                                // the seed's is no seal
		`SET session_replication_role = replica`, `SET synchronous_commit = off`, // they number themselves
		`INSERT INTO audit (tenant_id, seq, at, actor, action, object, detail, request_id)
		 SELECT tenant_id, max(seq) + i, max(at), 'user:0192f0c1-2345-7000-8000-000000000001', 'flow.publish', 'flow:0192f0c1-2345-7000-8000-000000000002',
		        '{"number": 7, "environment": "live"}', 'f2970ac8fec96585' FROM audit, generate_series(1, ` + fmt.Sprint(n) + `) i
		 WHERE tenant_id = '` + a.tenant.String() + `' GROUP BY tenant_id, i`,
		`VACUUM ANALYZE audit`, `CHECKPOINT`,
	} {
		if _, err := super.Exec(b.Context(), q); err != nil {
			b.Fatalf("%s: %v", q, err)
		}
	}
	ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
	if err != nil {
		b.Fatal(err)
	}
	s, err := postgres.Open(b.Context(), db.AppURL, postgres.Options{MaxConns: 8})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	chain := control.NewAuditChain(ring)
	sealer := &control.AuditSealer{Store: s, Chain: chain, Log: slog.New(slog.DiscardHandler)}
	seal := func() {
		if err := sealer.Pass(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	began := time.Now()
	seal()
	sealed := float64(n) / time.Since(began).Seconds()
	b.Run("append", func(b *testing.B) {
		took := make([]time.Duration, 0, 1<<16)
		for b.Loop() {
			began := time.Now()
			if err := s.Note(a.ctx, control.AuditEntry{Action: "flow.publish", Object: "flow:1", Detail: []byte(`{"number":1}`)}); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	})
	seal()
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			r, err := (&control.AuditVerifier{Store: s, Chains: []*control.AuditChain{chain}}).Verify(b.Context())
			if err != nil || len(r.Findings) > 0 || r.Entries < int64(n) {
				b.Fatalf("%v, %d entries, %v", err, r.Entries, r.Findings)
			}
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		b.ReportMetric(sealed, "sealed/s")
	})
}
