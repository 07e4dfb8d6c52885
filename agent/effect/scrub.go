package effect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// used are the secrets that went into a call.
type used map[string]bool

// shortest secret that is looked for in answers: a shorter one is found by chance.
const shortest = 4

// scrub takes secrets out of an answer: a server that echoes its request must
// not bring them into the state. They are found as they are, percent-encoded
// and in base64.
func (u used) scrub(data json.RawMessage) json.RawMessage {
	var forms []string
	for s := range u {
		if len(s) < shortest {
			continue
		}
		forms = append(forms, s, url.QueryEscape(s), url.PathEscape(s),
			base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)))
	}
	if len(forms) == 0 {
		return data
	}
	// The longest first: one secret may begin with another.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, f := range forms {
		pairs = append(pairs, f, redacted)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return json.RawMessage("null")
	}
	clean, found := scrubValue(v, strings.NewReplacer(pairs...))
	if !found {
		return data
	}
	b, err := json.Marshal(clean)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
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
