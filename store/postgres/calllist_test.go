package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

// planOf explains a list of calls.
func (s *Store) planOf(ctx context.Context, f control.CallFilter) (string, error) {
	q, args := callsQuery(f)
	return s.explain(ctx, q, args)
}

// FigurePlanOf explains a question for figures; for tests outside.
func FigurePlanOf(t *testing.T, ctx context.Context, s *Store, q control.FigureQuery) string {
	sql, args, err := figuresQuery(q)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := s.explain(ctx, sql, args)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// explain explains a query as the application role of ctx's tenant.
func (s *Store) explain(ctx context.Context, q string, args []any) (string, error) {
	var plan []string
	err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		r, err := tx.Query(ctx, "EXPLAIN "+q, args...)
		if err == nil {
			plan, err = pgx.CollectRows(r, pgx.RowTo[string])
		}
		return err
	})
	return strings.Join(plan, "\n"), err
}

// PlansOf explains the lists that operators ask for; for tests outside.
func PlansOf(t *testing.T, ctx context.Context, s *Store) map[string]string {
	yes, no := true, false
	plans := map[string]string{}
	for name, f := range map[string]control.CallFilter{
		"all": {}, "agent": {Agent: uuid.New()}, "active": {Status: "active"}, "in-progress": {Ended: &no}, "ended": {Ended: &yes},
		"from": {From: "+15550001"}, "from-prefix": {From: "+1555", FromPrefix: true}, "to": {To: "+15550001"},
		"to-prefix": {To: "+1555000", ToPrefix: true}, "number": {Number: "+15550001"}, "reason": {EndReason: "vendor"},
		"since": {StartedAfter: time.Now()}, "until": {StartedBefore: time.Now()}, "long": {MinTalk: time.Hour},
		"short": {MaxTalk: time.Second}, "transferred": {Transferred: &yes}, "recorded": {Recorded: &yes},
		"direction": {Direction: "outbound"}, "carrier": {Carrier: "webrtc"},
	} {
		plan, err := s.planOf(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		plans[name] = plan
	}
	return plans
}
