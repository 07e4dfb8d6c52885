package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/agent/effect"
	"parley/control"
	"parley/store/postgres/postgrestest"
)

// canaries are secrets that must not be seen again: one that no encoding
// changes, and one that all do.
var canaries = map[string]string{"plain": "c4nary8d2f1e7", "odd": `ca/na+ry"q<ü>&x ='1`}

// forms of a secret, as programs write them.
func forms(s string) map[string]string {
	quoted, _ := json.Marshal(s)
	lean := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(quoted))
	twice, _ := json.Marshal(string(quoted[1 : len(quoted)-1]))
	out := map[string]string{
		"plain": s, "json": string(quoted[1 : len(quoted)-1]), "lean-json": lean[1 : len(lean)-1], "json-twice": string(twice[1 : len(twice)-1]),
		"query": url.QueryEscape(s), "path": url.PathEscape(s), "html": html.EscapeString(s),
		"hex": hex.EncodeToString([]byte(s)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(s))), "go": strings.Trim(fmt.Sprintf("%q", s), `"`),
	}
	for i, before := range []string{"", ":", "u:"} { // within a longer text base64 begins at any of three places
		b := base64.RawStdEncoding.EncodeToString([]byte(before + s))
		core := b[(8*i+5)/6 : (8*(i+len(s)))/6]
		out[fmt.Sprint("base64-", i)] = core
		out[fmt.Sprint("base64url-", i)] = strings.NewReplacer("+", "-", "/", "_").Replace(core)
	}
	return out
}

// leak names the canaries that a text holds.
func leak(text string) []string { return leakOf(text, canaries) }

// leakOf does, of others.
func leakOf(text string, secrets map[string]string) []string {
	var found []string
	for key, value := range secrets {
		for form, s := range forms(value) {
			if strings.Contains(text, s) {
				found = append(found, key+" as "+form)
			}
		}
	}
	slices.Sort(found)
	return found
}

