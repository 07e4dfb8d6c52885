package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

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
	export := Route{Method: "GET", Pattern: "/v1/audit/export", Class: Tenanted, Permission: control.AuditRead,
		Limit: Limit{10, time.Minute}, Body: NoBody, Long: true, StepUp: true, Summary: "The audit trail with its seals, a JSON object a line", Media: "application/x-ndjson"}
	return errors.Join(
		operation(s, reads("/v1/audit", control.AuditRead), "list-audit", "Who did what, newest first", 200, s.listAudit),
		operation(s, reads("/v1/audit/head", control.AuditRead), "get-audit-head", "Where the audit trail ends, and its newest seal", 200, s.auditHead),
		s.Handle(export, http.HandlerFunc(s.exportAudit)),
		s.egress(),
	)
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

// Bounds of an export.
const (
	exportMost  = 100_000 // entries, unless asked for fewer
	exportStuck = 10 * time.Second
	exportLife  = 10 * time.Minute
)

// exportAudit answers GET /v1/audit/export?after=&limit=. Its last line tells
// whether it is whole: {"complete":true,"last":1234}. One without such a line
// was cut.
func (s *Server) exportAudit(w http.ResponseWriter, r *http.Request) {
	x := control.AuditExport{Most: exportMost}
	for name, field := range map[string]*int64{"after": &x.After, "limit": &x.Most} {
		v := r.URL.Query().Get(name)
		if v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 || name == "limit" && (n < 1 || n > exportMost) {
			s.problem(r.Context(), control.Invalidf(name, "must be a number from 0, a limit from 1 to %d", exportMost)).write(w)
			return
		}
		*field = n
	}
	ctx, cancel := context.WithTimeout(r.Context(), exportLife)
	defer cancel()
	tenant, _ := control.TenantOf(ctx)
	out, begun := json.NewEncoder(w), false
	to := http.NewResponseController(w)
	begin := func() {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.Header().Set("Content-Disposition", `attachment; filename="audit.ndjson"`)
			begun = true
		}
	}
	n := 0
	last, all, err := x.Write(ctx, s.o.Audit, s.o.Seals, func(e control.SealedEntry) error {
		begin()
		if n++; n%500 == 1 { // as many lines as are written at once
			if err := to.SetWriteDeadline(time.Now().Add(exportStuck)); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
		}
		return out.Encode(e.Line(tenant.String()))
	})
	switch {
	case err != nil && !begun:
		s.problem(ctx, err).write(w)
	case err != nil:
		s.o.Log.WarnContext(ctx, "an export of the audit trail was cut", "request", control.RequestOf(ctx), "error", err)
	default:
		begin()
		_ = out.Encode(map[string]any{"complete": all, "last": last}) // the client is gone, or it is not
	}
}

// auditHeadJSON is where a trail ends. Who keeps it can tell later whether the
// trail was cut or written anew.
type auditHeadJSON struct {
	Entries int64  `json:"entries"`
	Sealed  int64  `json:"sealed" doc:"The newest entry with a seal; others follow within a second."`
	MAC     []byte `json:"mac" doc:"That seal, base64."`
}

func (s *Server) auditHead(ctx context.Context, _ *struct{}) (*reply[auditHeadJSON], error) {
	tenant, _ := control.TenantOf(ctx)
	var out auditHeadJSON
	newest, err := s.o.Audit.AuditTrail(ctx, control.AuditFilter{Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(newest) > 0 {
		out.Entries = newest[0].Seq
	}
	heads, err := s.o.Seals.AuditHeads(ctx, []uuid.UUID{tenant})
	if len(heads) > 0 {
		out.Sealed, out.MAC = heads[0].Seq, heads[0].MAC
	}
	return &reply[auditHeadJSON]{out}, err
}

// playFor is how long asking again for what one listens to, in whatever ranges,
// is the same play.
const playFor = 10 * time.Minute

// notePlay has the trail tell that a recording is listened to, before any of
// it is: without that, nobody hears it.
func (s *Server) notePlay(ctx context.Context, object string) error {
	e := control.AuditEntry{Action: "recording.play", Object: object}
	had, err := s.o.Audit.AuditTrail(ctx, control.AuditFilter{Limit: 1, Actor: control.ActorOf(ctx), Action: e.Action,
		Object: object, Since: time.Now().Add(-playFor)})
	if err != nil || len(had) > 0 {
		return err
	}
	return s.o.Audit.Note(ctx, e)
}
