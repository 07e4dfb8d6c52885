package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/control"
	"parley/control/egress"
)

// refusals notes requests to where a tenant may not call: to inside, by name,
// redirect or rebinding alike, and to hosts that are not listed. The address
// itself is for the operator's log: who may name hosts must not map the network
// by it. Where storage is away the log has all there is. What a flow tries over
// and over is one entry a minute.
func refusals(audit control.Audit, log *slog.Logger) func(context.Context, *egress.Refusal) {
	lately := &recent{while: time.Minute}
	return func(ctx context.Context, r *egress.Refusal) {
		host := effect.Redact(ctx, r.Host)
		log.WarnContext(ctx, "outbound request refused", "reason", r.Reason, "host", host, "address", r.Addr)
		tenant, ok := control.TenantOf(ctx)
		if !ok || audit == nil || r.Reason != egress.ReasonAddress && r.Reason != egress.ReasonHost {
			return
		}
		if !lately.first(refusedAt{tenant, r.Reason, host}) {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		detail, err := json.Marshal(map[string]string{"reason": r.Reason})
		if err == nil {
			err = audit.Note(ctx, control.AuditEntry{Action: "egress.refuse", Object: "host:" + host, Detail: detail})
		}
		if err != nil {
			log.Error("a refused request is not in the audit trail", "host", host, "error", err)
		}
	}
}

// refusedAt is what counts as the same refusal.
type refusedAt struct {
	tenant       uuid.UUID
	reason, host string
}

// maxRecent bounds what is remembered; beyond, all is forgotten.
const maxRecent = 10_000

// recent tells what it is told for the first time in a while.
type recent struct {
	while time.Duration

	mu    sync.Mutex
	until map[refusedAt]time.Time
}

func (r *recent) first(what refusedAt) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Before(r.until[what]) {
		return false
	}
	if r.until == nil || len(r.until) >= maxRecent {
		r.until = map[refusedAt]time.Time{}
	}
	r.until[what] = now.Add(r.while)
	return true
}
