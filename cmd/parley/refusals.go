package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"parley/agent/effect"
	"parley/control"
	"parley/control/egress"
)

// refusals notes requests to addresses that a tenant may not reach, by name,
// redirect or rebinding alike. The address itself is for the operator's log: who
// may name hosts must not map the network by it. Where storage is away the log
// has all there is.
func refusals(audit control.Audit, log *slog.Logger) func(context.Context, *egress.Refusal) {
	return func(ctx context.Context, r *egress.Refusal) {
		host := effect.Redact(ctx, r.Host)
		log.Warn("outbound request refused", "reason", r.Reason, "host", host, "address", r.Addr)
		if _, ok := control.TenantOf(ctx); !ok || audit == nil || r.Reason != egress.ReasonAddress {
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
