package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.ConversationStore = (*Store)(nil)

const conversationColumns = `id, call_id, channel, flow_id, flow_version_id, pins, user_id, revision, current_node,
	status, state, state_hash, created_at, updated_at, ended_at, due_at, coalesce(due_at <= now(), false),
	least(idle_until, expires_at), coalesce(least(idle_until, expires_at) <= now(), false), quarantined_at`

func scanConversation(r pgx.CollectableRow) (control.Conversation, error) {
	var c control.Conversation
	var call, flow, version *uuid.UUID
	var ended, due, expires, quarantined *time.Time
	err := r.Scan(&c.ID, &call, &c.Channel, &flow, &version, &c.Pins, &c.User, &c.Revision, &c.Node,
		&c.Status, &c.State, &c.Hash, &c.CreatedAt, &c.UpdatedAt, &ended, &due, &c.Due, &expires, &c.Expired, &quarantined)
	c.Call, c.Flow, c.FlowVersion = orNil(call), orNil(flow), orNil(version)
	c.CreatedAt, c.UpdatedAt = c.CreatedAt.UTC(), c.UpdatedAt.UTC()
	c.EndedAt, c.DueAt, c.ExpiresAt, c.Quarantined = orZero(ended), orZero(due), orZero(expires), orZero(quarantined)
	return c, err
}

// LocateConversation implements [control.ConversationStore].
func (s *Store) LocateConversation(ctx context.Context, tokenHash []byte) (control.Located, error) {
	return s.locate(ctx, `SELECT * FROM locate_conversation($1)`, tokenHash)
}

