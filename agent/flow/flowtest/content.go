package flowtest

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"parley/agent/flow"
)

// A shelf stands in for a tenant's content, by id. It implements
// [effect.Contents].
type shelf map[string]standIn

// A standIn is one content. Without a status it is published.
type standIn struct {
	Type     string         `json:"type"`
	Content  any            `json:"content"`
	Tags     []string       `json:"tags"`
	Locale   string         `json:"locale"`
	Status   string         `json:"status"`
	Weight   *int           `json:"weight"`
	Variants []flow.Variant `json:"variants"`
}

// UnmarshalJSON implements [json.Unmarshaler]; numbers stay as they are written.
func (c *standIn) UnmarshalJSON(b []byte) error {
	type plain standIn
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode((*plain)(c))
}

func (c standIn) published() bool { return c.Status == "" || strings.EqualFold(c.Status, "published") }

// Candidates implements [effect.Contents].
func (s shelf) Candidates(_ context.Context, w flow.Want) ([]string, error) {
	locales := map[string]string{}
	for id, c := range s {
		if !c.published() || w.Type != "" && !strings.EqualFold(c.Type, w.Type) {
			continue
		}
		if slices.ContainsFunc(w.Tags, func(tag string) bool {
			return !slices.ContainsFunc(c.Tags, func(has string) bool { return strings.EqualFold(has, tag) })
		}) {
			continue
		}
		locales[id] = c.Locale
	}
	return flow.InLocale(locales, w.Locale), nil
}

// Contents implements [effect.Contents].
func (s shelf) Contents(_ context.Context, ids []string) ([]flow.Content, error) {
	var out []flow.Content
	for _, id := range ids {
		if c, ok := s[id]; ok && c.published() {
			out = append(out, flow.Content{ID: id, Type: c.Type, Content: c.Content, Weight: c.Weight, Variants: c.Variants})
		}
	}
	return out, nil
}
