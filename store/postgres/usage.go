package postgres

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent"
	"parley/control"
)

var _ control.UsageStore = (*Store)(nil)

const priceColumns = `id, kind, vendor, model, currency, micros, per, increment, valid_from`

func scanPrice(r pgx.CollectableRow) (control.Price, error) {
	var p control.Price
	err := r.Scan(&p.ID, &p.Kind, &p.Vendor, &p.Model, &p.Currency, &p.Micros, &p.Per, &p.Increment, &p.ValidFrom)
	p.ValidFrom = p.ValidFrom.UTC()
	return p, err
}

// InsertPrice implements [control.UsageStore].
func (s *Store) InsertPrice(ctx context.Context, p control.Price) error {
	const q = `INSERT INTO prices (tenant_id, ` + priceColumns + `) VALUES (current_tenant(), $1, $2, $3, $4, $5, $6, $7, $8, $9)`
	if _, err := exec(ctx, s, q, p.ID, p.Kind, p.Vendor, p.Model, p.Currency, p.Micros, p.Per, p.Increment, p.ValidFrom); err != nil {
		return fmt.Errorf("add a price: %w", err)
	}
	return nil
}

// OwnPrices implements [control.UsageStore].
func (s *Store) OwnPrices(ctx context.Context, p control.Page) ([]control.Price, error) {
	return rows(ctx, s, scanPrice, `SELECT `+priceColumns+` FROM prices WHERE tenant_id = current_tenant()
		AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2`, after(p), limit(p))
}

// priced completes entries with the prices of their time. The tenant's own are
// read anew each time, but only where there is something to price.
func (s *Store) priced(ctx context.Context, entries []control.UsageEntry) ([]control.UsageEntry, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	var kinds []string
	for _, e := range entries {
		kinds = append(kinds, e.Kind)
	}
	own, err := rows(ctx, s, scanPrice, `SELECT `+priceColumns+` FROM prices WHERE tenant_id = current_tenant() AND kind = ANY($1)`, kinds)
	if err != nil {
		return nil, fmt.Errorf("read prices: %w", err)
	}
	out := make([]control.UsageEntry, len(entries))
	for i, e := range entries {
		out[i] = e.Priced(own, s.prices)
	}
	return out, nil
}

// queueUsage writes entries of a call; the call's agent is read from its row. An
// entry that is there already stays as it is, but for one of the call as a whole,
// which grows with it.
func queueUsage(b *pgx.Batch, call uuid.UUID, entries []control.UsageEntry) {
	const q = `
		INSERT INTO usage_entries (tenant_id, call_id, generation, turn, kind, vendor, model, agent_id, amount, estimated, currency, micros, price, at)
		SELECT current_tenant(), id, $2, $3, $4, $5, $6, agent_id, $7, $8, $9, $10, $11, $12 FROM calls WHERE id = $1
		ON CONFLICT (tenant_id, call_id, generation, turn, kind, vendor, model) DO UPDATE
		SET amount = excluded.amount, currency = excluded.currency, micros = excluded.micros, price = excluded.price
		WHERE usage_entries.generation = 0 AND usage_entries.amount < excluded.amount`
	for _, e := range entries {
		b.Queue(q, call, e.Generation, e.Turn, e.Kind, e.Vendor, e.Model, e.Amount, e.Estimated,
			e.Cost.Currency, e.Cost.Micros, e.Price, e.At)
	}
}

// usesOf are the entries of what vendors did under a hold.
func usesOf(h control.Hold, turn int, uses []agent.Use, at time.Time) []control.UsageEntry {
	out := make([]control.UsageEntry, 0, len(uses))
	for _, u := range uses {
		out = append(out, control.UsageEntry{Use: u, Call: h.Call, Generation: h.Generation, Turn: turn, At: at})
	}
	return out
}

// WriteUsage implements [control.RecordStore].
func (s *Store) WriteUsage(ctx context.Context, h control.Hold, turn int, uses []agent.Use, at time.Time) error {
	entries, err := s.priced(ctx, usesOf(h, turn, uses, at))
	if err != nil || len(entries) == 0 {
		return err
	}
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	queueUsage(b, h.Call, entries)
	if err := s.send(ctx, b); err != nil {
		return fmt.Errorf("write what was used: %w", err)
	}
	return nil
}

func scanMoney(r pgx.CollectableRow) (control.Money, error) {
	return pgx.RowToStructByPos[control.Money](r)
}

