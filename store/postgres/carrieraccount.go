package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.CarrierAccountStore = (*Store)(nil)

const accountColumns = `id, tenant_id, name, kind, account_sid, token_secret, old_token_secret, api_key_sid, api_key_secret,
	region, edge, revision, created_at, updated_at`

func scanAccount(r pgx.CollectableRow) (control.CarrierAccount, error) {
	a, err := pgx.RowToStructByPos[control.CarrierAccount](r)
	a.CreatedAt, a.UpdatedAt = a.CreatedAt.UTC(), a.UpdatedAt.UTC()
	return a, err
}

// LocateCarrierAccounts implements [control.CarrierAccountStore].
func (s *Store) LocateCarrierAccounts(ctx context.Context, accountSID string, numbers ...string) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_carrier_accounts($1, $2)`, accountSID, append([]string{}, numbers...))
}

// CarrierAccount implements [control.CarrierAccountStore].
func (s *Store) CarrierAccount(ctx context.Context, id uuid.UUID) (control.CarrierAccount, error) {
	a, err := one(ctx, s, scanAccount, `SELECT `+accountColumns+` FROM carrier_accounts WHERE id = $1`, id)
	if err != nil {
		return a, fmt.Errorf("carrier account %s: %w", id, err)
	}
	return a, nil
}

// CarrierAccounts implements [control.CarrierAccountStore].
func (s *Store) CarrierAccounts(ctx context.Context, p control.Page) ([]control.CarrierAccount, error) {
	const q = `
		SELECT ` + accountColumns + ` FROM carrier_accounts
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1)
		ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, scanAccount, q, after(p), limit(p))
}

// InsertCarrierAccount implements [control.CarrierAccountStore]. Two at once may
// pass the bound by one, which harms nobody.
func (s *Store) InsertCarrierAccount(ctx context.Context, a control.CarrierAccount) error {
	const q = `
		INSERT INTO carrier_accounts (id, tenant_id, name, kind, account_sid, token_secret, old_token_secret, api_key_sid,
		    api_key_secret, region, edge, created_at, updated_at)
		SELECT $1, current_tenant(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11
		WHERE (SELECT count(*) FROM carrier_accounts WHERE tenant_id = current_tenant()) < $12`
	n, err := exec(ctx, s, q, a.ID, a.Name, a.Kind, a.AccountSID, a.Token, a.OldToken, a.APIKey, a.APIKeySecret, a.Region, a.Edge,
		a.CreatedAt, control.MaxCarrierAccounts)
	if err == nil && n == 0 {
		err = control.Invalidf("account_sid", "cannot be added: you have %d accounts already; delete one first", control.MaxCarrierAccounts)
	}
	if err != nil {
		return fmt.Errorf("insert carrier account: %w", err)
	}
	return nil
}

// UpdateCarrierAccount implements [control.CarrierAccountStore].
func (s *Store) UpdateCarrierAccount(ctx context.Context, a control.CarrierAccount) (control.CarrierAccount, error) {
	const q = `
		UPDATE carrier_accounts SET name = $3, token_secret = $4, old_token_secret = $5, api_key_sid = $6, api_key_secret = $7,
		    region = $8, edge = $9, revision = revision + 1, updated_at = now()
		WHERE id = $1 AND revision = $2
		RETURNING ` + accountColumns
	got, err := one(ctx, s, scanAccount, q, a.ID, a.Revision, a.Name, a.Token, a.OldToken, a.APIKey, a.APIKeySecret, a.Region, a.Edge)
	if errors.Is(err, control.ErrNotFound) {
		if _, err = s.CarrierAccount(ctx, a.ID); err == nil {
			err = control.ErrConflict
		}
	}
	if err != nil {
		return a, fmt.Errorf("update carrier account: %w", err)
	}
	return got, nil
}

// DeleteCarrierAccount implements [control.CarrierAccountStore].
func (s *Store) DeleteCarrierAccount(ctx context.Context, id uuid.UUID, revision int) error {
	err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		var have, numbers, calls int
		err := tx.QueryRow(ctx, `SELECT revision FROM carrier_accounts WHERE id = $1 FOR UPDATE`, id).Scan(&have)
		if err == nil && revision != 0 && revision != have {
			err = control.ErrConflict
		}
		if err == nil {
			err = tx.QueryRow(ctx, `
				SELECT (SELECT count(*) FROM numbers WHERE tenant_id = current_tenant() AND carrier_account_id = $1),
				       (SELECT count(*) FROM calls WHERE carrier_account_id = $1 AND status <> 'ended')`, id).Scan(&numbers, &calls)
		}
		switch {
		case err != nil:
			return err
		case numbers > 0:
			return control.Refuse(control.ErrConflict, "%d of your numbers name this account: give them another one, or delete them, first", numbers)
		case calls > 0:
			return control.Refuse(control.ErrConflict, "%d calls of this account are in progress: try again when they have ended", calls)
		}
		_, err = tx.Exec(ctx, `DELETE FROM carrier_accounts WHERE id = $1`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete carrier account %s: %w", id, err)
	}
	return nil
}