// betrayal is a server that gives away what it was sent, in many ways.
func betrayal(t *testing.T) (*httptest.Server, func() map[string]int) {
	t.Helper()
	seen := make(chan string, 1000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told := fmt.Sprint(r.Header.Get("Authorization"), " ", r.Header.Get("X-Odd"), " ", r.URL.Query().Get("key"), " ", string(body))
		if leak(told) != nil {
			seen <- r.URL.Path
		}
		odd := canaries["odd"]
		switch r.URL.Path {
		case "/echo":
			everything := map[string]any{"headers": r.Header, "query": r.URL.RawQuery, "body": string(body), "basic": base64.StdEncoding.EncodeToString([]byte("user:" + odd)),
				"forms": forms(odd), canaries["plain"]: 1, "list": []any{odd, []string{told}}}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(everything)
		case "/text":
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<p>"+html.EscapeString(told)+"</p>"+told)
		case "/fail":
			w.Header().Set("Retry-After", "0")
			http.Error(w, told, http.StatusServiceUnavailable)
		case "/again":
			http.Redirect(w, r, "/echo?"+url.Values{"key": {odd}}.Encode(), http.StatusFound)
		case "/away":
			http.Redirect(w, r, "http://127.0.0.1:9/"+url.PathEscape(odd)+"?key="+canaries["plain"], http.StatusFound)
		case "/name":
			http.Redirect(w, r, "http://"+canaries["plain"]+".invalid/", http.StatusFound)
		case "/inside":
			http.Redirect(w, r, "ftp://"+canaries["plain"]+".example/", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		case "/broken":
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = fmt.Fprintf(c, "HTTP/1.1 %s %s\r\n\r\n", canaries["plain"], told)
				_ = c.Close()
			}
		}
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s, func() map[string]int {
		n := map[string]int{}
		for len(seen) > 0 {
			n[<-seen]++
		}
		return n
	}
}

// betrayed calls one address after the other with the secrets in all places
// that they may stand in, and shows all that came back.
func betrayed(server string, paths []string) string {
	var nodes, shown []string
	sends := func(path string) string {
		return `"url":"` + server + path + `","method":"POST","timeout":%s,"headers":{"Authorization":"Bearer {secret:plain}","X-Odd":"{secret:odd}"},
			"query_params":{"key":"{secret:odd}"},"body":{"a":["{secret:plain}",{"b":"x{secret:odd}y"}],"said":"{said}"},"cache_ttl":60`
	}
	for i, p := range paths {
		got, next := fmt.Sprintf("got%d", i), fmt.Sprintf("a%d", i)
		nodes = append(nodes, fmt.Sprintf(`{"id":"w%d","type":"webhook","content":{%s,"retry":{"attempts":2,"delay":1},"circuit_breaker":{"failure_threshold":9},"response_mapping":{"%s":"$"}},"connections":{"success":"%s","error":"%s"}}`,
			i, fmt.Sprintf(sends(p), "300"), got, next, next))
		after := fmt.Sprintf("w%d", i+1)
		if i == len(paths)-1 {
			after = "all"
		}
		nodes = append(nodes, fmt.Sprintf(`{"id":"%s","type":"action","content":{"on_error":"continue","actions":[{"type":"api_call","config":{%s,"response_variable":"user.%s","error_variable":"temp.%s"}}]},"connections":{"success":"%s","error":"%s"}}`,
			next, fmt.Sprintf(sends(p), "0.3"), got, got, after, after))
		shown = append(shown, "{"+got+"} {user."+got+"} {temp."+got+"}")
	}
	text, _ := json.Marshal(strings.Join(shown, " | "))
	return `{"nodes":[{"id":"q","type":"question","content":{"question":"?","variable":"said"},"connections":{"default":"w0"}},` + strings.Join(nodes, ",") +
		`,{"id":"all","type":"message","content":{"text":` + string(text) + `},"connections":{"default":"more"}},
		{"id":"more","type":"question","content":{"question":"More?","variable":"more"},"connections":{"default":"end"}},{"id":"end","type":"message","content":{"text":"{said} {more}"}}]}`
}

// Secrets reach the servers that they are bound to, and appear nowhere else: in
// no log at any level, answer, table or metric, whatever those servers do.
func TestCanarySecrets(t *testing.T) {
	t.Parallel()
	var db postgrestest.Database
	s := newSite(t, func(d postgrestest.Database) string { db = d; return d.AppURL })
	server, seen := betrayal(t)
	data := plantSecrets(t, s, server.URL)
	metrics := freeAddress(t)
	s.env = append(s.env, "PARLEY_LOG_LEVEL=debug", "PARLEY_ADMIN_LISTEN="+metrics, "PARLEY_ADMIN_TOKEN_FILE="+file(t, adminToken), "PARLEY_EGRESS_ALLOW="+strings.TrimPrefix(server.URL, "http://"))
	n := s.start("a", "127.0.0.1:0", "--data", data)
	paths := []string{"/echo", "/text", "/fail", "/again", "/away", "/name", "/inside", "/slow", "/broken"}
	doc := betrayed(server.URL, paths)
	answers := s.betray(n, doc)
	arrived := seen()
	for _, p := range paths {
		if arrived[p] == 0 {
			t.Errorf("no secret arrived at %s: nothing was tested", p)
		}
	}
	for what, text := range map[string]string{"answers": answers, "log": n.log.String(), "metrics": fetch(t, "http://"+metrics+"/metrics"), "database": dump(t, db)} {
		if len(text) < 500 {
			t.Errorf("%s: only %q", what, text)
		}
		if found := leak(text); found != nil {
			t.Errorf("%s holds %v: %s", what, found, around(text))
		}
	}
}

// betray holds the conversation, and returns all that the API says of it.
func (s *site) betray(n *node, doc string) string {
	s.t.Helper()
	var all strings.Builder
	ask := func(method, path, bearer, body string, want int) map[string]any {
		m := s.ask(n, method, path, bearer, body, want)
		b, _ := json.Marshal(m)
		all.Write(b)
		return m
	}
	f := ask("POST", "/v1/flows", s.key, `{"name":"canary","document":`+doc+`}`, 201)["id"].(string)
	ask("POST", "/v1/flows/"+f+"/publish", s.key, `{}`, 200)
	chat := ask("POST", "/chat/start", s.key, `{"flow_id":"canary"}`, 201)
	id, token := chat["session_id"].(string), chat["session_token"].(string)
	path := "/chat/sessions/" + token
	m := ask("POST", path+"/interact", token, `{"input":"{secret:plain} {{secret:odd}} {said}"}`, 200)
	if m["status"] != "active" || m["current_node"] != "more" {
		s.t.Errorf("the conversation is at %v", m)
	}
	for _, p := range []string{path, path + "/history"} {
		ask("GET", p, token, "", 200)
	}
	ask("POST", path+"/interact", token, `{"input":"bye"}`, 200)
	for _, p := range []string{"/v1/sessions/" + id, "/v1/sessions/" + id + "/history", "/v1/sessions", "/v1/flows/" + f + "/export"} {
		ask("GET", p, s.key, "", 200)
	}
	ask("POST", "/v1/flows/"+f+"/simulate", s.key, `{"inputs":["{secret:plain}","x"]}`, 200)
	// Where a secret may not stand, publishing is refused, without the value.
	for _, bad := range []string{
		`{"nodes":[{"id":"a","type":"message","content":{"text":"{secret:plain}"}}]}`,
		`{"nodes":[{"id":"a","type":"webhook","content":{"url":"https://a.example/{secret:plain}"}}]}`,
		`{"nodes":[{"id":"a","type":"action","content":{"actions":[{"type":"set_variable","variable":"x","value":"{secret:plain}"}]}}]}`,
	} {
		ask("POST", "/v1/flows/"+f+"/simulate", s.key, `{"document":`+bad+`}`, 422)
		if v := ask("POST", "/v1/flows/validate", s.key, `{"document":`+bad+`}`, 200); v["valid"] != false {
			s.t.Errorf("%s may be published", bad)
		}
	}
	return all.String()
}

// plantSecrets makes a data folder with the canaries, bound to one server.
func plantSecrets(t *testing.T, s *site, server string) string {
	t.Helper()
	data, keyFile := t.TempDir(), ""
	for _, e := range s.env {
		if name, v, _ := strings.Cut(e, "="); name == "PARLEY_KEY_FILE" {
			keyFile = v
		}
	}
	ring, err := readKeyring(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := openSecrets(data, ring)
	for key, value := range canaries {
		if err == nil {
			err = secrets.PutSecret(t.Context(), control.SecretEntry{Key: key, Hosts: []string{server}}, effect.Secret(value))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(data, "secrets")); err != nil {
		t.Fatal(err)
	}
	return data
}

// adminToken is what the nodes of tests want on their admin listeners.
const adminToken = "an admin token of the tests, long enough"

func fetch(t *testing.T, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dump is every row of every table.
func dump(t *testing.T, db postgrestest.Database) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.SuperURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	list := func(q string) []string {
		r, err := conn.Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		out, err := pgx.CollectRows(r, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var all strings.Builder
	for _, table := range list(`SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`) {
		for _, row := range list(`SELECT to_jsonb(t)::text FROM ` + table + ` t`) {
			all.WriteString(table + ": " + row + "\n")
		}
	}
	return all.String()
}

// around shows where a text holds the first canary.
func around(text string) string { return aroundOf(text, canaries) }

func aroundOf(text string, secrets map[string]string) string {
	for _, value := range secrets {
		for form, s := range forms(value) {
			if i := strings.Index(text, s); i >= 0 {
				return form + " in …" + text[max(0, i-200):min(len(text), i+100)] + "…"
			}
		}
	}
	return ""
}
