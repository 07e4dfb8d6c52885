package ingress_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/control/ingress"
)

// A sample is a request of the corpus, and the rule that blocks it; "" for good
// traffic. A line is: rule or "ok", method, target, then headers as Name=value,
// all separated by tabs.
type sample struct {
	line, rule string
	r          *http.Request
}

func corpus(t testing.TB, name string) []sample {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var list []sample
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) < 3 {
			t.Fatalf("%s: %q has no method and target", name, line)
		}
		f[2] = strings.ReplaceAll(f[2], "LONG", strings.Repeat("a", ingress.MaxURL))
		r, err := parse(f[1], f[2])
		if err != nil {
			t.Fatalf("%s: %q: %v", name, line, err)
		}
		for _, h := range f[3:] {
			k, v, _ := strings.Cut(h, "=")
			if k == "Host" {
				r.Host = v
			} else {
				r.Header.Add(k, v)
			}
		}
		list = append(list, sample{line, strings.TrimSuffix(f[0], "ok"), r})
	}
	return list
}

// parse reads a request as net/http does off the wire.
func parse(method, target string) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: gw.example\r\n\r\n")))
}

// Sample attacks are blocked, each by its rule; sample good traffic passes.
func TestFilterCorpus(t *testing.T) {
	for _, s := range corpus(t, "attacks.tsv") {
		no := ingress.Check(s.r)
		if no == nil {
			t.Errorf("passes: %.120s", s.line)
			continue
		}
		if no.Rule != s.rule || no.Status < 400 || no.Status > 499 || no.Detail == "" {
			t.Errorf("%.120s: %+v", s.line, *no)
		}
	}
	good, wrong := corpus(t, "good.tsv"), 0
	for _, s := range good {
		if no := ingress.Check(s.r); no != nil {
			wrong++
			t.Errorf("false positive: %.120s: %s", s.line, no.Rule)
		}
	}
	t.Logf("false positives: %d of %d", wrong, len(good))
	if len(good) < 50 {
		t.Errorf("%d samples of good traffic, want more", len(good))
	}
}

func TestCheckJSON(t *testing.T) {
	nest := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for name, tt := range map[string]struct{ body, rule, strict string }{
		"flat":            {`{"a":1,"b":[1,2,{"a":1}],"c":{"a":1}}`, "", ""},
		"deepest":         {nest(64), "", ""},
		"too-deep":        {nest(65), "json-depth", "json-depth"},
		"far-too-deep":    {strings.Repeat(`{"a":`, 500_000), "json-depth", "json-depth"},
		"brackets-quoted": {`{"a":"` + strings.Repeat("[", 500) + `"}`, "", ""},
		"quote-escaped":   {`{"a":"\"` + strings.Repeat("{", 500) + `"}`, "", ""},
		"twice":           {`{"role":"viewer","role":"owner"}`, "", "json-name"},
		"twice-escaped":   {`{"role":1,"r\u006fle":2}`, "", "json-name"},
		"twice-inside":    {`[{"a":{"b":1,"c":2,"b":3}}]`, "", "json-name"},
		"same-as-value":   {`{"a":"b","b":"a"}`, "", ""},
		"same-elsewhere":  {`{"a":{"x":1},"b":{"x":1},"x":[{"x":1},{"x":2}]}`, "", ""},
		"after-an-object": {`{"a":{"b":1},"a":2}`, "", "json-name"},
		"not-json":        {`}}}]]"""{{"a`, "", ""},
		"open":            {`{"a`, "", ""},
		"backslash":       {`{"a\`, "", ""},
		"empty":           {``, "", ""},
	} {
		for keys, want := range map[bool]string{false: tt.rule, true: tt.strict} {
			got := ""
			if no := ingress.CheckJSON([]byte(tt.body), keys); no != nil {
				got = no.Rule
			}
			if got != want {
				t.Errorf("%s, names %v: %q, want %q", name, keys, got, want)
			}
		}
	}
}

// Whatever comes off the wire is judged without a panic, and what passes has no
// way up in its path, however often it is decoded.
func FuzzCheck(f *testing.F) {
	for _, name := range []string{"attacks.tsv", "good.tsv"} {
		for _, s := range corpus(f, name) {
			if len(s.r.RequestURI) < 1000 {
				f.Add(s.r.Method, s.r.RequestURI)
			}
		}
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		r, err := parse(method, target)
		if err != nil || ingress.Check(r) != nil {
			return
		}
		for _, segment := range strings.Split(r.URL.Path, "/") {
			if segment == ".." || segment == "." || strings.ContainsAny(segment, "\x00\\\r\n") {
				t.Errorf("%q passes with segment %q", target, segment)
			}
		}
		if strings.Contains(r.URL.Query().Encode(), "%00") {
			t.Errorf("%q passes with NUL", target)
		}
	})
}

func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{"a":[{}]}`, `{"a":1,"a":2}`, `"\\"`, `[[[`, `{"\ud800":1}`, "\x00", `{"a":"b\`} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, keys bool) {
		if no := ingress.CheckJSON(body, keys); no != nil && no.Status != http.StatusBadRequest {
			t.Errorf("%q: %+v", body, no)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	r, err := parse("GET", "/v1/calls/0198c0de-0000-7000-8000-000000000000/transcript?limit=50")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ingress.Check(r) != nil {
			b.Fatal("blocked")
		}
	}
}

func BenchmarkCheckJSON(b *testing.B) {
	var doc strings.Builder
	doc.WriteString(`{"nodes":[`)
	for i := range 1000 {
		fmt.Fprintf(&doc, `{"id":"n%d","type":"message","content":{"text":"Hello there, how are you?"}},`, i)
	}
	doc.WriteString(`{}]}`)
	for _, keys := range []bool{false, true} {
		b.Run(fmt.Sprintf("names=%v", keys), func(b *testing.B) {
			b.SetBytes(int64(doc.Len()))
			for b.Loop() {
				ingress.CheckJSON([]byte(doc.String()), keys)
			}
		})
	}
}
