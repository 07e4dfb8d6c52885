package flow

import (
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// FuzzTemplate fills values that people may type into all places of a call:
// none changes what stands around it, and none is read as a reference.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"", "Ada", "{secret:k}", "{{secret:k}}", "{user.name}", "../../admin", "..", "a/b?c=d&e#f", "x\r\nEvil: 1", `"},{"a":"`,
		"%2e%2e", "\\", "\x00", "\xff", "ü\u2028", "@evil.example", ":80/", "<break time='9s'/>", `\{x}`, "a b+c"} {
		f.Add(s)
	}
	fl := mustParse(f, `{"nodes":[{"id":"q","type":"question","content":{"question":"{variables.x}","variable":"v"},"connections":{"default":"w"}},
		{"id":"w","type":"webhook","content":{"url":"https://a.example/b/{v}/c?d={v}&e=1","method":"POST","headers":{"X-A":"a {v}","X-S":"{secret:k}{v}"},
		"query_params":{"q":"{v}"},"body":{"s":"{v}","t":"<{v}>","l":["{v}"],"k":"{secret:k}{v}"},"say_while":"said {v}"}}]}`)
	f.Fuzz(func(t *testing.T, v string) {
		s, _ := Step(fl, New(fl, Init{ID: "f", Variables: map[string]any{"x": "{secret:k}"}}), Start{epoch})
		s, effects := Step(fl, s, Input{epoch, v, "text", 0})
		i := indexOf[Call](effects)
		if i < 0 {
			return // a blank answer, one that is too long, or one that climbs
		}
		c, said := effects[i].(Call), s.Variables["v"].(string) // blanks around it are not the answer's
		secret := func(string) (string, error) { return "S", nil }
		u, err := url.Parse(c.URL[0].Text)
		if err != nil || len(c.URL) != 1 || u.Host != "a.example" || u.User != nil || u.Fragment != "" {
			t.Fatalf("%q leads to %v, %v", v, c.URL, err)
		}
		if p := strings.Split(u.EscapedPath(), "/"); len(p) != 4 || p[1] != "b" || p[3] != "c" || p[2] == "." || p[2] == ".." {
			t.Fatalf("%q makes the path %q", v, u.EscapedPath())
		}
		if q, err := url.ParseQuery(u.RawQuery); err != nil || !reflect.DeepEqual(q, url.Values{"d": {said}, "e": {"1"}}) {
			t.Fatalf("%q makes the query %q", v, u.RawQuery)
		}
		for _, h := range c.Headers {
			if got, _ := Join(h.Value, InHeader, secret); strings.ContainsAny(got, "\r\n") || strings.Count(got, "S") > strings.Count(said, "S")+1 {
				t.Fatalf("%q makes the header %q", v, got)
			}
		}
		body, _ := Join(c.Body, InJSON, secret)
		var got map[string]any
		want := map[string]any{"s": said, "t": "<" + said + ">", "l": []any{said}, "k": "S" + said}
		if err := json.Unmarshal([]byte(body), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q makes the body %s, %v", v, body, err)
		}
		if c.SayWhile[0].Text != "said "+said || c.Query[0].Value[0].Text != said {
			t.Fatalf("%q is said as %q and asked as %q", v, c.SayWhile[0].Text, c.Query[0].Value)
		}
	})
}

// indexOf finds the first effect of a type; -1 where there is none.
func indexOf[E Effect](effects []Effect) int {
	for i, e := range effects {
		if _, ok := e.(E); ok {
			return i
		}
	}
	return -1
}

// FuzzReferences reads any text as a template: what is not a reference stays as
// it is, and what a reference brings in is not read again.
func FuzzReferences(f *testing.F) {
	for _, s := range []string{"{a}", "{{ a-b }}", "{{{a}}}", `\{a}`, "{a.0.b}", "{secret:k}", "{}", "{{}}", "{ a}", "a{b", "}{", "{session.id}{input.x}", `\\{a}`} {
		f.Add(s, "{a}")
	}
	fl := mustParse(f, `{"nodes":[{"id":"q","type":"question","content":{"question":"?","variable":"v"}}]}`)
	f.Fuzz(func(t *testing.T, s, v string) {
		v = cleanText(v)
		tpl := parseTemplate(s, "variables")
		turn := &turn{f: fl, s: New(fl, Init{ID: "f"})}
		turn.s.System.Frames = []Frame{{}}
		refs, want := 0, ""
		for _, p := range tpl {
			if p.ref == nil {
				want += p.text
				continue
			}
			if refs++; p.ref.secret == "" && p.ref.scope == "variables" && len(p.ref.path) > 0 {
				turn.set(*p.ref, v)
			}
		}
		if refs == 0 {
			if got := turn.render(tpl); got != strings.ReplaceAll(s, `\{`, "{") {
				t.Fatalf("%q is shown as %q", s, got)
			}
			return
		}
		for _, p := range tpl {
			if p.ref != nil {
				got, ok := turn.resolve(p.ref)
				if ok && p.ref.secret != "" {
					t.Fatalf("%q shows a secret", s)
				}
				_ = text(got)
			}
		}
		turn.render(tpl)
	})
}

