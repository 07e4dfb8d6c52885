package effect

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzScrub has a server echo a secret in what it likes: the answer that is
// left holds it neither as it is nor in base64, and stays JSON.
func FuzzScrub(f *testing.F) {
	f.Add("s3cret-value", "x", `{"a":["s3cret-value"]}`)
	f.Add(`q"\<ü>&`, "Bearer ", `[1,"x"]`)
	f.Add("12345678", "n", `12345678`)
	f.Add("[redacted]", "", `{}`)
	f.Add("red", "act", `"redacted"`)
	f.Add("aaaaaaaa", "a", `"aaaaaaaaaaaaaaaaaaaaa"`)
	f.Fuzz(func(t *testing.T, secret, before, answer string) {
		if len(secret) < shortest || strings.Contains(redacted, secret) || strings.ToValidUTF8(secret+before, "") != secret+before {
			return
		}
		told := before + secret
		echo, err := json.Marshal(map[string]any{"as": told, "b": base64.StdEncoding.EncodeToString([]byte(told)), secret: []string{secret + before}})
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range []string{string(echo), answer} {
			if !json.Valid([]byte(data)) {
				continue
			}
			out := used{secret: true}.scrub(json.RawMessage(data))
			var v any
			if err := json.Unmarshal(out, &v); err != nil {
				t.Fatalf("%s becomes %s", data, out)
			}
			if held := holds(v, secret); held != "" && !strings.Contains(redacted+secret+redacted, held) {
				t.Fatalf("%q is left in %q", secret, held)
			}
		}
	})
}

// holds returns a text of v that holds s outside of the marks of redaction.
func holds(v any, s string) string {
	switch v := v.(type) {
	case string:
		for _, rest := range strings.Split(v, redacted) {
			if strings.Contains(rest, s) {
				return v
			}
		}
	case []any:
		for _, e := range v {
			if h := holds(e, s); h != "" {
				return h
			}
		}
	case map[string]any:
		for k, e := range v {
			if h := holds(k, s) + holds(e, s); h != "" {
				return h
			}
		}
	}
	return ""
}
