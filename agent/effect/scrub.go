package effect

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// used are the secrets that went into a call.
type used map[string]bool

// shortest secret that is looked for in answers: a shorter one is found by chance.
const shortest = 4

// scrub takes secrets out of an answer: a server that echoes its request must
// not bring them into the state. They are found in the [forms] that they take.
func (u used) scrub(data json.RawMessage) json.RawMessage {
	r := u.replacer()
	if r == nil {
		return data
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return json.RawMessage("null")
	}
	clean, found := scrubValue(v, r)
	if !found {
		return data
	}
	b, err := json.Marshal(clean)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

// replacer takes the secrets out of a text; nil where there are none.
func (u used) replacer() *strings.Replacer {
	var all []string
	for s := range u {
		if len(s) >= shortest {
			all = append(all, forms(s)...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	// The longest first: one secret may begin with another.
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	var pairs []string
	for _, f := range slices.Compact(all) {
		pairs = append(pairs, f, redacted)
	}
	return strings.NewReplacer(pairs...)
}

// forms are how programs write a text: as it is, percent-encoded, within JSON
// and JSON within JSON, HTML, hexadecimal and base64.
func forms(s string) []string {
	raw := []byte(s)
	out := []string{s, url.QueryEscape(s), url.PathEscape(s), html.EscapeString(s), htmlNames.Replace(s),
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		base64.RawStdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw)}
	out = append(out, lowerPercent(out[1]), lowerPercent(out[2]))
	for _, quoted := range []string{inJSON(s, true), inJSON(s, false)} {
		out = append(out, quoted, strings.ReplaceAll(quoted, "/", `\/`), inJSON(quoted, true), inJSON(quoted, false))
	}
	// Within a longer text, such as user:password, base64 begins at any of
	// three places: what of it depends on the secret alone.
	for before := range 3 {
		whole := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), raw...))
		core := whole[(8*before+5)/6 : 8*(before+len(raw))/6]
		if len(core) >= 8 {
			out = append(out, core, strings.NewReplacer("+", "-", "/", "_").Replace(core))
		}
	}
	return out
}

var htmlNames = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")

var percentPair = regexp.MustCompile(`%[0-9A-F]{2}`)

func lowerPercent(s string) string { return percentPair.ReplaceAllStringFunc(s, strings.ToLower) }

// inJSON is s within a JSON string.
func inJSON(s string, html bool) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	_ = e.Encode(s) // a string has a form in JSON
	return strings.TrimSuffix(b.String(), "\n")[1 : b.Len()-2]
}

// secretsKey is under which a context holds the secrets of the call at hand.
type secretsKey struct{}

// Redact takes the secrets of the call that ctx belongs to out of a text, for
// the log of what sends it: a server may have put them into the address that
// it redirects to.
func Redact(ctx context.Context, text string) string {
	u, _ := ctx.Value(secretsKey{}).(used)
	if r := u.replacer(); r != nil {
		return r.Replace(text)
	}
	return text
}

func scrubValue(v any, r *strings.Replacer) (_ any, found bool) {
	switch v := v.(type) {
	case string:
		s := r.Replace(v)
		return s, s != v
	case json.Number:
		if s := r.Replace(string(v)); s != string(v) {
			return s, true
		}
	case []any:
		for i, e := range v {
			w, hit := scrubValue(e, r)
			v[i], found = w, found || hit
		}
		return v, found
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			w, hit := scrubValue(e, r)
			name := r.Replace(k)
			out[name], found = w, found || hit || name != k
		}
		return out, found
	}
	return v, false
}
