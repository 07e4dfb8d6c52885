package postgres

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
)

var _ identity.PendingStore = (*Store)(nil)

// pending runs q for who holds the secret of a hash: the wall of these rows,
// which belong to no tenant yet.
func (s *Store) pending(ctx context.Context, hash []byte, q ...pgx.QueuedQuery) error {
	b := new(pgx.Batch)
	b.Queue(`SELECT set_config('app.pending', $1, true)`, hex.EncodeToString(hash))
	for _, one := range q {
		queued := b.Queue(one.SQL, one.Arguments...)
		queued.Fn = one.Fn
	}
	return problem(s.pool.SendBatch(ctx, b).Close())
}

// InsertPending implements [identity.PendingStore].
func (s *Store) InsertPending(ctx context.Context, hash []byte, kind string, sealed []byte, expires time.Time) error {
	const sweep = `
		DELETE FROM pending_sign_ins WHERE hash IN (
			SELECT hash FROM pending_sign_ins WHERE expires_at < now() ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)`
	const q = `INSERT INTO pending_sign_ins (hash, kind, sealed, expires_at) VALUES ($1, $2, $3, $4)`
	return s.pending(ctx, hash, pgx.QueuedQuery{SQL: sweep},
		pgx.QueuedQuery{SQL: q, Arguments: []any{hash, kind, sealed, expires}})
}

// Pending implements [identity.PendingStore].
func (s *Store) Pending(ctx context.Context, hash []byte, kind string) ([]byte, error) {
	return s.pendingOf(ctx, hash, `SELECT sealed FROM pending_sign_ins WHERE hash = $1 AND kind = $2 AND expires_at > now()`, kind)
}

// TakePending implements [identity.PendingStore].
func (s *Store) TakePending(ctx context.Context, hash []byte, kind string) ([]byte, error) {
	return s.pendingOf(ctx, hash, `DELETE FROM pending_sign_ins WHERE hash = $1 AND kind = $2 AND expires_at > now() RETURNING sealed`, kind)
}

func (s *Store) pendingOf(ctx context.Context, hash []byte, q, kind string) ([]byte, error) {
	var got [][]byte
	err := s.pending(ctx, hash, pgx.QueuedQuery{SQL: q, Arguments: []any{hash, kind}, Fn: func(br pgx.BatchResults) error {
		r, err := br.Query()
		if err != nil {
			return err
		}
		got, err = pgx.CollectRows(r, pgx.RowTo[[]byte])
		return err
	}})
	if err == nil && len(got) == 0 {
		err = control.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return got[0], nil
}
