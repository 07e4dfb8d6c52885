package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

// A turn's words are written as a vector of texts without meaning to the
// database, each with where it stands: blinded by the key that seals the turn,
// or in clear where nothing is sealed.

// maxPosition is the last place that a vector of Postgres tells from others.
const maxPosition = 16383

// vectorOf is the vector of what a turn's texts say.
func (s *Store) vectorOf(ctx context.Context, said turnText) (string, error) {
	var list []string
	seen := map[string]bool{}
	for _, t := range []string{said.Generated, said.Heard} {
		if t == "" || seen[t] || strings.Contains(said.Generated, t) && t != said.Generated {
			continue // what was heard is a part of what was made
		}
		seen[t] = true
		for _, w := range control.WordsOf(t) {
			list = append(list, w.Text)
		}
		list = append(list, "") // no phrase goes over it
	}
	if s.sealer != nil && len(list) > 0 {
		var err error
		if list, err = s.blind(ctx, list); err != nil {
			return "", err
		}
	}
	at := map[string][]string{}
	var order []string
	for i, w := range list {
		if w == "" {
			continue
		}
		if at[w] == nil {
			order = append(order, w)
		}
		if len(at[w]) < 255 { // that many are kept
			at[w] = append(at[w], strconv.Itoa(min(i+1, maxPosition)))
		}
	}
	var b strings.Builder
	for _, w := range order {
		b.WriteString(lexeme(w) + ":" + strings.Join(at[w], ",") + " ")
	}
	return b.String(), nil
}

// blind leaves empty words as they are.
func (s *Store) blind(ctx context.Context, words []string) ([]string, error) {
	out, err := s.sealer.Blind(ctx, words)
	for i := range out {
		if words[i] == "" {
			out[i] = ""
		}
	}
	return out, err
}

// lexeme quotes a word. Words are letters and figures, but for an apostrophe.
func lexeme(w string) string { return "'" + strings.ReplaceAll(w, "'", "''") + "'" }

// wanted is a query for the vectors, over all keys of the tenant.
func (s *Store) wanted(ctx context.Context, q control.WordQuery) (string, error) {
	var flat []string
	for _, list := range [][][]string{q.All, q.Not} {
		for _, phrase := range list {
			flat = append(flat, phrase...)
		}
	}
	all := [][]string{flat}
	if s.sealer != nil {
		var err error
		if all, err = s.sealer.BlindAll(ctx, flat); err != nil {
			return "", err
		}
	}
	var keys []string
	for _, words := range all {
		next := 0
		side := func(phrase []string) string {
			quoted := make([]string, len(phrase))
			for i := range phrase {
				quoted[i] = lexeme(words[next])
				next++
			}
			return "(" + strings.Join(quoted, " <-> ") + ")"
		}
		var terms []string
		for _, p := range q.All {
			terms = append(terms, side(p))
		}
		for _, p := range q.Not {
			terms = append(terms, "!"+side(p))
		}
		keys = append(keys, "("+strings.Join(terms, " & ")+")")
	}
	return strings.Join(keys, " | "), nil
}

// SearchCalls implements [control.CallSearch].
func (s *Store) SearchCalls(ctx context.Context, q control.WordQuery, p control.Page) ([]control.Found, error) {
	wanted, err := s.wanted(ctx, q)
	if err != nil || wanted == "" {
		return nil, err
	}
	const search = `SELECT ` + callColumns + ` FROM calls WHERE tenant_id = current_tenant() AND id IN (
		SELECT l.id FROM locate_calls_by_words(current_tenant(), $1::text::tsquery, $2, $3) l) ORDER BY id DESC`
	calls, err := rows(ctx, s, scanCall, search, wanted, after(p), limit(p))
	if err != nil {
		return nil, fmt.Errorf("search calls: %w", err)
	}
	out := make([]control.Found, len(calls))
	ids, at := make([]uuid.UUID, len(calls)), map[uuid.UUID]int{}
	for i, c := range calls {
		out[i].Call, ids[i], at[c.ID] = c, c.ID, i
	}
	// The best few turns of each call; what they say is opened below.
	const turns = `
		SELECT c.id, t.index, t.speaker, t.generated, t.sent, t.heard, t.sealed FROM unnest($1::uuid[]) AS c(id),
		LATERAL (SELECT * FROM turns WHERE call_id = c.id AND words @@ $2::text::tsquery ORDER BY index LIMIT 3) t`
	type hit struct {
		call uuid.UUID
		turn storedTurn
	}
	hits, err := rows(ctx, s, func(r pgx.CollectableRow) (h hit, err error) {
		t := &h.turn
		return h, errors.Join(err, r.Scan(&h.call, &t.Index, &t.Speaker, &t.Generated, &t.Sent, &t.Heard, &t.sealed))
	}, turns, ids, wanted)
	if err != nil {
		return nil, fmt.Errorf("search calls: %w", err)
	}
	for _, h := range hits {
		t := h.turn
		said := turnText{t.Generated, t.Sent, t.Heard}
		if err := s.unseal(ctx, turnPlace(h.call, t.Index), t.sealed, &said); err != nil {
			return nil, err
		}
		snip, ok := q.Around(said.Heard)
		if !ok {
			snip, ok = q.Around(said.Generated)
		}
		if ok {
			snip.Speaker, snip.Index = t.Speaker, t.Index
			f := &out[at[h.call]]
			f.Snippets = append(f.Snippets, snip)
		}
	}
	return out, nil
}

var _ control.CallSearch = (*Store)(nil)
