package api

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"parley/control"
)

// auditJSON is an entry of the audit trail.
type auditJSON struct {
	Seq     int64           `json:"seq" doc:"Counts from 1 in the tenant, without a gap."`
	At      time.Time       `json:"at"`
	Actor   string          `json:"actor" doc:"user:id, key:id, or system."`
	Action  string          `json:"action" doc:"Such as flow.publish, session.delete, egress.refuse."`
	Object  string          `json:"object" doc:"Such as flow:id."`
	Detail  json.RawMessage `json:"detail"`
	Request string          `json:"request_id,omitempty" doc:"As X-Request-Id answered it."`
}

func (s *Server) audit() error {
	return operation(s, reads("/v1/audit", control.AuditRead), "list-audit", "Who did what, newest first", 200, s.listAudit)
}

func (s *Server) listAudit(ctx context.Context, in *struct {
	Limit  int       `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After  int64     `query:"after" minimum:"0" doc:"The next of the page before."`
	Actor  string    `query:"actor" maxLength:"100"`
	Action string    `query:"action" maxLength:"100" doc:"Whole, or its first part: flow."`
	Object string    `query:"object" maxLength:"200"`
	Since  time.Time `query:"since"`
	Until  time.Time `query:"until" doc:"Not included."`
}) (*listOut[auditJSON], error) {
	entries, err := s.o.Audit.AuditTrail(ctx, control.AuditFilter{Before: in.After, Limit: in.Limit, Actor: in.Actor,
		Action: in.Action, Object: in.Object, Since: in.Since, Until: in.Until})
	if err != nil {
		return nil, err
	}
	out := &listOut[auditJSON]{Body: list[auditJSON]{Items: make([]auditJSON, len(entries))}}
	for i, e := range entries {
		out.Body.Items[i] = auditJSON(e)
	}
	if n := len(entries); n > 0 && n == in.Limit {
		out.Body.Next = strconv.FormatInt(entries[n-1].Seq, 10)
	}
	return out, nil
}
