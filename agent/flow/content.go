package flow

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	maxWants = 20  // contents that one node shows
	maxShown = 500 // contents that a conversation remembers to have shown
)

// contentTypes are the types of content.
var contentTypes = []string{"joke", "fact", "question", "quote", "message", "prompt"}

// ContentTypes returns the types that content has.
func ContentTypes() []string { return slices.Clone(contentTypes) }

// Fetch asks for content: what flows say that is kept outside of them. It only
// reads. Its [Result] is "success" with a list as Data that has, in the order
// of Wants, a [Content] with all its variants, or null where there is none that
// is published; any other outcome is like a list of nulls.
type Fetch struct {
	effect
	ID    string `json:"id"`
	Node  string `json:"node"`
	Wants []Want `json:"wants"`
	// Shown lists the contents that the conversation has shown, the last 500 of
	// them, latest last. What is drawn is among those shown least often, so that
	// none comes twice before all have come once.
	Shown []string `json:"shown,omitempty"`
}

// A Want is one content: that of an id, or one drawn from those that fit.
type Want struct {
	Content string `json:"content,omitempty"` // id; if it is set, the rest is empty

	Type string   `json:"type,omitempty"` // empty for any
	Tags []string `json:"tags,omitempty"` // all of them
	// Locale is a language tag of BCP 47. Content without a locale, or in another
	// region's form of the language where there is none in this, fits too.
	Locale string `json:"locale,omitempty"`
	// Draw decides: of n contents in the order of their ids, that at Draw mod n.
	Draw uint64 `json:"draw,string"`
}

// A Content is something to say, with its variants. Weight is nil for 100.
type Content struct {
	ID   string `json:"id"`
	Type string `json:"type,omitempty"`
	// Content is a text, or an object as [CheckContent] takes it.
	Content  any       `json:"content"`
	Weight   *int      `json:"weight,omitempty"`
	Variants []Variant `json:"variants,omitempty"`
}

// A Variant is another form of a content: its data lie over the content's.
type Variant struct {
	Key    string `json:"variant_key"`
	Weight *int   `json:"weight,omitempty"` // nil for 100; 0 is never drawn
	Data   any    `json:"variant_data"`
	// Conditions, a test as of a condition node, tells who may be shown it.
	Conditions any `json:"conditions,omitempty"`
}

// BaseVariant is the name of a content's own form among its variants.
const BaseVariant = "base"

// A Drawn content is what a node shows: the content in one of its variants.
type Drawn struct {
	Content string         `json:"content,omitempty"` // id; empty: there is none
	Variant string         `json:"variant,omitempty"`
	Body    map[string]any `json:"body,omitempty"`
}

// InLocale returns the keys of locales, sorted, that fit a wanted locale: those
// of the same language and no other region, and those without a locale; where
// there are none of the former, those of the same language in any region.
func InLocale(locales map[string]string, want string) []string {
	var exact, loose, any []string
	language, region, _ := strings.Cut(fold(want), "-")
	for _, k := range sortedKeys(locales) {
		l, r, _ := strings.Cut(fold(locales[k]), "-")
		switch {
		case l == "" || language == "":
			any = append(any, k)
		case l == language && (r == "" || region == "" || r == region):
			exact = append(exact, k)
		case l == language:
			loose = append(loose, k)
		}
	}
	if len(exact) == 0 {
		exact = loose
	}
	return slices.Sorted(slices.Values(append(exact, any...)))
}

// wantTemplate is a want before its references are filled in.
type wantTemplate struct {
	id, locale template
	types      string
	tags       []template
}

// want reads what content a message asks for, and returns its number among the
// node's, from 1; 0 if it asks for none.
func (c *compiler) want(m map[string]any, ptr string) int {
	w := wantTemplate{}
	filter, filtered := m["content_filter"].(map[string]any)
	switch id := text(m["content_id"]); {
	case id != "":
		w.id = parseTemplate(id, c.flow.bare)
	case filtered:
		w.types = fold(first(filter, "type", "kind"))
		if w.types != "" && !slices.Contains(contentTypes, w.types) {
			c.problem("error", ptr+"/content_filter/type", "unknown-value", fmt.Sprintf("there is no content of type %q", w.types), "use one of "+strings.Join(contentTypes, ", "))
		}
		for _, tag := range append(texts(filter["tags"]), texts(filter["tag"])...) {
			w.tags = append(w.tags, parseTemplate(tag, c.flow.bare))
		}
		if l := str(filter["locale"]); l != "" {
			w.locale = parseTemplate(l, c.flow.bare)
		}
	default:
		return 0
	}
	if len(c.wants) == maxWants {
		c.problem("error", ptr, "too-many", fmt.Sprintf("the node shows more than %d contents", maxWants), "split the node")
		return 0
	}
	c.wants = append(c.wants, w)
	return len(c.wants)
}

