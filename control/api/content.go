package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// maxContent is the largest body of a content, and a little for what is around.
const maxContent = 24 << 10

type contentJSON struct {
	ID        uuid.UUID       `json:"id"`
	Type      string          `json:"type" enum:"joke,fact,question,quote,message,prompt"`
	Content   json.RawMessage `json:"content" doc:"A text, or an object as docs/content.md has it."`
	Tags      []string        `json:"tags"`
	Locale    string          `json:"locale" doc:"BCP 47; empty for any."`
	Status    string          `json:"status" enum:"draft,published,archived"`
	Weight    int             `json:"weight" doc:"Of the content itself beside its variants."`
	Revision  int             `json:"revision"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
}

func newContentJSON(c control.Content) contentJSON {
	return contentJSON{c.ID, c.Type, c.Body, c.Tags, c.Locale, c.Status, c.Weight, c.Revision, c.CreatedAt, c.UpdatedAt}
}

type contentOut struct {
	ETag string `header:"ETag"`
	Body contentJSON
}

func newContentOut(c control.Content) *contentOut {
	return &contentOut{etag(c.Revision), newContentJSON(c)}
}

type variantJSON struct {
	ID         uuid.UUID       `json:"id"`
	ContentID  uuid.UUID       `json:"content_id"`
	Key        string          `json:"variant_key"`
	Data       json.RawMessage `json:"variant_data" doc:"Lies over the content's own."`
	Weight     int             `json:"weight"`
	Conditions json.RawMessage `json:"conditions,omitempty" doc:"Who may be shown it: a test as of a condition node, or CEL."`
	Revision   int             `json:"revision"`
	CreatedAt  time.Time       `json:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at"`
}

func newVariantJSON(v control.Variant) variantJSON {
	return variantJSON{v.ID, v.Content, v.Key, v.Data, v.Weight, v.Conditions, v.Revision, v.CreatedAt, v.UpdatedAt}
}

type variantOut struct {
	ETag string `header:"ETag"`
	Body variantJSON
}

func newVariantOut(v control.Variant) *variantOut {
	return &variantOut{etag(v.Revision), newVariantJSON(v)}
}

// ContentPath names a content in a route; exported for huma, which fills it.
type ContentPath struct {
	Content uuid.UUID `path:"content"`
}

// VariantPath names a variant in a route; exported for huma.
type VariantPath struct {
	ContentPath
	Variant uuid.UUID `path:"variant"`
}

func (s *Server) contents() error {
	read, write := control.ContentRead, control.ContentWrite
	const all, one = "/v1/content", "/v1/content/{content}"
	const variants, variant = one + "/variants", one + "/variants/{variant}"
	return errors.Join(
		operation(s, reads(all, read), "list-content", "List or search content", 200, s.listContent),
		operation(s, reads(one, read), "get-content", "Get a content", 200, s.getContent),
		operation(s, writes("POST", all, write, maxContent), "create-content", "Create a content", 201, s.createContent),
		operation(s, writes("PATCH", one, write, maxContent), "change-content", "Change a content", 200, s.changeContent),
		operation(s, writes("POST", one+"/archive", write, NoBody), "archive-content", "Take a content out of use", 200, s.archiveContent),
		operation(s, reads(variants, read), "list-content-variants", "List variants", 200, s.listVariants),
		operation(s, reads(variant, read), "get-content-variant", "Get a variant", 200, s.getVariant),
		operation(s, writes("POST", variants, write, maxContent), "create-content-variant", "Add a variant", 201, s.createVariant),
		operation(s, writes("PATCH", variant, write, maxContent), "change-content-variant", "Change a variant", 200, s.changeVariant),
		operation(s, writes("DELETE", variant, write, NoBody), "delete-content-variant", "Remove a variant", 204, s.deleteVariant),
		s.experiments(),
	)
}

func (s *Server) listContent(ctx context.Context, in *struct {
	PageQuery
	Type   string   `query:"type" enum:"joke,fact,question,quote,message,prompt"`
	Kind   string   `query:"kind" enum:"joke,fact,question,quote,message,prompt" doc:"The same as type."`
	Tag    []string `query:"tag,explode" maxItems:"20" doc:"Has all of these."`
	Locale string   `query:"locale" maxLength:"35" doc:"\"en\" finds \"en-US\" too."`
	Status string   `query:"status" enum:"draft,published,archived"`
	Query  string   `query:"q" maxLength:"200" doc:"Words: two of them, or, \"together\", -without."`
}) (*listOut[contentJSON], error) {
	if in.Type == "" {
		in.Type = in.Kind
	}
	rows, err := s.o.Contents.List(ctx, control.ContentFilter{Page: in.page(), Type: in.Type, Tags: in.Tag, Locale: in.Locale, Status: in.Status, Query: in.Query})
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, rows, newContentJSON, func(c control.Content) uuid.UUID { return c.ID }), nil
}

func (s *Server) getContent(ctx context.Context, in *ContentPath) (*contentOut, error) {
	c, err := s.o.Contents.Store.Content(ctx, in.Content)
	if err != nil {
		return nil, err
	}
	return newContentOut(c), nil
}

