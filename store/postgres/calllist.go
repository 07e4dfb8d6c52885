package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// Calls implements [control.CallStore].
func (s *Store) Calls(ctx context.Context, f control.CallFilter) ([]control.Call, error) {
	q, args := callsQuery(f)
	return rows(ctx, s, scanCall, q, args...)
}

// idLag is by how much at most the time in a call's id is another than that of
// its start. Both are taken together, of the same clock.
const idLag = time.Hour

// idAt is the least id of version 7 (RFC 9562 section 5.7) of a millisecond. Lists
// are in the order of ids, so that a span of time, as one of ids, is read from
// where it begins and needs no sorting.
func idAt(t time.Time) (id uuid.UUID) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(max(0, t.UnixMilli())))
	copy(id[:6], ms[2:])
	return id
}

// callsQuery asks for what the filter names alone, so that the planner sees each
// condition, and the index that serves it.
func callsQuery(f control.CallFilter) (string, []any) {
	var where strings.Builder
	var args []any
	and := func(use bool, condition string, values ...any) {
		if !use {
			return
		}
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		where.WriteString(" AND " + condition)
	}
	is := func(b *bool, yes, no string) {
		and(b != nil && *b, yes)
		and(b != nil && !*b, no)
	}
	after := after(f.Page)
	and(after != nil, `id < ?`, after)
	agent := nullable(f.Agent)
	and(agent != nil, `agent_id = ?`, agent)
	and(f.Status != "", `status = ?`, f.Status)
	and(f.Status != "" && f.Status != control.CallEnded, `status <> 'ended'`) // a partial index's
	and(f.Direction != "", `direction = ?`, f.Direction)
	and(f.Carrier != "", `carrier = ?`, f.Carrier)
	and(f.EndReason != "", `end_reason = ?`, f.EndReason)
	party := func(column, text string, prefix bool) {
		and(text != "" && !prefix, column+` = ?`, text)
		// Comparisons by bytes are leakproof, as LIKE is not: they may use the
		// index under row security.
		and(text != "" && prefix, column+` ~>=~ ? AND `+column+` ~<~ ?`, text, text+"\U0010ffff")
	}
	party("caller", f.From, f.FromPrefix)
	party("callee", f.To, f.ToPrefix)
	and(!f.StartedAfter.IsZero(), `started_at > ? AND id > ?`, f.StartedAfter, idAt(f.StartedAfter.Add(-idLag)))
	and(!f.StartedBefore.IsZero(), `started_at < ? AND id < ?`, f.StartedBefore, idAt(f.StartedBefore.Add(idLag)))
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	and(f.MinTalk > 0, `talked_ms >= ?`, ms(f.MinTalk))
	and(f.MaxTalk > 0, `talked_ms <= ?`, ms(f.MaxTalk))
	is(f.Ended, `status = 'ended'`, `status <> 'ended'`)
	is(f.Transferred, `transfer_to <> ''`, `transfer_to = ''`)
	is(f.Recorded, `recording <> '' AND recording_deleted_at IS NULL`, `(recording = '' OR recording_deleted_at IS NOT NULL)`)
	args = append(args, limit(f.Page))
	most := len(args)
	list := func(more string) string {
		return fmt.Sprintf(`SELECT %s FROM calls WHERE tenant_id = current_tenant()%s%s ORDER BY id DESC LIMIT $%d`,
			callColumns, where.String(), more, most)
	}
	if f.Number == "" {
		return list(""), args
	}
	// Two lists in order, each from its index: together as one condition they
	// would be all calls of the number, to be sorted.
	args = append(args, f.Number)
	n := fmt.Sprintf("$%d", len(args))
	return fmt.Sprintf(`(%s) UNION ALL (%s) ORDER BY id DESC LIMIT $%d`,
		list(` AND caller = `+n), list(` AND callee = `+n+` AND caller <> `+n), most), args
}
