package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent/flow"
	"parley/control"
)

var _ control.TurnStore = (*Store)(nil)

// BeginConversation implements [control.TurnStore].
func (s *Store) BeginConversation(ctx context.Context, c control.Conversation, m control.TurnCommit) error {
	const q = `
		WITH c AS (
			INSERT INTO conversations (id, tenant_id, channel, flow_id, flow_version_id, pins, user_id, token_hash, revision,
			    current_node, status, state, state_hash, reported, claim_id, claimed_until, due_at, idle_until, expires_at)
			VALUES (@id, current_tenant(), 'chat', @flow, @version, @pins, @user, @token, @revision,
			    @node, @status, @state, @hash, @reported, @claim, now() + @lease, now() + @due, now() + @idle, now() + @life)
			RETURNING id
		)` + writeEntry
	args, err := s.turnArgs(ctx, c.ID, m)
	if err != nil {
		return fmt.Errorf("begin a conversation: %w", err)
	}
	args["flow"], args["version"], args["pins"] = c.Flow, c.FlowVersion, pins(c)
	args["user"], args["token"], args["life"] = text(c.User), c.TokenHash, m.Life
	if _, err := s.commit(ctx, q, args, m.Task); err != nil {
		return fmt.Errorf("begin a conversation: %w", err)
	}
	s.wrote()
	return nil
}

func (s *Store) turnArgs(ctx context.Context, id uuid.UUID, m control.TurnCommit) (pgx.NamedArgs, error) {
	args, err := s.revision(ctx, id, m.Revision)
	if err != nil {
		return nil, err
	}
	args["claim"], args["lease"], args["due"], args["idle"] = &m.Claim.ID, &m.Claim.Lease, &m.Due, m.Idle
	if m.Last {
		args["claim"], args["lease"] = nil, nil
	}
	if m.Due == 0 {
		args["due"] = nil
	}
	return args, nil
}

// ClaimConversation implements [control.TurnStore].
func (s *Store) ClaimConversation(ctx context.Context, id uuid.UUID, k control.Claim) (control.Conversation, error) {
	const q = `
		UPDATE conversations SET claim_id = $2, claimed_until = now() + $3::interval
		WHERE id = $1 AND channel = 'chat' AND status = 'active' AND quarantined_at IS NULL
		  AND (claim_id IS NULL OR claimed_until < now())
		RETURNING ` + conversationColumns
	c, err := one(ctx, s, scanConversation, q, id, k.ID, k.Lease)
	if !errors.Is(err, control.ErrNotFound) {
		return c, err
	}
	if c, err = s.Conversation(ctx, id); err != nil {
		return c, err
	}
	switch {
	case !c.Quarantined.IsZero():
		err = control.ErrQuarantined
	case c.Status != flow.Active:
		err = control.ErrEnded
	default:
		err = control.ErrConflict
	}
	return c, fmt.Errorf("claim conversation %s: %w", id, err)
}

// claimed runs q, which changes the conversation's row if the claim stands.
func (s *Store) claimed(ctx context.Context, what, q string, args ...any) error {
	n, err := exec(ctx, s, q, args...)
	if err == nil && n == 0 {
		err = control.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.wrote()
	return nil
}

// RenewClaim implements [control.TurnStore].
func (s *Store) RenewClaim(ctx context.Context, id uuid.UUID, k control.Claim) error {
	return s.claimed(ctx, "renew a claim", `UPDATE conversations SET claimed_until = now() + $3::interval
		WHERE id = $1 AND claim_id = $2`, id, k.ID, k.Lease)
}

// CommitTurn implements [control.TurnStore].
func (s *Store) CommitTurn(ctx context.Context, id uuid.UUID, m control.TurnCommit) error {
	const q = `
		WITH c AS (
			UPDATE conversations SET revision = @revision, current_node = @node, status = @status, state = @state,
			    state_hash = @hash, reported = @reported, claim_id = @claim, claimed_until = now() + @lease,
			    due_at = CASE WHEN @keep THEN due_at ELSE now() + @due END,
			    task = CASE WHEN @keep THEN task END, idle_until = now() + @idle, updated_at = now()
			WHERE id = @id AND claim_id = @held AND revision = @revision - 1
			RETURNING id
		)` + writeEntry
	args, err := s.turnArgs(ctx, id, m)
	if err != nil {
		return fmt.Errorf("commit revision %d: %w", m.Revision.Revision, err)
	}
	args["held"], args["keep"] = m.Claim.ID, m.KeepDue
	n, err := s.commit(ctx, q, args, m.Task)
	if err == nil && n == 0 {
		err = control.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("commit revision %d: %w", m.Revision.Revision, err)
	}
	s.wrote()
	return nil
}

// ReleaseConversation implements [control.TurnStore].
func (s *Store) ReleaseConversation(ctx context.Context, id uuid.UUID, k control.Claim, left control.Left) error {
	return s.claimed(ctx, "release a conversation", `UPDATE conversations SET claim_id = NULL, claimed_until = NULL,
		due_at = CASE WHEN $3 THEN now() WHEN $4 THEN NULL ELSE due_at END WHERE id = $1 AND claim_id = $2`,
		id, k.ID, left == control.DueNow, left == control.NothingDue)
}

// QuarantineConversation implements [control.TurnStore].
func (s *Store) QuarantineConversation(ctx context.Context, id uuid.UUID, k control.Claim) error {
	return s.claimed(ctx, "quarantine a conversation", `UPDATE conversations SET quarantined_at = now(), status = 'failed',
		claim_id = NULL, claimed_until = NULL, due_at = NULL, updated_at = now() WHERE id = $1 AND claim_id = $2`, id, k.ID)
}
