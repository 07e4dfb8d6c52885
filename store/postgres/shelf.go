package postgres

import "parley/control"

// A shelf says of one table what is kept on it, and how it goes.
type shelf struct {
	table string
	// class is the period by which it goes, see control.Keep…; "" for the
	// tenant's own things, which go with their tenant alone, or as why says.
	class   string
	session string   // the column that names a call or a session: it goes with that
	age     string   // the column of its age: it goes by that
	numbers []string // columns that may hold a caller's number,
	users   []string // and those that may name a user: they are erased with the person
	why     string   // where none of the others is set: why it stays, or who deletes it
}

// shelves lists every table of tenants, what goes first in front: rows before
// those that they refer to. A test holds it against the catalogue.
func shelves() []shelf {
	return []shelf{
		// What a call or a session leaves behind.
		{table: "turns", class: control.KeepTranscripts, session: "call_id"},
		{table: "call_inbox", class: control.KeepTranscripts, session: "call_id"},
		{table: "call_commands", class: control.KeepTranscripts, session: "call_id"},
		{table: "call_afterwork", class: control.KeepTranscripts, session: "call_id"},
		{table: "conversation_history", class: control.KeepTranscripts, session: "conversation_id"},
		{table: "conversations", class: control.KeepTranscripts, session: "id"},
		{table: "events", class: control.KeepEvents, session: "session_id", age: "at", users: []string{"user_id"}},
		{table: "event_streams", class: control.KeepEvents, session: "session_id"},
		{table: "webhook_deliveries", why: "go with their events; what is sent is read from there"},
		{table: "dial_attempts", class: control.KeepCalls, session: "call_id"},
		{table: "calls", class: control.KeepCalls, session: "id"},
		{table: "dials", class: control.KeepUsage, age: "finished_at", numbers: []string{"callee"}}, // with attempts that never became a call
		{table: "usage_entries", class: control.KeepUsage, session: "call_id", age: "at"},           // outlives its call: it names nobody

		// What is good for a time.
		{table: "token_grants", class: control.KeepCredentials, age: "expires_at"},
		{table: "temporary_tokens", class: control.KeepCredentials, age: "expires_at"},
		{table: "browser_sessions", why: "deleted 30 days after they expired, by the service of people"},
		{table: "invitations", why: "the same"},
		{table: "password_resets", why: "the same"},
		{table: "pending_sign_ins", why: "deleted when they expire, minutes later"},
		{table: "idempotency_keys", why: "deleted after 24 hours; an erasure empties those that name whom it is about"},

		// Proofs, and what may not go.
		{table: "audit", why: "for good: a chain, whose entries name people by ids and callers not at all"},
		{table: "audit_seals", why: "with the audit trail"},
		{table: "deletions", why: "for good: the proofs; ids and hashes"},
		{table: "erasures", why: "for good, without the person once they are done"},
		{table: "legal_holds", why: "for good; once lifted an erasure takes whom they were about out of them"},
		{table: "data_keys", why: "destroyed by parley keys destroy, and kept as proof of it"},

		// Figures: numbers without persons, which outlive what they were counted from.
		{table: "call_figures", why: tallied}, {table: "figure_sums", why: tallied}, {table: "node_figures", why: tallied},
		{table: "figure_spans", why: "for good: which hours and days have figures"},
		{table: "figure_marks", why: "deleted when their slot is counted, within minutes"},
		{table: "figures_kept", why: "what a session counted for of which a part is deleted; goes with the session itself"},

		// The tenant's own things, which their makers change and delete.
		{table: "tenants", why: own}, {table: "users", why: own}, {table: "memberships", why: own},
		{table: "api_keys", why: own}, {table: "second_factors", why: own}, {table: "recovery_codes", why: own},
		{table: "passkeys", why: own}, {table: "identity_providers", why: own}, {table: "identity_links", why: own},
		{table: "trusted_issuers", why: own}, {table: "tenant_origins", why: own}, {table: "egress_policies", why: own},
		{table: "secrets", why: own}, {table: "retention", why: own}, {table: "webhooks", why: own},
		{table: "flows", why: own}, {table: "flow_versions", why: own}, {table: "flow_environments", why: own},
		{table: "flow_publications", why: own}, {table: "agents", why: own}, {table: "numbers", why: own},
		{table: "agent_versions", why: own}, {table: "agent_environments", why: own}, {table: "agent_publications", why: own},
		{table: "number_routes", why: own}, {table: "carrier_accounts", why: own},
		{table: "outbound_policies", why: own}, {table: "outbound_stops", why: "one of a tenant, until the next; ids, and beginnings of numbers"},
		{table: "prices", why: own}, {table: "contents", why: own}, {table: "content_variants", why: own}, {table: "event_cursors", why: own},
	}
}

const (
	own     = "the tenant's own, until it deletes it"
	tallied = "for good: figures, which hold nothing personal"
)

// shelvesOf lists what goes with the calls and sessions of a deletion.
func shelvesOf(class string) []shelf {
	var list []shelf
	for _, f := range shelves() {
		state := f.table == "conversation_history" || f.table == "conversations"
		switch {
		case f.session == "" || f.class == control.KeepUsage:
		case class == control.KeepCalls, class == control.KeepSessions,
			class == control.KeepTranscripts && f.class == control.KeepTranscripts,
			class == control.KeepStates && state:
			list = append(list, f)
		}
	}
	return list
}