// begin runs a node that was entered, once its content is there.
func (t *turn) begin(n *node) move {
	if len(n.wants) == 0 || t.s.System.Left || t.frame().Drawn != nil {
		return n.kind.enter(t, n)
	}
	e := Fetch{ID: t.id(), Node: n.id, Shown: t.s.System.Shown}
	for _, w := range n.wants {
		e.Wants = append(e.Wants, t.fillWant(w))
	}
	t.out = append(t.out, e)
	t.pend(e.ID, "fetch", e)
	return t.waitFor(ForResult, e.ID)
}

func (t *turn) fillWant(w wantTemplate) Want {
	if w.id != nil {
		return Want{Content: t.render(w.id)}
	}
	out := Want{Type: w.types, Locale: text(t.s.Context["locale"])}
	if w.locale != nil {
		out.Locale = t.render(w.locale)
	}
	for _, tag := range w.tags {
		if s := strings.TrimSpace(t.render(tag)); s != "" {
			out.Tags = append(out.Tags, fold(s))
		}
	}
	sum := sha256.Sum256([]byte(t.s.Session.ID + "\x00draw\x00" + strconv.Itoa(t.s.System.Draws)))
	out.Draw = binary.BigEndian.Uint64(sum[:])
	t.s.System.Draws++
	return out
}

// fetched takes the content that a node waited for, and runs the node.
func (t *turn) fetched(n *node, r Result) move {
	var found []*Content
	if r.Outcome == "success" && decodeInto(r.Data, &found) != nil {
		found = nil
	}
	drawn := make([]Drawn, len(n.wants))
	for i := range drawn {
		if i < len(found) && found[i] != nil && found[i].ID != "" {
			drawn[i] = t.choose(*found[i], n.id)
		} else {
			t.warn("the content is missing or not published: the node's own text stands in")
		}
	}
	t.frame().Drawn = drawn
	return n.kind.enter(t, n)
}

// choose takes the variant of a content that is the person's, and tells that it
// is shown.
func (t *turn) choose(c Content, node string) Drawn {
	id := cleanText(c.ID)
	arms := []arm{{name: BaseVariant, weight: weight(c.Weight)}}
	data := map[string]any{}
	for _, v := range c.Variants {
		if v.Key == "" || v.Key == BaseVariant || !t.fits(v.Conditions) {
			continue
		}
		arms = append(arms, arm{name: v.Key, weight: weight(v.Weight)})
		data[v.Key] = v.Data
	}
	variant := BaseVariant
	if len(c.Variants) > 0 {
		variant = t.drawArm("content "+id, arms, BaseVariant)
	}
	body := contentBody(c.Content)
	if variant != BaseVariant {
		body = merge(body, contentBody(data[variant]))
	}
	t.s.System.Shown = appendLast(t.s.System.Shown[:len(t.s.System.Shown):len(t.s.System.Shown)], id, maxShown)
	shown := map[string]any{"content_id": id, "variant": variant}
	t.exposed("content_engaged", shown)
	t.emit("content_shown", map[string]any{"content_id": id, "variant": variant, "type": cleanText(c.Type), "node": node})
	return Drawn{Content: id, Variant: variant, Body: body}
}

// fits tells whether a variant's conditions hold.
func (t *turn) fits(conditions any) bool {
	switch v := conditions.(type) {
	case nil:
		return true
	case map[string]any:
		if len(v) == 0 {
			return true
		}
		if test := v["if"]; test != nil {
			conditions = test
		}
	}
	c := &compiler{flow: t.f}
	return t.holds(c.test(clean(conditions, MaxStateDepth), ""))
}

func weight(w *int) uint64 {
	if w == nil {
		return defaultWeight
	}
	return uint64(min(max(*w, 0), maxWeight))
}

// contentBody is a content's body, or a variant's, as an object.
func contentBody(v any) map[string]any {
	switch v := clean(v, MaxStateDepth-8).(type) {
	case string:
		return map[string]any{"text": v}
	case map[string]any:
		return v
	}
	return map[string]any{}
}

// bodyMessages are the messages of a content's body.
func bodyMessages(f *Flow, body map[string]any) ([]messageTemplate, []Problem) {
	c := &compiler{flow: f}
	var out []messageTemplate
	switch {
	case body["messages"] != nil:
		out = c.messages(body["messages"], "/messages")
	case str(body["setup"]) != "":
		out = c.messages([]any{body["setup"], text(body["punchline"])}, "")
	case slices.ContainsFunc([]string{"text", "content", "rich_text", "url", "src"}, func(k string) bool { return body[k] != nil }):
		out = c.messages(body, "")
	default:
		out = c.messages(first(body, "question", "quote", "prompt", "joke", "fact", "message"), "")
	}
	if author := str(body["author"]); author != "" && len(out) > 0 && !out[0].text.empty() {
		out[0].text = out[0].text.and(parseTemplate(" — "+author, f.bare))
	}
	out = slices.DeleteFunc(out, func(m messageTemplate) bool { return m.text.blank() && m.url.blank() && m.alt.blank() })
	for i := range out {
		out[i].want = 0 // content names no other content
		delete(out[i].extra, "author")
	}
	return out, append(c.faults, c.problems...)
}

