package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"parley/control/api"
)

// A mangler makes requests that no client should send, from a seed.
type mangler struct {
	*rand.Rand
	ids   []string // that there are
	creds []string
}

// words that parsers stumble over.
var oddWords = []string{"", "0", "-1", "1e400", "NaN", "null", "\x00", "a\x00b", "\xff\xfe", "\xed\xa0\x80", "%00", "%zz", "..", "../../etc/passwd", "' OR 1=1 --", "${jndi:x}",
	"{{7*7}}", "{secret:plain}", "<script>", "\r\nX: y", "\u202e", "\U0001f600", "9223372036854775808", "-9223372036854775809", "1.7976931348623157e309",
	"2026-13-45T99:99:99Z", "0001-01-01T00:00:00Z", "99999-01-01T00:00:00Z", "00000000-0000-0000-0000-000000000000", "urn:uuid:00000000-0000-0000-0000-000000000000", "{", "[", "\"", "\\u0000", "\\ud800"}

func (m *mangler) word() string {
	switch m.IntN(6) {
	case 0:
		return strings.Repeat(oddWords[m.IntN(len(oddWords))]+"x", 1+m.IntN(2000))
	case 1:
		return m.ids[m.IntN(len(m.ids))]
	case 2:
		b := make([]byte, m.IntN(40))
		for i := range b {
			b[i] = byte(m.Uint32())
		}
		return string(b)
	}
	return oddWords[m.IntN(len(oddWords))]
}

