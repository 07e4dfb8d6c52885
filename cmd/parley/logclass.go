package main

import (
	"context"
	"log/slog"

	"parley/control"
	"parley/control/class"
)

// logMost is the highest class that logs take.
const logMost = class.Internal

// logKeys is what the program logs, and of what class it is. What is not here
// is masked, and a test finds what our own code forgets.
var logKeys = map[string]class.Class{
	// Counts, durations and fixed words.
	"bytes": class.Public, "calls": class.Public, "heads": class.Public, "lines": class.Public, "method": class.Public,
	"ms": class.Public, "number": class.Public, "of": class.Public, "read": class.Public, "records": class.Public,
	"revision": class.Public, "status": class.Public, "tenants": class.Public, "tokens": class.Public, "version": class.Public,
	"had": class.Public, "lease": class.Public, "left": class.Public, "within": class.Public, "has": class.Public, "first": class.Public,
	"blocked": class.Public, "class": class.Public, "count": class.Public, "name": class.Public, "rule": class.Public,
	"safe": class.Public, "signal": class.Public, "tls": class.Public,

	// Ids, names of things, our own addresses and errors; of clients, pseudonyms.
	"client": class.Internal, "object": class.Internal, "code": class.Internal, "dial": class.Internal,
	"address": class.Internal, "agent": class.Internal, "budget": class.Internal, "by": class.Internal, "call": class.Internal, "call_id": class.Internal,
	"call_sid": class.Internal, "carrier": class.Internal, "carrier_call": class.Internal, "carrier_account": class.Internal, "conversation": class.Internal,
	"delivery": class.Internal, "dir": class.Internal, "err": class.Internal, "error": class.Internal, "event": class.Internal,
	"file": class.Internal, "flow": class.Internal, "folder": class.Internal, "grant": class.Internal, "hash": class.Internal, "host": class.Internal, "key": class.Internal, "kind": class.Internal,
	"last": class.Internal, "listen": class.Internal, "mac": class.Internal, "node": class.Internal, "panic": class.Internal, "provider": class.Internal,
	"public_url": class.Internal, "reason": class.Internal, "record": class.Internal, "request": class.Internal,
	"route": class.Internal, "run": class.Internal, "session": class.Internal, "stack": class.Internal, "template": class.Internal,
	"tenant": class.Internal, "user": class.Internal, "vendor": class.Internal, "webhook": class.Internal, "why": class.Internal, "words": class.Internal,

	// Of people.
	"peer": class.Personal, "to": class.Personal,
}

// metricLabels are all labels that metrics may have: fixed words, never of a
// tenant, a call or a person.
var metricLabels = map[string]class.Class{
	"action": class.Public, "at": class.Public, "by": class.Public, "class": class.Public, "rule": class.Public, "signal": class.Public, "status": class.Public,
	"carrier": class.Public, "interrupted": class.Public, "kind": class.Public, "outcome": class.Public,
	"reason": class.Public, "result": class.Public, "route": class.Public, "speaker": class.Public, "state": class.Public, "step": class.Public,
	"unit": class.Public, "vendor": class.Public, "verdict": class.Public, "what": class.Public,
}

// fromContext is what is known of a record by what it is part of.
func fromContext(ctx context.Context) (attrs []slog.Attr) {
	if id := control.RequestOf(ctx); id != "" {
		attrs = append(attrs, slog.String("request", id))
	}
	if t, ok := control.TenantOf(ctx); ok {
		attrs = append(attrs, slog.String("tenant", t.String()))
	}
	return attrs
}
