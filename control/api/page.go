package api

import (
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// PageQuery is how every list is asked for; exported for huma, which fills it.
type PageQuery struct {
	Limit int       `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After uuid.UUID `query:"after" doc:"The next of the page before."`
}

func (p PageQuery) page() control.Page { return control.Page{After: p.After, Limit: p.Limit} }

type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Send it as after for the next page; absent on the last."`
}

type listOut[T any] struct{ Body list[T] }

// newList converts rows; a full page has a next one.
func newList[R, T any](in PageQuery, rows []R, convert func(R) T, id func(R) uuid.UUID) *listOut[T] {
	out := &listOut[T]{Body: list[T]{Items: make([]T, len(rows))}}
	for i, r := range rows {
		out.Body.Items[i] = convert(r)
	}
	if n := len(rows); n > 0 && n == in.page().Limit {
		out.Body.Next = id(rows[n-1]).String()
	}
	return out
}

type reply[T any] struct{ Body T }

// when is null for a time that has not come.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// reads and writes are the usual routes of a tenant.
func reads(pattern string, p control.Permission) Route {
	return Route{Method: "GET", Pattern: pattern, Class: Tenanted, Permission: p, Limit: Limit{600, time.Minute}, Body: NoBody}
}

func writes(method, pattern string, p control.Permission, body int64) Route {
	return Route{Method: method, Pattern: pattern, Class: Tenanted, Permission: p, Limit: Limit{120, time.Minute}, Body: body}
}
