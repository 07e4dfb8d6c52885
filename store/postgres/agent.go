package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.AgentStore = (*Store)(nil)

const agentColumns = `id, name, public, settings, revision, created_at, updated_at`

func scanAgent(r pgx.CollectableRow) (control.Agent, error) {
	var a control.Agent
	var settings []byte
	if err := r.Scan(&a.ID, &a.Name, &a.Public, &settings, &a.Revision, &a.CreatedAt, &a.UpdatedAt); err != nil {
		return a, err
	}
	a.CreatedAt, a.UpdatedAt = a.CreatedAt.UTC(), a.UpdatedAt.UTC()
	return a, json.Unmarshal(settings, &a.Settings)
}

// LocateAgent implements [control.AgentStore].
func (s *Store) LocateAgent(ctx context.Context, idOrName string) (control.Located, error) {
	if id, err := uuid.Parse(idOrName); err == nil {
		return s.locate(ctx, `SELECT tenant, id FROM locate_agent($1)`, id)
	}
	return s.locate(ctx, `SELECT tenant, id FROM locate_agent_named($1)`, idOrName)
}

// Agent implements [control.AgentStore].
func (s *Store) Agent(ctx context.Context, id uuid.UUID) (control.Agent, error) {
	const q = `SELECT ` + agentColumns + ` FROM agents WHERE id = $1`
	a, err := one(ctx, s, scanAgent, q, id)
	if err != nil {
		return a, fmt.Errorf("agent %s: %w", id, err)
	}
	return a, nil
}

// AgentByName implements [control.AgentStore].
func (s *Store) AgentByName(ctx context.Context, name string) (control.Agent, error) {
	const q = `SELECT ` + agentColumns + ` FROM agents WHERE tenant_id = current_tenant() AND name = $1`
	a, err := one(ctx, s, scanAgent, q, name)
	if err != nil {
		return a, fmt.Errorf("agent by name: %w", err)
	}
	return a, nil
}

// Agents implements [control.AgentStore].
func (s *Store) Agents(ctx context.Context, p control.Page) ([]control.Agent, error) {
	const q = `
		SELECT ` + agentColumns + ` FROM agents
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1)
		ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, scanAgent, q, after(p), limit(p))
}

// InsertAgent implements [control.AgentStore].
func (s *Store) InsertAgent(ctx context.Context, a control.Agent) error {
	const q = `
		INSERT INTO agents (id, tenant_id, name, kind, flow_id, public, settings, revision, created_at, updated_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, 1, $7, $7)`
	settings, err := json.Marshal(a.Settings)
	if err != nil {
		return fmt.Errorf("insert agent: %w", err)
	}
	_, err = exec(ctx, s, q, a.ID, a.Name, a.Settings.Kind, nullable(a.Settings.FlowID), a.Public, settings, a.CreatedAt)
	return err
}

// UpdateAgent implements [control.AgentStore].
func (s *Store) UpdateAgent(ctx context.Context, a control.Agent) (control.Agent, error) {
	const q = `
		UPDATE agents SET name = $3, kind = $4, flow_id = $5, public = $6, settings = $7,
		       revision = revision + 1, updated_at = $8
		WHERE id = $1 AND revision = $2
		RETURNING ` + agentColumns
	settings, err := json.Marshal(a.Settings)
	if err != nil {
		return a, fmt.Errorf("update agent: %w", err)
	}
	got, err := rows(ctx, s, scanAgent, q, a.ID, a.Revision, a.Name, a.Settings.Kind,
		nullable(a.Settings.FlowID), a.Public, settings, time.Now().UTC())
	if err != nil {
		return a, fmt.Errorf("update agent: %w", err)
	}
	if len(got) == 0 {
		if _, err := s.Agent(ctx, a.ID); err != nil {
			return a, err
		}
		return a, control.ErrConflict
	}
	return got[0], nil
}