// value is JSON, mostly.
func (m *mangler) value(depth int) string {
	switch m.IntN(12) {
	case 0:
		return strings.Repeat("[", 2000) + strings.Repeat("]", m.IntN(2001))
	case 1:
		return strings.Repeat(`{"a":`, 1+m.IntN(1500)) + "1"
	case 2:
		return strconv.Quote(m.word())
	case 3:
		return "1" + strings.Repeat("0", m.IntN(400))
	case 4:
		return []string{"true", "null", "-0", "1e999", "0x10", "01", "+1", "Infinity", "tru", ""}[m.IntN(10)]
	case 5:
		return "\"" + m.word() + "\""
	case 6, 7:
		if depth > 3 {
			return "[]"
		}
		var list []string
		for range m.IntN(4) {
			list = append(list, m.value(depth+1))
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	if depth > 3 {
		return "{}"
	}
	var fields []string
	for range m.IntN(5) {
		fields = append(fields, strconv.Quote(fieldNames[m.IntN(len(fieldNames))])+":"+m.value(depth+1))
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// fieldNames are some that there are.
var fieldNames = []string{"name", "settings", "kind", "flow_id", "document", "nodes", "id", "type", "content", "scopes", "expires_at", "email", "password", "url", "events",
	"input", "updates", "user", "initial_state", "number", "agent_id", "percent", "environment", "limit", "code", "token", "role", "value", "key", "hosts", "headers",
	"variant_key", "variant_data", "tags", "weight", "data", "event", "expected_revision", "public", "origins", "inputs", "secret", "ttl_s", "cidrs", "description", "x"}

// body is of any kind; complete ones are near to what the route takes.
func (m *mangler) body(r api.Route) []byte {
	switch m.IntN(8) {
	case 0:
		return nil
	case 1:
		return []byte(m.word())
	case 2:
		text := bodyOf(r) // cut off, or with a byte turned
		if text == "" {
			text = "{}"
		}
		b := []byte(text)
		if m.IntN(2) == 0 {
			return b[:m.IntN(len(b))]
		}
		b[m.IntN(len(b))] ^= byte(1 << m.IntN(8))
		return b
	case 3:
		return []byte("{" + strings.Repeat(`"a":1,`, 1+m.IntN(200)) + `"a":2}`)
	case 4:
		return bytes.Repeat([]byte{byte(m.Uint32())}, m.IntN(1+int(min(max(r.Body, 0)+10, 200<<10))))
	}
	return []byte(m.value(0))
}

func (m *mangler) header() http.Header {
	h := http.Header{}
	for range m.IntN(4) {
		name := []string{"Content-Type", "Accept", "If-Match", "Idempotency-Key", "Range", "Origin", "X-Forwarded-For", "Forwarded", "Cookie", "Authorization", "X-API-Key",
			"Content-Encoding", "Expect", "Upgrade", "Connection", "Accept-Encoding", "Sec-WebSocket-Key", "X-CSRF-Token", "Last-Event-Id", "If-None-Match", "X-Twilio-Signature"}[m.IntN(21)]
		value := m.word()
		if m.IntN(3) == 0 {
			value = []string{"application/json", "application/json; charset=utf-7", "text/plain", "application/cbor", "*/*", "bytes=0-,5-", "bytes=-9999999999999999999", "100-continue",
				"websocket", "Upgrade", "gzip", `"1"`, `W/"1"`, "*", "Bearer ", "Bearer " + strings.Repeat("a", 9000), "Basic OjEyMw==", "null"}[m.IntN(18)]
		}
		// A server takes no line break in a header, nor its like.
		value = strings.Map(func(c rune) rune {
			if c < 0x20 && c != '\t' || c == 0x7f {
				return -1
			}
			return c
		}, value)
		h[name] = append(h[name], value)
	}
	return h
}

// path fills a pattern, or spoils it, and adds a query.
func (m *mangler) path(pattern string) string {
	parts := strings.Split(pattern, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, "{") {
			parts[i] = percent(m.word())
			if m.IntN(3) == 0 {
				parts[i] = m.ids[m.IntN(len(m.ids))]
			}
			if parts[i] == "" {
				parts[i] = "0"
			}
		}
	}
	path := strings.Join(parts, "/")
	if m.IntN(2) == 0 {
		return path
	}
	var q []string
	for range 1 + m.IntN(3) {
		name := []string{"limit", "after", "from", "to", "agent_id", "status", "q", "type", "since", "until", "before", "actor", "where", "locale", "environment", "percent", "flow_id"}[m.IntN(17)]
		q = append(q, name+"="+percent(m.word()))
	}
	return path + "?" + strings.Join(q, "&")
}

// percent escapes what a request line cannot hold, and little else.
func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= 0x20 || c >= 0x7f || c == '%' || c == '?' || c == '#' || c == '/' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// brokenBody fails where a client's chunks would.
type brokenBody struct{ r io.Reader }

func (b brokenBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == io.EOF {
		return n, errors.New("malformed chunked encoding")
	}
	return n, err
}

// Malformed requests find no fault and no panic, on no route: PARLEY_MALFORMED
// of them on each, 25 by default. The seed is fixed, so that what it finds is
// found again.
func TestMalformedRequests(t *testing.T) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("PARLEY_MALFORMED"), "25"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWired(t)
	made := w.tenant("owner@example.com")
	token := w.belongings(made)
	m := &mangler{ids: []string{token, uuid.NewString()}, creds: []string{made.APIKey, made.APIKey, made.APIKey, made.APIKey, token, ""}}
	for _, row := range w.names(made.Tenant) {
		m.ids = append(m.ids, row...)
	}
	statuses := map[int]int{}
	for _, r := range w.api.Routes() {
		if r.Class == api.Internal && strings.HasPrefix(r.Pattern, "/debug/") {
			continue // the standard library's, for as long as it is asked to
		}
		// Each route has its own sequence, whatever other routes there are.
		m.Rand = rand.New(rand.NewPCG(18, uint64(len(r.Pattern))<<8|uint64(len(r.Method))))
		for i := range n {
			s := sending{method: r.Method, path: m.path(r.Pattern), raw: m.body(r), header: m.header(), internal: r.Class == api.Internal,
				bearer: m.creds[m.IntN(len(m.creds))], broken: m.IntN(10) == 0, address: fmt.Sprintf("198.51.%d.%d:1", m.IntN(250), m.IntN(250))}
			if m.IntN(20) == 0 {
				s.method = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "X"}[m.IntN(11)]
			}
			if i%20 == 0 {
				w.forgive()
			}
			got := w.ask(s)
			statuses[got.status]++
			if got.status >= 500 && !w.mayBeAway(r, got) {
				t.Errorf("%s %s, request %d: %d %s\n%q %v %q\n%s", s.method, r.Pattern, i, got.status, got.body, s.path, s.header, bytes.ToValidUTF8(s.raw[:min(len(s.raw), 300)], nil), w.lastSaid("fault"))
			}
		}
	}
	if log := w.said.String(); strings.Contains(log, "panic in a handler") {
		t.Errorf("a handler panics: %s", w.lastSaid("panic in a handler"))
	}
	if statuses[200]+statuses[201] == 0 || statuses[422] == 0 || statuses[400] == 0 || statuses[404] == 0 {
		t.Errorf("answers are all of one kind: %v", statuses)
	}
	t.Logf("%d requests on each of %d routes: %v", n, len(w.api.Routes()), statuses)
}

// mayBeAway reports whether an answer truly is that something else is away.
func (w *wired) mayBeAway(r api.Route, got told) bool {
	return r.Pattern == "/readyz" && got.status == 503
}

// lastSaid is the last line of the log with a word.
func (w *wired) lastSaid(word string) string {
	lines := strings.Split(w.said.String(), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], word) {
			return lines[i][:min(len(lines[i]), 3000)]
		}
	}
	return ""
}