// Spent implements [control.UsageStore].
func (s *Store) Spent(ctx context.Context, from, to time.Time) ([]control.Money, error) {
	return rows(ctx, s, scanMoney, `SELECT currency, sum(micros)::bigint FROM usage_entries
		WHERE tenant_id = current_tenant() AND at >= $1 AND at < $2 AND currency <> '' GROUP BY 1 ORDER BY 1`, from, to)
}

// CallCosts implements [control.UsageStore].
func (s *Store) CallCosts(ctx context.Context, calls []uuid.UUID) (map[uuid.UUID][]control.Money, error) {
	costs := map[uuid.UUID][]control.Money{}
	_, err := rows(ctx, s, func(r pgx.CollectableRow) (_ struct{}, err error) {
		var id uuid.UUID
		var m control.Money
		err = r.Scan(&id, &m.Currency, &m.Micros)
		costs[id] = append(costs[id], m)
		return struct{}{}, err
	}, `SELECT call_id, currency, sum(micros)::bigint FROM usage_entries
		WHERE tenant_id = current_tenant() AND call_id = ANY($1) AND currency <> '' GROUP BY 1, 2 ORDER BY 1, 2`, calls)
	return costs, err
}

// CallUsage implements [control.UsageStore].
func (s *Store) CallUsage(ctx context.Context, call uuid.UUID) ([]control.UsageEntry, error) {
	return rows(ctx, s, func(r pgx.CollectableRow) (e control.UsageEntry, err error) {
		err = r.Scan(&e.Call, &e.Generation, &e.Turn, &e.Kind, &e.Vendor, &e.Model, &e.Agent, &e.Amount, &e.Estimated,
			&e.Cost.Currency, &e.Cost.Micros, &e.Price, &e.At)
		e.At = e.At.UTC()
		return e, err
	}, `SELECT call_id, generation, turn, kind, vendor, model, agent_id, amount, estimated, currency, micros, price, at
		FROM usage_entries WHERE tenant_id = current_tenant() AND call_id = $1 ORDER BY at, generation, turn, kind, vendor, model`, call)
}

// Usage implements [control.UsageStore]. Its columns are ours: nothing of the
// request's text stands in the query.
func (s *Store) Usage(ctx context.Context, u control.UsageQuery) ([]control.UsageRow, error) {
	cols := map[string]string{"day": "NULL::timestamptz", "agent": "'00000000-0000-0000-0000-000000000000'::uuid",
		"vendor": "''::text", "model": "''::text", "kind": "''::text"}
	amount, key := "0::bigint", []string{}
	for _, by := range u.By {
		switch by {
		case control.UsageByDay:
			cols["day"] = "date_trunc('day', at, 'UTC')"
			key = append(key, "to_char(date_trunc('day', at, 'UTC') AT TIME ZONE 'UTC', 'YYYY-MM-DD')")
		case control.UsageByAgent:
			cols["agent"] = "agent_id"
			key = append(key, "agent_id::text")
		case control.UsageByVendor:
			cols["vendor"], cols["model"] = "vendor", "model"
			key = append(key, "vendor", "model")
		case control.UsageByKind:
			cols["kind"], amount = "kind", "sum(amount)::bigint"
			key = append(key, "kind")
		}
	}
	key = append(key, "currency")
	k := "concat_ws('|', " + strings.Join(key, ", ") + ") COLLATE \"C\""
	q := `SELECT ` + cols["day"] + `, ` + cols["agent"] + `, ` + cols["vendor"] + `, ` + cols["model"] + `, ` + cols["kind"] + `, ` +
		amount + `, count(*), currency, sum(micros)::bigint, ` + k + `
		FROM usage_entries WHERE tenant_id = current_tenant() AND at >= $1 AND at < $2
		  AND ($3::uuid IS NULL OR agent_id = $3) AND ($4 = '' OR vendor = $4) AND ($5 = '' OR ` + k + ` > $5)
		GROUP BY 1, 2, 3, 4, 5, 8, 10 ORDER BY 10 LIMIT $6`
	return rows(ctx, s, func(r pgx.CollectableRow) (row control.UsageRow, err error) {
		var day *time.Time
		err = r.Scan(&day, &row.Agent, &row.Vendor, &row.Model, &row.Kind, &row.Amount, &row.Entries, &row.Cost.Currency, &row.Cost.Micros, &row.Key)
		row.Day = orZero(day)
		return row, err
	}, q, u.From, u.To, nullable(u.Agent), u.Vendor, u.After, min(cmp.Or(u.Limit, 50), 1000))
}