// LocateDueConversations implements [control.ConversationStore].
func (s *Store) LocateDueConversations(ctx context.Context) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT * FROM locate_due_conversations()`)
}

// Conversation implements [control.ConversationStore] and [control.RecordStore].
func (s *Store) Conversation(ctx context.Context, id uuid.UUID) (control.Conversation, error) {
	c, err := one(ctx, s, scanConversation, `SELECT `+conversationColumns+` FROM conversations WHERE id = $1`, id)
	if err != nil {
		return c, fmt.Errorf("conversation %s: %w", id, err)
	}
	return c, nil
}

// Conversations implements [control.ConversationStore]. A search by state goes
// by a function of its own: see the migration that makes it.
func (s *Store) Conversations(ctx context.Context, f control.ConversationFilter) ([]control.Conversation, error) {
	const q = `
		SELECT ` + conversationColumns + ` FROM conversations
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1) AND ($3::uuid IS NULL OR flow_id = $3)
		  AND ($4 = '' OR status = $4) AND ($5 = '' OR channel = $5) AND ($6 = '' OR user_id = $6)
		  AND ($7 = '' OR call_id IN (SELECT c.id FROM calls c WHERE c.tenant_id = current_tenant() AND c.caller = $7))
		  AND ($8::timestamptz IS NULL OR created_at >= $8) AND ($9::timestamptz IS NULL OR created_at < $9)`
	const page = ` ORDER BY id DESC LIMIT $2`
	args := []any{after(f.Page), limit(f.Page), nullable(f.Flow), f.Status, f.Channel, text(f.User), text(f.Caller), nullTime(f.Since), nullTime(f.Until)}
	if len(f.State) == 0 {
		return rows(ctx, s, scanConversation, q+page, args...)
	}
	return rows(ctx, s, scanConversation, q+` AND id IN (SELECT l.id FROM locate_conversations_by_state(current_tenant(), $10::jsonb[]) l)`+page,
		append(args, f.State)...)
}

// History implements [control.ConversationStore].
func (s *Store) History(ctx context.Context, id uuid.UUID, after, most int) ([]control.Entry, error) {
	const q = `
		SELECT revision, node, status, state_hash, event, messages, trace, base, written_at, sealed
		FROM conversation_history WHERE conversation_id = $1 AND revision > $2 ORDER BY revision LIMIT $3`
	var sealed [][]byte
	list, err := rows(ctx, s, func(r pgx.CollectableRow) (control.Entry, error) {
		var e control.Entry
		var b []byte
		err := r.Scan(&e.Revision, &e.Node, &e.Status, &e.Hash, &e.Event, &e.Messages, &e.Trace, &e.Base, &e.At, &b)
		sealed = append(sealed, b)
		e.At = e.At.UTC()
		return e, err
	}, q, id, after, min(max(most, 1), 200))
	if err != nil {
		return nil, err
	}
	for i := range list {
		e := &list[i]
		said := entryText{e.Event, e.Messages, e.Trace, e.Base}
		if err := s.unseal(ctx, entryPlace(id, e.Revision), sealed[i], &said); err != nil {
			return nil, err
		}
		e.Event, e.Messages, e.Trace, e.Base = said.Event, said.Messages, said.Trace, said.Base
	}
	return list, nil
}

// entryText is what of an entry of the history is sealed.
type entryText struct {
	Event    json.RawMessage `json:"event,omitempty"`
	Messages json.RawMessage `json:"messages"`
	Trace    json.RawMessage `json:"trace"`
	Base     json.RawMessage `json:"base,omitempty"`
}

func entryPlace(conversation uuid.UUID, revision int) string {
	return "conversation_history/" + conversation.String() + "/" + strconv.Itoa(revision)
}

// Every write of a revision is one statement: the row c, then its entry. The
// row's trigger writes the events, those that the flow reported last.
const writeEntry = `, h AS (
		INSERT INTO conversation_history (tenant_id, conversation_id, revision, node, status, state_hash, event, messages, trace, base, sealed,
		    entered, no_input, no_match)
		SELECT current_tenant(), @id, @revision, @node, @status, @hash, @event, @messages, @trace, @base, @sealed,
		    @entered, @no_input, @no_match FROM c
		ON CONFLICT (conversation_id, revision) DO NOTHING
	)
	SELECT count(*)::int FROM c`

// revision is what a commit writes, for the statements above.
func (s *Store) revision(ctx context.Context, id uuid.UUID, r control.Revision) (pgx.NamedArgs, error) {
	said := entryText{r.Event, orEmpty(r.Messages), orEmpty(r.Trace), r.Base}
	sealed, err := s.seal(ctx, entryPlace(id, r.Revision), said)
	if err != nil {
		return nil, err
	}
	if sealed != nil {
		said = entryText{Messages: orEmpty(nil), Trace: orEmpty(nil)}
	}
	reported := make([]control.Reported, len(r.Events))
	for i, e := range r.Events {
		reported[i].Type = e.Type
		if reported[i].Data, err = s.sealEvent(ctx, id.String(), e.Type, e.Data); err != nil {
			return nil, err
		}
	}
	return pgx.NamedArgs{"id": id, "revision": r.Revision, "node": r.Node, "status": r.Status, "state": r.State,
		"hash": r.Hash, "event": nullJSON(said.Event), "messages": said.Messages, "trace": said.Trace, "base": nullJSON(said.Base),
		"sealed": sealed, "reported": reported, "entered": texts(r.Entered), "no_input": text(r.NoInput), "no_match": text(r.NoMatch)}, nil
}

func orEmpty(list json.RawMessage) json.RawMessage {
	if len(list) == 0 {
		return json.RawMessage("[]")
	}
	return list
}

func nullJSON(b json.RawMessage) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// WriteCommit implements [control.RecordStore]. The conversation, its history
// and its events change in one statement.
func (s *Store) WriteCommit(ctx context.Context, h control.Hold, c control.Conversation, r control.Revision) error {
	const q = `
		WITH c AS (
			INSERT INTO conversations AS old (id, tenant_id, call_id, channel, flow_id, flow_version_id, pins, revision,
			    current_node, status, state, state_hash, reported)
			SELECT @id, current_tenant(), id, 'voice', @flow, @version, @pins, @revision, @node, @status, @state, @hash, @reported
			FROM calls WHERE id = @call AND generation = @generation
			ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, current_node = excluded.current_node,
			    status = excluded.status, state = excluded.state, state_hash = excluded.state_hash,
			    reported = excluded.reported, updated_at = now()
			WHERE old.revision < excluded.revision
			RETURNING id
		)` + writeEntry
	args, err := s.revision(ctx, c.ID, r)
	if err != nil {
		return fmt.Errorf("write revision %d: %w", r.Revision, err)
	}
	args["call"], args["generation"] = h.Call, h.Generation
	args["flow"], args["version"], args["pins"] = nullable(c.Flow), nullable(c.FlowVersion), pins(c)
	if err := s.held(ctx, h, func(b *pgx.Batch) { b.Queue(q, args) }); err != nil {
		return fmt.Errorf("write revision %d: %w", r.Revision, err)
	}
	s.wrote()
	return nil
}

func pins(c control.Conversation) map[string]uuid.UUID {
	if c.Pins == nil {
		return map[string]uuid.UUID{}
	}
	return c.Pins
}
