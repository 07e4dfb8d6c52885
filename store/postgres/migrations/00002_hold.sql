-- +goose Up

-- Counts the claims of a call: what was written under an older one is refused.
ALTER TABLE calls ADD COLUMN generation int NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE calls DROP COLUMN generation;
