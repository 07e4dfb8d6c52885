package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/egress"
)

// budgetWindow is the time that budgets of flows and tenants are for.
const budgetWindow = time.Hour

// bounds are what flows and tenants may spend on calls in an hour. What one
// conversation may spend, its flow says.
type bounds struct {
	flow, tenant egress.Amount
	meter        egress.Meter // nil: nothing is bound
}

// readBounds reads the settings.
func readBounds(s Settings, m egress.Meter) (b bounds, err error) {
	b.meter = &egress.LocalMeter{Shared: m}
	if b.flow, err = parseAmount(s.BudgetFlow); err != nil {
		return b, fmt.Errorf("PARLEY_BUDGET_FLOW: %w", err)
	}
	if b.tenant, err = parseAmount(s.BudgetTenant); err != nil {
		return b, fmt.Errorf("PARLEY_BUDGET_TENANT: %w", err)
	}
	return b, nil
}

// parseAmount reads "calls=1000,bytes=1000000,seconds=600", in any order.
func parseAmount(s string) (a egress.Amount, err error) {
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, value, _ := strings.Cut(part, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n <= 0 || n > 1<<50 {
			return a, fmt.Errorf("%q is not one such as calls=1000", part)
		}
		switch name {
		case "calls":
			a.Calls = n
		case "bytes":
			a.Bytes = n
		case "seconds":
			a.Time = time.Duration(min(n, 1<<31)) * time.Second
		default:
			return a, fmt.Errorf("%q: there are calls, bytes and seconds", part)
		}
	}
	return a, nil
}

// budgets are those that a conversation's calls are paid from. One that binds
// nobody is not kept.
func (b bounds) budgets(ctx context.Context, tenant uuid.UUID) (list []egress.Budget) {
	add := func(name string, id uuid.UUID, most egress.Amount) {
		if b.meter != nil && most != (egress.Amount{}) && id != uuid.Nil {
			list = append(list, egress.Budget{Name: name, Key: name + ":" + id.String(), Window: budgetWindow, Most: most, Meter: b.meter})
		}
	}
	party, _ := control.PartyOf(ctx)
	add("flow", party.Flow, b.flow)
	add("tenant", tenant, b.tenant)
	return list
}
