package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
)

// Statuses of content.
const (
	ContentDraft     = "draft"
	ContentPublished = "published" // the only one that flows show
	ContentArchived  = "archived"
)

// Bounds of content.
const (
	maxContent    = 16 << 10 // bytes of a body, and of a variant's data
	maxTags       = 20
	maxTag        = 50
	maxWeight     = 1_000_000
	maxVariants   = 20
	maxConditions = 4 << 10
	maxQuery      = 200
)

// A Content is something that flows say and that is kept outside of them.
type Content struct {
	ID        uuid.UUID
	Type      string          // one of [flow.ContentTypes]
	Body      json.RawMessage // as [flow.CheckContent] has it
	Tags      []string        // lower case, sorted
	Locale    string          // BCP 47; empty for any
	Status    string
	Weight    int // of the body beside its variants
	Revision  int // counts from 1 with every change
	CreatedAt time.Time
	UpdatedAt time.Time
}

// A Variant is another form of a content.
type Variant struct {
	ID         uuid.UUID
	Content    uuid.UUID
	Key        string // unique in its content; not "base", which is the content itself
	Data       json.RawMessage
	Weight     int
	Conditions json.RawMessage // as [flow.CheckConditions] has it; empty: none
	Revision   int
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// ContentFilter narrows a list of content; zero fields do not.
type ContentFilter struct {
	Page
	Type   string
	Tags   []string // all of them
	Locale string   // "en" finds "en-US" too
	Status string
	Query  string // words as in a search engine: "two words", or, -not
}

// ContentStore keeps content.
type ContentStore interface {
	Content(ctx context.Context, id uuid.UUID) (Content, error)
	ContentList(ctx context.Context, f ContentFilter) ([]Content, error)
	Variant(ctx context.Context, content, id uuid.UUID) (Variant, error)
	// Variants returns all of a content, oldest first.
	Variants(ctx context.Context, content uuid.UUID) ([]Variant, error)
}

// ContentChanges writes content. An update is made if the stored revision is
// that given, which it counts up; else ErrConflict.
type ContentChanges interface {
	InsertContent(ctx context.Context, c Content) error
	UpdateContent(ctx context.Context, c Content) (Content, error)
	// InsertVariant fails with ErrConflict if the key is taken, and with ErrBusy
	// if there are most already.
	InsertVariant(ctx context.Context, v Variant, most int) error
	UpdateVariant(ctx context.Context, v Variant) (Variant, error)
	// DeleteVariant deletes a variant, of that revision if it is not 0.
	DeleteVariant(ctx context.Context, content, id uuid.UUID, revision int) error
}

// Contents is the service of content.
type Contents struct {
	Store   ContentStore
	Changes ContentChanges
	// Shelf is where this process's flows find content; what is changed here
	// they see at once. Nil: there is none.
	Shelf *Shelf
}

// List returns content, newest first. Errors: [Invalid].
func (s *Contents) List(ctx context.Context, f ContentFilter) ([]Content, error) {
	if len(f.Query) > maxQuery {
		return nil, Invalidf("q", "must be at most %d bytes", maxQuery)
	}
	if f.Locale != "" && !locale.MatchString(f.Locale) {
		return nil, Invalidf("locale", "must be a language tag such as en-US")
	}
	f.Tags = tags(f.Tags)
	return s.Store.ContentList(ctx, f)
}

// Create stores content. Errors: [Invalid].
func (s *Contents) Create(ctx context.Context, c Content) (Content, error) {
	if err := c.normalize(); err != nil {
		return c, err
	}
	now := time.Now().UTC()
	c.ID, c.Revision, c.CreatedAt, c.UpdatedAt = NewID(), 1, now, now
	if err := s.Changes.InsertContent(ctx, c); err != nil {
		return c, fmt.Errorf("create content: %w", err)
	}
	s.changed(ctx)
	return c, nil
}

// Update writes c over its revision c.Revision. Errors: [Invalid], ErrNotFound,
// ErrConflict.
func (s *Contents) Update(ctx context.Context, c Content) (Content, error) {
	if err := c.normalize(); err != nil {
		return c, err
	}
	variants, err := s.Store.Variants(ctx, c.ID)
	if err != nil {
		return c, err
	}
	for _, v := range variants {
		if err := merges(c.Body, v.Data); err != nil {
			return c, Invalidf("content", "with variant %s over it: %s", v.Key, err)
		}
	}
	if c, err = s.Changes.UpdateContent(ctx, c); err != nil {
		return c, err
	}
	s.changed(ctx)
	return c, nil
}

// AddVariant stores a variant of a content. Errors: [Invalid], ErrNotFound,
// ErrConflict (the key is taken).
func (s *Contents) AddVariant(ctx context.Context, v Variant) (Variant, error) {
	if err := s.variant(ctx, v); err != nil {
		return v, err
	}
	now := time.Now().UTC()
	v.ID, v.Revision, v.CreatedAt, v.UpdatedAt = NewID(), 1, now, now
	err := s.Changes.InsertVariant(ctx, v, maxVariants)
	if errors.Is(err, ErrBusy) {
		return v, Invalidf("variant_key", "there are %d variants already", maxVariants)
	}
	if err != nil {
		return v, fmt.Errorf("create variant: %w", err)
	}
	s.changed(ctx)
	return v, nil
}

// UpdateVariant writes v over its revision v.Revision.
func (s *Contents) UpdateVariant(ctx context.Context, v Variant) (Variant, error) {
	err := s.variant(ctx, v)
	if err == nil {
		v, err = s.Changes.UpdateVariant(ctx, v)
	}
	if err != nil {
		return v, err
	}
	s.changed(ctx)
	return v, nil
}

// DeleteVariant removes a variant; revision 0 is any.
func (s *Contents) DeleteVariant(ctx context.Context, content, id uuid.UUID, revision int) error {
	if err := s.Changes.DeleteVariant(ctx, content, id, revision); err != nil {
		return err
	}
	s.changed(ctx)
	return nil
}

func (s *Contents) changed(ctx context.Context) {
	if t, ok := TenantOf(ctx); ok && s.Shelf != nil {
		s.Shelf.forget(t)
	}
}

var (
	locale     = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}$`)
	variantKey = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
)

// normalize checks c and brings its tags and defaults into their form.
func (c *Content) normalize() error {
	if !slices.Contains(flow.ContentTypes(), c.Type) {
		return Invalidf("type", "must be one of %s", strings.Join(flow.ContentTypes(), ", "))
	}
	if err := body("content", c.Body, maxContent, flow.CheckContent); err != nil {
		return err
	}
	switch c.Status {
	case "":
		c.Status = ContentDraft
	case ContentDraft, ContentPublished, ContentArchived:
	default:
		return Invalidf("status", "must be draft, published or archived")
	}
	if err := RefuseSecret("locale", c.Locale); err != nil {
		return err
	}
	if c.Locale != "" && !locale.MatchString(c.Locale) {
		return Invalidf("locale", "must be a language tag such as en-US")
	}
	for i, t := range c.Tags { // as they were written
		if err := RefuseSecret(fmt.Sprintf("tags[%d]", i), t); err != nil {
			return err
		}
	}
	c.Tags = tags(c.Tags)
	if len(c.Tags) > maxTags {
		return Invalidf("tags", "must be at most %d", maxTags)
	}
	for _, t := range c.Tags {
		if len(t) > maxTag || strings.ContainsRune(t, 0) {
			return Invalidf("tags", "must be at most %d bytes each", maxTag)
		}
	}
	return weighs(c.Weight)
}

func weighs(w int) error {
	if w < 0 || w > maxWeight {
		return Invalidf("weight", "must be 0 to %d", maxWeight)
	}
	return nil
}

// tags are in lower case, sorted, each once.
func tags(list []string) []string {
	out := []string{}
	for _, t := range list {
		if t = strings.ToLower(strings.TrimSpace(t)); t != "" {
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// variant checks v against its content.
func (s *Contents) variant(ctx context.Context, v Variant) error {
	if err := RefuseSecret("variant_key", v.Key); err != nil {
		return err
	}
	if !variantKey.MatchString(v.Key) || v.Key == flow.BaseVariant {
		return Invalidf("variant_key", "must be 1 to 63 letters, digits, _, . and -, and not \"base\"")
	}
	if err := weighs(v.Weight); err != nil {
		return err
	}
	if len(v.Conditions) > 0 {
		if err := body("conditions", v.Conditions, maxConditions, flow.CheckConditions); err != nil {
			return err
		}
	}
	if err := body("variant_data", v.Data, maxContent, nil); err != nil {
		return err
	}
	c, err := s.Store.Content(ctx, v.Content)
	if err != nil {
		return err
	}
	if err := merges(c.Body, v.Data); err != nil {
		return Invalidf("variant_data", "over its content: %s", err)
	}
	return nil
}

// merges tells why a variant's data over a body are no content.
func merges(body, data json.RawMessage) error {
	b, err := decode(body)
	if err != nil {
		return err
	}
	d, err := decode(data)
	if err != nil {
		return err
	}
	return flow.CheckContent(flow.MergeContent(b, d))
}

// body checks a JSON value that is kept as it is.
func body(field string, raw json.RawMessage, most int, check func(any) error) error {
	if len(raw) > most {
		return Invalidf(field, "must be at most %d bytes", most)
	}
	v, err := decode(raw)
	if err != nil {
		return Invalidf(field, "must be JSON")
	}
	switch v.(type) {
	case string, map[string]any:
	default:
		if field != "conditions" {
			return Invalidf(field, "must be a text or an object")
		}
	}
	if err := refuseSecretIn(field, raw); err != nil {
		return err
	}
	if check == nil {
		return nil
	}
	if err := check(v); err != nil {
		return Invalidf(field, "%s", strings.TrimPrefix(err.Error(), "flow: "))
	}
	return nil
}

func decode(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}
