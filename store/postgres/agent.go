package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.AgentStore = (*Store)(nil)

const (
	agentColumns = `agents.id, agents.name, agents.public, agents.revision, agents.created_at, agents.updated_at,
		live.id, live.number, live.document, ` + environmentsColumn
	// liveAgents are agents with what is live of them.
	liveAgents = ` FROM agents LEFT JOIN agent_environments le ON le.agent_id = agents.id AND le.name = 'live'
		LEFT JOIN agent_versions live ON live.id = le.published_id `
)

func scanAgent(r pgx.CollectableRow) (control.Agent, error) {
	var a control.Agent
	var version *uuid.UUID
	var number *int
	var settings []byte
	if err := r.Scan(&a.ID, &a.Name, &a.Public, &a.Revision, &a.CreatedAt, &a.UpdatedAt, &version, &number, &settings, &a.Environments); err != nil {
		return a, err
	}
	a.CreatedAt, a.UpdatedAt = a.CreatedAt.UTC(), a.UpdatedAt.UTC()
	if version == nil {
		return a, nil
	}
	a.Version, a.Number = *version, *number
	return a, json.Unmarshal(settings, &a.Settings)
}

// aboutAgent returns a query about agents.
func aboutAgent(where string) string {
	return of(control.SubjectAgent, `SELECT `+agentColumns+liveAgents+where)
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
	a, err := one(ctx, s, scanAgent, aboutAgent(`WHERE agents.id = $1`), id)
	if err != nil {
		return a, fmt.Errorf("agent %s: %w", id, err)
	}
	return a, nil
}

// AgentByName implements [control.AgentStore].
func (s *Store) AgentByName(ctx context.Context, name string) (control.Agent, error) {
	a, err := one(ctx, s, scanAgent, aboutAgent(`WHERE agents.tenant_id = current_tenant() AND agents.name = $1`), name)
	if err != nil {
		return a, fmt.Errorf("agent by name: %w", err)
	}
	return a, nil
}

// Agents implements [control.AgentStore].
func (s *Store) Agents(ctx context.Context, p control.Page) ([]control.Agent, error) {
	return rows(ctx, s, scanAgent, aboutAgent(`
		WHERE agents.tenant_id = current_tenant() AND ($1::uuid IS NULL OR agents.id < $1)
		ORDER BY agents.id DESC LIMIT $2`), after(p), limit(p))
}

// InsertAgent implements [control.AgentStore].
func (s *Store) InsertAgent(ctx context.Context, a control.Agent) error {
	const q = `INSERT INTO agents (id, tenant_id, name, public, revision, created_at, updated_at) VALUES ($1, current_tenant(), $2, $3, 1, $4, $4)`
	document, hash, err := a.Settings.Document()
	if err != nil {
		return fmt.Errorf("insert agent: %w", err)
	}
	v := control.Version{ID: orDefault(a.Version, control.NewID()), Of: a.ID, Document: document, Hash: hash, CreatedAt: a.CreatedAt}
	return s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		if _, err := tx.Exec(ctx, q, a.ID, a.Name, a.Public, a.CreatedAt); err != nil {
			return err
		}
		return insertLive(ctx, tx, v)
	})
}

// insertLive stores a version of an agent and publishes it live, for all.
func insertLive(ctx context.Context, tx pgx.Tx, v control.Version) error {
	if err := insertVersion(ctx, tx, control.SubjectAgent, &v); err != nil {
		return err
	}
	return publishVersion(ctx, tx, control.SubjectAgent, control.Publication{ID: control.NewID(), Of: v.Of, Version: v.ID,
		Percent: 100, By: control.ActorOf(ctx), At: v.CreatedAt})
}

// UpdateAgent implements [control.AgentStore].
func (s *Store) UpdateAgent(ctx context.Context, a control.Agent, v *control.Version) (control.Agent, error) {
	err := s.changeSubject(ctx, control.SubjectAgent, a.ID, a.Revision, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE agents SET name = $2, public = $3 WHERE id = $1`, a.ID, a.Name, a.Public); err != nil {
			return err
		}
		if v != nil {
			if err := insertLive(ctx, tx, *v); err != nil {
				return err
			}
		}
		r, err := tx.Query(ctx, aboutAgent(`WHERE agents.id = $1`), a.ID)
		if err == nil {
			a, err = pgx.CollectExactlyOneRow(r, scanAgent)
		}
		return err
	})
	if err != nil {
		return a, fmt.Errorf("update agent: %w", err)
	}
	return a, nil
}

// DeleteAgent implements [control.AgentStore]. Foreign keys hold what it counts
// for the answer: nobody can take the agent into use meanwhile.
func (s *Store) DeleteAgent(ctx context.Context, id uuid.UUID, revision int) error {
	err := s.changeSubject(ctx, control.SubjectAgent, id, revision, func(tx pgx.Tx) error {
		var numbers int
		var called bool
		err := tx.QueryRow(ctx, `
			SELECT (SELECT count(*) FROM (SELECT id FROM numbers WHERE agent_id = $1
			            UNION SELECT number_id FROM number_routes WHERE agent_id = $1) n),
			       EXISTS (SELECT FROM calls WHERE tenant_id = current_tenant() AND agent_id = $1)`, id).Scan(&numbers, &called)
		switch {
		case err != nil:
			return err
		case numbers > 0:
			return control.Refuse(control.ErrConflict, "%d of your numbers or their routes name this agent: give them another one first", numbers)
		case called:
			return control.Refuse(control.ErrConflict, "records of calls name this agent: it goes when they are gone; make it not public and take it from its numbers to retire it")
		}
		_, err = tx.Exec(ctx, `DELETE FROM agents WHERE id = $1`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete agent %s: %w", id, err)
	}
	return nil
}