func (s *Server) createContent(ctx context.Context, in *struct {
	Body struct {
		Type    string          `json:"type" enum:"joke,fact,question,quote,message,prompt"`
		Content json.RawMessage `json:"content"`
		Tags    []string        `json:"tags,omitempty" maxItems:"20"`
		Locale  string          `json:"locale,omitempty" maxLength:"35"`
		Status  string          `json:"status,omitempty" enum:"draft,published,archived" doc:"Default draft: flows show published content only."`
		Weight  *int            `json:"weight,omitempty" minimum:"0" maximum:"1000000" doc:"Default 100."`
	}
}) (*contentOut, error) {
	b := in.Body
	c, err := s.o.Contents.Create(ctx, control.Content{Type: b.Type, Body: b.Content, Tags: b.Tags, Locale: b.Locale, Status: b.Status, Weight: weight(b.Weight)})
	if err != nil {
		return nil, err
	}
	return newContentOut(c), nil
}

func weight(w *int) int {
	if w == nil {
		return 100
	}
	return *w
}

func (s *Server) changeContent(ctx context.Context, in *struct {
	ContentPath
	Match
	Body struct {
		Type    *string         `json:"type,omitempty" enum:"joke,fact,question,quote,message,prompt"`
		Content json.RawMessage `json:"content,omitempty" doc:"Replaces all of it."`
		Tags    *[]string       `json:"tags,omitempty" maxItems:"20"`
		Locale  *string         `json:"locale,omitempty" maxLength:"35"`
		Status  *string         `json:"status,omitempty" enum:"draft,published,archived"`
		Weight  *int            `json:"weight,omitempty" minimum:"0" maximum:"1000000"`
	}
}) (*contentOut, error) {
	return s.updateContent(ctx, in.ContentPath, in.Match, func(c *control.Content) {
		b := in.Body
		set(&c.Type, b.Type)
		set(&c.Tags, b.Tags)
		set(&c.Locale, b.Locale)
		set(&c.Status, b.Status)
		set(&c.Weight, b.Weight)
		if len(b.Content) > 0 {
			c.Body = b.Content
		}
	})
}

func (s *Server) archiveContent(ctx context.Context, in *struct {
	ContentPath
	Match
}) (*contentOut, error) {
	return s.updateContent(ctx, in.ContentPath, in.Match, func(c *control.Content) { c.Status = control.ContentArchived })
}

func (s *Server) updateContent(ctx context.Context, path ContentPath, match Match, change func(*control.Content)) (*contentOut, error) {
	c, err := s.o.Contents.Store.Content(ctx, path.Content)
	if err != nil {
		return nil, err
	}
	revision, err := match.revision()
	if err != nil {
		return nil, err
	}
	if revision != 0 {
		c.Revision = revision
	}
	change(&c)
	if c, err = s.o.Contents.Update(ctx, c); err != nil {
		return nil, match.matched(err)
	}
	return newContentOut(c), nil
}

func (s *Server) listVariants(ctx context.Context, in *ContentPath) (*listOut[variantJSON], error) {
	if _, err := s.o.Contents.Store.Content(ctx, in.Content); err != nil {
		return nil, err
	}
	rows, err := s.o.Contents.Store.Variants(ctx, in.Content)
	if err != nil {
		return nil, err
	}
	out := &listOut[variantJSON]{Body: list[variantJSON]{Items: []variantJSON{}}}
	for _, v := range rows { // they are few: one page
		out.Body.Items = append(out.Body.Items, newVariantJSON(v))
	}
	return out, nil
}

func (s *Server) getVariant(ctx context.Context, in *VariantPath) (*variantOut, error) {
	v, err := s.o.Contents.Store.Variant(ctx, in.Content, in.Variant)
	if err != nil {
		return nil, err
	}
	return newVariantOut(v), nil
}

func (s *Server) createVariant(ctx context.Context, in *struct {
	ContentPath
	Body struct {
		Key        string          `json:"variant_key" maxLength:"63"`
		Data       json.RawMessage `json:"variant_data"`
		Weight     *int            `json:"weight,omitempty" minimum:"0" maximum:"1000000" doc:"Default 100."`
		Conditions json.RawMessage `json:"conditions,omitempty"`
	}
}) (*variantOut, error) {
	b := in.Body
	v, err := s.o.Contents.AddVariant(ctx, control.Variant{Content: in.Content, Key: b.Key, Data: b.Data, Weight: weight(b.Weight), Conditions: someJSON(b.Conditions)})
	if err != nil {
		return nil, err
	}
	return newVariantOut(v), nil
}

// someJSON is nothing for null.
func someJSON(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

func (s *Server) changeVariant(ctx context.Context, in *struct {
	VariantPath
	Match
	Body struct {
		Key        *string         `json:"variant_key,omitempty" maxLength:"63"`
		Data       json.RawMessage `json:"variant_data,omitempty" doc:"Replaces all of it."`
		Weight     *int            `json:"weight,omitempty" minimum:"0" maximum:"1000000"`
		Conditions json.RawMessage `json:"conditions,omitempty" doc:"Null takes them away."`
	}
}) (*variantOut, error) {
	v, err := s.o.Contents.Store.Variant(ctx, in.Content, in.Variant)
	if err != nil {
		return nil, err
	}
	if err := in.onto(&v.Revision); err != nil {
		return nil, err
	}
	set(&v.Key, in.Body.Key)
	set(&v.Weight, in.Body.Weight)
	if len(in.Body.Data) > 0 {
		v.Data = in.Body.Data
	}
	if len(in.Body.Conditions) > 0 {
		v.Conditions = someJSON(in.Body.Conditions)
	}
	if v, err = s.o.Contents.UpdateVariant(ctx, v); err != nil {
		return nil, in.matched(err)
	}
	return newVariantOut(v), nil
}

func (s *Server) deleteVariant(ctx context.Context, in *struct {
	VariantPath
	Match
}) (*struct{}, error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	return nil, in.matched(s.o.Contents.DeleteVariant(ctx, in.Content, in.Variant, revision))
}
