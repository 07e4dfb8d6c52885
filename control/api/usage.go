package api

import (
	"context"
	"encoding/csv"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A Ledger is what the routes of records, usage and cost read.
type Ledger interface {
	control.UsageStore
	control.CallSearch
	control.AfterworkStore
	control.CallMeasures
	control.Recordings
}

type moneyJSON struct {
	Currency string `json:"currency" doc:"ISO 4217."`
	Micros   int64  `json:"micros" doc:"Millionths of the currency's unit."`
}

func newMoneyJSON(all []control.Money) []moneyJSON {
	out := make([]moneyJSON, len(all))
	for i, m := range all {
		out[i] = moneyJSON(m)
	}
	return out
}

func (s *Server) usage() error {
	if s.o.Ledger == nil {
		return nil
	}
	export := reads("/v1/usage/export", control.BillingRead)
	export.Summary, export.Media = "Usage as CSV, asked for as /v1/usage is; at most 1000 rows", "text/csv"
	return errors.Join(
		operation(s, reads("/v1/usage", control.BillingRead), "get-usage", "What was used and what it cost", 200, s.getUsage),
		s.Handle(export, http.HandlerFunc(s.exportUsage)),
		operation(s, reads("/v1/calls/{id}/usage", control.BillingRead), "get-call-usage", "The ledger of a call", 200, s.callUsage),
		operation(s, reads("/v1/prices", control.BillingRead), "list-prices", "The tenant's own prices, newest first", 200, s.listPrices),
		operation(s, reads("/v1/prices/built-in", control.BillingRead), "list-built-in-prices", "Examples of list prices, to be replaced by your own", 200, s.builtInPrices),
		operation(s, writes("POST", "/v1/prices", control.BillingWrite, 4<<10), "create-price", "Add a price, from a time on", 201, s.createPrice),
	)
}

type usageIn struct {
	From   time.Time `query:"from" doc:"Default: 30 days ago."`
	To     time.Time `query:"to" doc:"Default: now."`
	By     string    `query:"by" default:"day" doc:"day (in UTC), agent, vendor, kind: any of them, with commas."`
	Agent  uuid.UUID `query:"agent_id"`
	Vendor string    `query:"vendor" maxLength:"100"`
	Limit  int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After  string    `query:"after" maxLength:"400" doc:"The next of the page before."`
}

type usageJSON struct {
	Day     string     `json:"day,omitempty"`
	AgentID *uuid.UUID `json:"agent_id,omitempty"`
	Vendor  string     `json:"vendor,omitempty"`
	Model   string     `json:"model,omitempty"`
	Kind    string     `json:"kind,omitempty"`
	Amount  int64      `json:"amount,omitempty" doc:"In the kind's unit; only by kind."`
	Entries int64      `json:"entries"`
	Cost    *moneyJSON `json:"cost,omitempty" doc:"Absent: there was no price."`
}

func newUsageJSON(r control.UsageRow) usageJSON {
	out := usageJSON{AgentID: someID(r.Agent), Vendor: r.Vendor, Model: r.Model, Kind: r.Kind, Amount: r.Amount, Entries: r.Entries}
	if !r.Day.IsZero() {
		out.Day = r.Day.Format(time.DateOnly)
	}
	if r.Cost.Currency != "" {
		m := moneyJSON(r.Cost)
		out.Cost = &m
	}
	return out
}

// query validates what is asked for.
func (in usageIn) query(now time.Time) (control.UsageQuery, error) {
	q := control.UsageQuery{From: in.From, To: in.To, Agent: in.Agent, Vendor: in.Vendor, After: in.After, Limit: in.Limit}
	if q.To.IsZero() {
		q.To = now
	}
	if q.From.IsZero() {
		q.From = q.To.AddDate(0, 0, -30)
	}
	if !q.From.Before(q.To) || q.To.Sub(q.From) > 400*24*time.Hour {
		return q, control.Invalidf("from", "must lie before to, by 400 days at most")
	}
	known := []string{control.UsageByDay, control.UsageByAgent, control.UsageByVendor, control.UsageByKind}
	for _, by := range strings.Split(in.By, ",") {
		by = strings.TrimSpace(by)
		if by == "" {
			continue
		}
		if !slices.Contains(known, by) || slices.Contains(q.By, by) {
			return q, control.Invalidf("by", "must be day, agent, vendor or kind, each once, with commas between")
		}
		q.By = append(q.By, by)
	}
	return q, nil
}

func (s *Server) getUsage(ctx context.Context, in *usageIn) (*listOut[usageJSON], error) {
	q, err := in.query(time.Now())
	if err != nil {
		return nil, err
	}
	rows, err := s.o.Ledger.Usage(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &listOut[usageJSON]{Body: list[usageJSON]{Items: []usageJSON{}}}
	for _, r := range rows {
		out.Body.Items = append(out.Body.Items, newUsageJSON(r))
	}
	if n := len(rows); n == q.Limit && n > 0 {
		out.Body.Next = rows[n-1].Key
	}
	return out, nil
}

// exportUsage answers the same as a table.
func (s *Server) exportUsage(w http.ResponseWriter, r *http.Request) {
	rows, err := s.usageRows(r.Context(), r.URL.Query())
	if err != nil {
		s.problem(r.Context(), err).write(w)
		return
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="usage.csv"`)
	c := csv.NewWriter(w)
	_ = c.Write([]string{"day", "agent_id", "vendor", "model", "kind", "amount", "entries", "currency", "cost_micros"})
	for _, row := range rows {
		j := newUsageJSON(row)
		agentID := ""
		if j.AgentID != nil {
			agentID = j.AgentID.String()
		}
		_ = c.Write([]string{j.Day, agentID, cell(j.Vendor), cell(j.Model), j.Kind, strconv.FormatInt(j.Amount, 10),
			strconv.FormatInt(j.Entries, 10), row.Cost.Currency, strconv.FormatInt(row.Cost.Micros, 10)})
	}
	c.Flush()
}

// cell keeps a spreadsheet from taking a text for a formula.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func (s *Server) usageRows(ctx context.Context, v url.Values) ([]control.UsageRow, error) {
	in := usageIn{By: "day", Vendor: v.Get("vendor"), After: v.Get("after"), Limit: 1000}
	if v.Has("by") {
		in.By = v.Get("by")
	}
	var err error
	for name, at := range map[string]*time.Time{"from": &in.From, "to": &in.To} {
		if text := v.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				return nil, control.Invalidf(name, "must be a time, as in 2026-01-31T00:00:00Z")
			}
		}
	}
	if text := v.Get("agent_id"); text != "" {
		if in.Agent, err = uuid.Parse(text); err != nil {
			return nil, control.Invalidf("agent_id", "must be an agent's id")
		}
	}
	if len(in.Vendor) > 100 || len(in.After) > 400 {
		return nil, control.Invalidf("after", "is too long")
	}
	q, err := in.query(time.Now())
	if err != nil {
		return nil, err
	}
	return s.o.Ledger.Usage(ctx, q)
}

type entryUsageJSON struct {
	Turn      int        `json:"turn" doc:"Index; -1: of none, -2: after the call."`
	Kind      string     `json:"kind"`
	Vendor    string     `json:"vendor"`
	Model     string     `json:"model,omitempty"`
	Amount    int64      `json:"amount"`
	Estimated bool       `json:"estimated,omitempty" doc:"The vendor did not tell."`
	Cost      *moneyJSON `json:"cost,omitempty" doc:"Absent: there was no price."`
	Price     string     `json:"price,omitempty" doc:"Which: an id, or the version of the built-in list."`
	At        time.Time  `json:"at"`
}

func (s *Server) callUsage(ctx context.Context, in *CallPath) (*listOut[entryUsageJSON], error) {
	if _, err := s.o.Calls.Store.Call(ctx, in.ID); err != nil {
		return nil, err
	}
	entries, err := s.o.Ledger.CallUsage(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := &listOut[entryUsageJSON]{Body: list[entryUsageJSON]{Items: []entryUsageJSON{}}}
	for _, e := range entries {
		j := entryUsageJSON{e.Turn, e.Kind, e.Vendor, e.Model, e.Amount, e.Estimated, nil, e.Price, e.At}
		if e.Cost.Currency != "" {
			m := moneyJSON(e.Cost)
			j.Cost = &m
		}
		out.Body.Items = append(out.Body.Items, j)
	}
	return out, nil
}

type priceJSON struct {
	ID        *uuid.UUID `json:"id,omitempty" doc:"Absent: built in."`
	Kind      string     `json:"kind"`
	Vendor    string     `json:"vendor"`
	Model     string     `json:"model,omitempty" doc:"Absent: any that has no price of its own."`
	Currency  string     `json:"currency"`
	Micros    int64      `json:"micros" doc:"Millionths of the currency's unit, for so many units."`
	Per       int64      `json:"per"`
	Increment int64      `json:"increment" doc:"Amounts are rounded up to a multiple of it."`
	ValidFrom *time.Time `json:"valid_from,omitempty"`
	Source    string     `json:"source,omitempty" doc:"Built in: the vendor's page."`
	List      string     `json:"list,omitempty" doc:"Built in: the version of the list."`
}

func newPriceJSON(p control.Price) priceJSON {
	return priceJSON{someID(p.ID), p.Kind, p.Vendor, p.Model, p.Currency, p.Micros, p.Per, p.Increment, when(p.ValidFrom), p.Source, p.List}
}

func (s *Server) listPrices(ctx context.Context, in *PageQuery) (*listOut[priceJSON], error) {
	rows, err := s.o.Ledger.OwnPrices(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newPriceJSON, func(p control.Price) uuid.UUID { return p.ID }), nil
}

func (s *Server) builtInPrices(context.Context, *struct{}) (*listOut[priceJSON], error) {
	prices, err := control.BuiltInPrices()
	if err != nil {
		return nil, err
	}
	out := &listOut[priceJSON]{Body: list[priceJSON]{Items: []priceJSON{}}}
	for _, p := range prices {
		out.Body.Items = append(out.Body.Items, newPriceJSON(p))
	}
	return out, nil
}

func (s *Server) createPrice(ctx context.Context, in *struct {
	Body struct {
		Kind      string    `json:"kind" doc:"As in the ledger: stt_ms, tts_characters, llm_input_tokens, carrier_ms, …"`
		Vendor    string    `json:"vendor"`
		Model     string    `json:"model,omitempty"`
		Currency  string    `json:"currency"`
		Micros    int64     `json:"micros"`
		Per       int64     `json:"per"`
		Increment int64     `json:"increment,omitempty" doc:"Default 1."`
		ValidFrom time.Time `json:"valid_from,omitzero" doc:"Default: now. Not in the past."`
	}
}) (*reply[priceJSON], error) {
	b, now := in.Body, time.Now().UTC().Truncate(time.Microsecond)
	p := control.Price{ID: control.NewID(), Kind: b.Kind, Vendor: b.Vendor, Model: b.Model, Currency: b.Currency,
		Micros: b.Micros, Per: b.Per, Increment: max(b.Increment, 1), ValidFrom: b.ValidFrom.UTC()}
	if b.ValidFrom.IsZero() {
		p.ValidFrom = now
	}
	if err := p.Validate(now); err != nil {
		return nil, err
	}
	if err := s.o.Ledger.InsertPrice(ctx, p); err != nil {
		return nil, err
	}
	return &reply[priceJSON]{newPriceJSON(p)}, nil
}