// blank tells that nothing can come of a text, in any locale.
func (l localText) blank() bool {
	says := func(t template) bool {
		return slices.ContainsFunc(t, func(p part) bool { return p.ref != nil || strings.TrimSpace(p.text) != "" })
	}
	for _, t := range l.locale {
		if says(t) {
			return false
		}
	}
	return !says(l.any)
}

// ErrSaysNothing says that a content has nothing to say.
var ErrSaysNothing = errors.New("flow: there is nothing to say")

// CheckContent reports why a value may not be a content's body: a text, or an
// object with "text", a medium's "type", "url" and "alt", a list "messages" as
// of a message node, "setup" and "punchline", or the type's own name as in
// {"question": …}, {"quote", "author"}. References are filled in when it is
// shown; a secret may not stand in it.
func CheckContent(v any) error {
	f := &Flow{bare: "variables"}
	list, problems := bodyMessages(f, contentBody(v))
	for _, p := range problems {
		if p.Severity == "error" {
			return p.err()
		}
	}
	if len(list) == 0 {
		return ErrSaysNothing
	}
	return nil
}

// err is the fault as an error, behind its place if that is not the whole.
func (p Problem) err() error {
	if at := strings.Trim(p.Pointer, "/"); at != "" {
		return fmt.Errorf("flow: %s: %s", at, p.Message)
	}
	return errors.New("flow: " + p.Message)
}

// MergeContent returns a content's body with a variant's data over it.
func MergeContent(body, data any) map[string]any { return merge(contentBody(body), contentBody(data)) }

// CheckConditions reports why a value may not be a variant's conditions: they
// are a test as of a condition node, or {"if": test}; nil is none.
func CheckConditions(v any) error {
	if m, ok := v.(map[string]any); ok && m["if"] != nil {
		v = m["if"]
	}
	if m, ok := v.(map[string]any); v == nil || ok && len(m) == 0 {
		return nil
	}
	c := &compiler{flow: &Flow{bare: "variables"}}
	c.test(clean(v, MaxStateDepth), "")
	for _, p := range append(c.faults, c.problems...) {
		if p.Severity == "error" {
			return p.err()
		}
	}
	return nil
}

// expand is a message with its content in place: the content's messages, else
// the entry's own text, else the node's.
func (t *turn) expand(m messageTemplate) []messageTemplate {
	if m.want == 0 {
		return []messageTemplate{m}
	}
	var d Drawn
	if list := t.frame().Drawn; m.want <= len(list) {
		d = list[m.want-1]
	}
	if d.Content != "" {
		if list, _ := bodyMessages(t.f, d.Body); len(list) > 0 {
			for i := range list {
				list[i].extra = mergeExtra(m.extra, list[i].extra)
			}
			return list
		}
	}
	if m.text.empty() && m.url.empty() && m.alt.empty() {
		return []messageTemplate{{typ: "text", text: m.otherwise, extra: m.extra}}
	}
	return []messageTemplate{m}
}

func mergeExtra(under, over map[string]valueTemplate) map[string]valueTemplate {
	if len(under) == 0 {
		return over
	}
	out := make(map[string]valueTemplate, len(under)+len(over))
	for _, m := range []map[string]valueTemplate{under, over} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// expandAll is a list of messages with all content in place.
func (t *turn) expandAll(list []messageTemplate) []messageTemplate {
	if !slices.ContainsFunc(list, func(m messageTemplate) bool { return m.want > 0 }) {
		return list
	}
	var out []messageTemplate
	for _, m := range list {
		out = append(out, t.expand(m)...)
	}
	return out
}

// unshow takes back that the node at hand shows content: nobody was asked.
func (t *turn) unshow() {
	for _, d := range t.frame().Drawn {
		t.emits = slices.DeleteFunc(t.emits, func(e Effect) bool { return e.(Emit).shows(d) })
		t.s.System.Exposed = slices.DeleteFunc(slices.Clone(t.s.System.Exposed), func(e Exposure) bool { return e.Data["content_id"] == d.Content })
	}
}

// shows tells whether an event is that d is shown.
func (e Emit) shows(d Drawn) bool {
	v, _ := decodeValue(e.Data)
	m, _ := v.(map[string]any)
	return e.Type == "content_shown" && m["content_id"] == d.Content
}
