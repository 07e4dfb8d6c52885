package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/ingress"
)

// alert tells of signals of attacks: to the operator by log and metric, and in
// the audit trail of the tenant whose thing it is about.
func (g *gateway) alert(key []byte, metrics *ingress.Metrics) func(context.Context, ingress.Alert) {
	return func(ctx context.Context, a ingress.Alert) {
		metrics.Threat(a.Signal)
		client := ""
		if a.From.IsValid() {
			client = ingress.Pseudonym(key, ingress.Name(ingress.Network(a.From)))
		}
		g.log.Warn("signal of an attack", "signal", a.Signal, "tenant", a.Tenant, "object", a.Object, "client", client,
			"count", a.Count, "blocked", a.Blocked)
		tenant, err := uuid.Parse(a.Tenant)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(control.WithTenant(context.WithoutCancel(ctx), tenant), 2*time.Second)
		defer cancel()
		detail, err := json.Marshal(map[string]any{"client": client, "count": a.Count, "blocked_seconds": int(a.Blocked.Seconds())})
		if err == nil {
			err = g.db.Note(ctx, control.AuditEntry{Action: "threat." + string(a.Signal), Object: a.Object, Detail: detail})
		}
		if err != nil {
			g.log.Error("a signal is not in the audit trail", "signal", a.Signal, "error", err)
		}
	}
}
