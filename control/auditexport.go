package control

import (
	"context"
	"encoding/json"
	"fmt"
)

// An AuditExport is a part of ctx's tenant's trail, for keeping elsewhere.
type AuditExport struct {
	After int64 // the first entry is the next one
	Most  int64 // entries
}

// auditPage is how many entries an export reads at once.
const auditPage = 1000

// Write notes the export itself, and then gives each entry with its seal to
// put, in order. It returns the last seq, and whether that is the end of the
// trail as it was at the beginning; the entry of this export is in it.
func (x AuditExport) Write(ctx context.Context, audit Audit, store AuditSeals, put func(SealedEntry) error) (last int64, all bool, err error) {
	detail, err := json.Marshal(map[string]int64{"after": x.After, "most": x.Most})
	if err != nil {
		return 0, false, fmt.Errorf("export the audit trail: %w", err)
	}
	tenant, _ := TenantOf(ctx)
	if err := audit.Note(ctx, AuditEntry{Action: "audit.export", Object: "tenant:" + tenant.String(), Detail: detail}); err != nil {
		return 0, false, err
	}
	newest, err := audit.AuditTrail(ctx, AuditFilter{Limit: 1})
	if err != nil || len(newest) == 0 {
		return x.After, err == nil, err
	}
	end := newest[0].Seq
	last = x.After
	for left := x.Most; left > 0 && last < end; {
		page, err := store.SealedAudit(ctx, last, int(min(auditPage, left)))
		if err != nil {
			return last, false, err
		}
		for _, e := range page {
			if e.Seq > end {
				return last, true, nil
			}
			if err := put(e); err != nil {
				return last, false, err
			}
			last = e.Seq
			left--
		}
		if len(page) == 0 {
			break
		}
	}
	return last, last >= end, nil
}

// ExportedEntry is a line of an export, in JSON.
type ExportedEntry struct {
	Tenant  string          `json:"tenant_id"`
	Seq     int64           `json:"seq"`
	At      string          `json:"at,omitempty"` // UTC, six digits of a second
	Actor   string          `json:"actor,omitempty"`
	Action  string          `json:"action,omitempty"`
	Object  string          `json:"object,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
	Request string          `json:"request_id,omitempty"`
	MAC     []byte          `json:"mac"`               // base64; null: not sealed yet
	Missing bool            `json:"missing,omitempty"` // the entry itself is gone
}

// Line returns an entry as exports have it.
func (e SealedEntry) Line(tenant string) ExportedEntry {
	x := ExportedEntry{Tenant: tenant, Seq: e.Seq, MAC: e.MAC, Missing: e.Entry == nil}
	if n := e.Entry; n != nil {
		x.At, x.Actor, x.Action, x.Object, x.Detail, x.Request = n.At.UTC().Format(auditTime), n.Actor, n.Action, n.Object, n.Detail, n.Request
	}
	return x
}