// FuzzMapping takes values out of any answer by any path: no panic, and a
// state that can be stored.
func FuzzMapping(f *testing.F) {
	for _, p := range []string{"$", "$.a", "a.0", "$..a", "$.a[?(@.b > 1)]", "$[-1]", "$.a[0:3:1]", "$['a']['b']", "$.*", "$.a.b.c.0.d", "$[?length(@.a) == 1]", "((("} {
		f.Add(p, `{"a":[{"b":2,"c":"x"},{"b":{"c":[1]}}],"0":1}`)
	}
	f.Fuzz(func(t *testing.T, path, answer string) {
		if len(path) > 1000 || len(answer) > 10_000 {
			return
		}
		doc, err := json.Marshal(map[string]any{"nodes": []any{fields{"id": "w", "type": "webhook",
			"content": fields{"url": "https://a.example/", "response_mapping": fields{"x": path}}}}})
		if err != nil {
			return
		}
		fl, err := Parse(doc)
		if err != nil {
			return
		}
		s := fuzzStep(t, fl, New(fl, Init{ID: "f"}), Start{epoch})
		fuzzStep(t, fl, s, Result{At: epoch, ID: s.System.Waiting.ID, Outcome: "success", Data: []byte(answer)})
	})
}

// FuzzDecodeState reads states that somebody altered: no panic, and what is
// read is stored as it was.
func FuzzDecodeState(f *testing.F) {
	fl := mustParse(f, everyKind)
	s := New(fl, Init{ID: "f", Channel: "voice"})
	for _, ev := range []Event{Start{epoch}, Input{epoch, "tea", "text", 0}, Input{epoch, "tea", "text", 0}, Silence{epoch}} {
		s, _ = Step(fl, s, ev)
		b, err := EncodeState(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"system":{"frames":[{},{"via":"c"}],"pending":[{"id":"x","kind":"call","effect":null}],"waiting":{"for":"result","id":"x"}},"session":{"status":"active"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b, "")
		if err != nil {
			return
		}
		stored, err := EncodeState(s)
		if err != nil {
			return // larger, or deeper, by what was left out
		}
		again, err := DecodeState(stored, Hash(stored))
		if err != nil {
			t.Fatalf("%s: %v", stored, err)
		}
		if twice, _ := EncodeState(again); string(twice) != string(stored) {
			t.Fatalf("stored as %s, then as %s", stored, twice)
		}
		for _, ev := range []Event{Input{epoch, "tea", "text", 0}, Silence{epoch}, Played{At: epoch, ID: s.System.Playing},
			Result{At: epoch, ID: s.System.Waiting.ID, Outcome: "success", Data: []byte(`{}`)}, Hangup{At: epoch}} {
			Step(fl, again, ev)
		}
	})
}

// FuzzDecodeEvent reads events of a history: what is read is stored as it was,
// and holds nothing that PostgreSQL refuses.
func FuzzDecodeEvent(f *testing.F) {
	for _, s := range []string{`{"type":"input","text":"a\u0000\ud800"}`, `{"type":"result","id":"x","data":{"a\u0000":1e999,"b":[1.50]}}`, `{"type":"patch","updates":{"user":{"a":1}}}`,
		`{"type":"played","heard":"x"}`, `{"type":"start","at":"2026-03-02T09:00:00Z"}`, `{"type":"close","status":"failed"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ev, err := DecodeEvent(b)
		if err != nil {
			return
		}
		stored, err := EncodeEvent(ev)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if !json.Valid(stored) || strings.Contains(strings.ReplaceAll(string(stored), `\\`, ""), `\u0000`) {
			t.Fatalf("%s is stored as %s", b, stored)
		}
		again, err := DecodeEvent(stored)
		if err != nil {
			t.Fatalf("%s: %v", stored, err)
		}
		if twice, err := EncodeEvent(again); err != nil || string(twice) != string(stored) {
			t.Fatalf("stored as %s, then as %s, %v", stored, twice, err)
		}
	})
}
