package postgres

import (
	"context"
	"fmt"
)

// grantRead lets the role for reports read what its tables say of a tenant's work,
// behind the same walls as the application. It leaves out what signs somebody in,
// what is a secret or wraps one, and what is at work: the application alone sees
// these. It is granted anew with each migration, and a table that is not named is
// not readable.
const grantRead = `DO $$ BEGIN
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'parley_read') THEN
		PERFORM pg_advisory_xact_lock(hashtextextended('parley_read', 0)); -- of many that migrate
		GRANT SELECT ON
			agent_environments, agent_publications, agent_versions, agents, audit, audit_seals, call_afterwork,
			call_commands, call_figures, calls, content_variants, contents, deletions, dial_attempts, dials, erasures, events,
			figure_spans, figure_sums, flow_environments, flow_publications, flow_versions, flows, legal_holds, node_figures,
			number_routes, numbers, outbound_policies, outbound_stops, prices, retention, tenants, turns, usage_entries
		TO parley_read;
	END IF;
END $$`

// grantReading runs it as the schema's owner.
func grantReading(ctx context.Context, url string) error {
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, grantRead); err != nil {
		return fmt.Errorf("let %s read: %w", RoleRead, problem(err))
	}
	return nil
}
