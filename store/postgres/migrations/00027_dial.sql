-- +goose Up

-- Whom an attempt was placed with stays as it was when its number moves to
-- another account: null is the operator's. As in calls, a name without a key: an
-- account may be gone before its calls are.
ALTER TABLE dial_attempts ADD carrier_account_id uuid;

-- +goose Down
ALTER TABLE dial_attempts DROP carrier_account_id;
