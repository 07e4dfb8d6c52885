package library

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	key  = []byte(strings.Repeat("k", 32))
	noon = time.Unix(1_700_000_000, 0)
)

// token is what the gateway would say of user.
func token(key []byte, head, claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(head)) + "." + enc([]byte(claims))
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return text + "." + enc(m.Sum(nil))
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

func tokenOf(user string) string {
	return token(key, hs256, `{"iss":"parley","aud":"internal","sub":"`+user+`","tenant":"t","session":"s","exp":1700000060}`)
}

// ask sends a request as user would, and returns the status and the answer.
func ask(t *testing.T, bearer, method, path, body string) (int, map[string]any) {
	t.Helper()
	l, err := New(key, func() time.Time { return noon })
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	l.Handler().ServeHTTP(w, r)
	var m map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil && w.Code != http.StatusNotFound {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return w.Code, m
}

func TestOnlyTheGatewayIsBelieved(t *testing.T) {
	claims := func(s string) string { return `{"iss":"parley","aud":"internal","sub":"ada",` + s + `}` }
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims(`"exp":1700000060`))) + "."
	other := []byte(strings.Repeat("x", 32))
	good := tokenOf("ada")
	tests := []struct {
		name, token string
		want        int
	}{
		{"good", good, 200},
		{"none", "", 401},
		{"nonsense", "a.b.c", 401},
		{"unsigned", none, 401},
		{"altered", strings.Replace(good, ".", ".e", 1), 401},
		{"another key", token(other, hs256, claims(`"exp":1700000060`)), 401},
		{"another algorithm", token(key, `{"alg":"HS512"}`, claims(`"exp":1700000060`)), 401},
		{"over", token(key, hs256, claims(`"exp":1699999900`)), 401},
		{"for another", token(key, hs256, `{"iss":"parley","aud":"else","sub":"ada","exp":1700000060}`), 401},
		{"by another", token(key, hs256, `{"iss":"else","aud":"internal","sub":"ada","exp":1700000060}`), 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []struct{ method, path, body string }{
				{"GET", "/chatbot/users/ada/profile", ""},
				{"POST", "/chatbot/recommendations", `{}`},
				{"POST", "/chatbot/assessment/reading-level", `{"assessment_data":{"comprehension_score":1}}`},
			} {
				if got, m := ask(t, tt.token, r.method, r.path, r.body); got != tt.want {
					t.Errorf("%s: %d %v, want %d", r.path, got, m, tt.want)
				}
			}
		})
	}
}

func TestProfile(t *testing.T) {
	status, p := ask(t, tokenOf("ada"), "GET", "/chatbot/users/ada/profile", "")
	if status != 200 {
		t.Fatalf("%d %v", status, p)
	}
	for _, f := range []string{"reading_level", "interests", "school", "statistics", "recent_reading"} {
		if p[f] == nil {
			t.Errorf("no %s in %v", f, p)
		}
	}
	// Another's, nobody's and one that does not exist look the same.
	var first map[string]any
	for i, r := range [][2]string{{"ben", "ada"}, {"", "ada"}, {"ada", "nobody"}, {"nobody", "nobody"}} {
		status, m := ask(t, tokenOf(r[0]), "GET", "/chatbot/users/"+r[1]+"/profile", "")
		if i == 0 {
			first = m
		}
		if status != 404 || m["title"] != first["title"] {
			t.Errorf("%q asks for %q: %d %v", r[0], r[1], status, m)
		}
	}
}

func TestRecommendations(t *testing.T) {
	const path = "/chatbot/recommendations"
	list := func(m map[string]any) (isbns, titles []string) {
		for _, b := range m["recommendations"].([]any) {
			isbns, titles = append(isbns, b.(map[string]any)["isbn"].(string)), append(titles, b.(map[string]any)["title"].(string))
		}
		return isbns, titles
	}
	// The seed's own request.
	status, m := ask(t, tokenOf("ada"), "POST", path, `{"user_id":"ada","preferences":{"genres":["adventure","mystery"],"reading_level":"intermediate"},"limit":5,"exclude_isbns":["978-1234567890"]}`)
	isbns, titles := list(m)
	if status != 200 || titles[0] != "Treasure Island" || m["count"] != float64(len(isbns)) || m["fallback"] != false || m["user_reading_level"] != "intermediate" {
		t.Errorf("%d %v", status, m)
	}
	f := m["filters_applied"].(map[string]any)
	if js(f["genres"]) != `["adventure","mystery"]` || f["reading_level"] != "intermediate" || f["limit"] != 5.0 || js(f["exclude_isbns"]) != `["978-1234567890"]` {
		t.Errorf("filters %v", f)
	}
	// What is excluded does not come, and the limit holds.
	_, m = ask(t, tokenOf(""), "POST", path, `{"preferences":{"genres":["Adventure","mystery"],"reading_level":"intermediate","age":9},"limit":2,"exclude_isbns":["`+isbns[0]+`"]}`)
	again, _ := list(m)
	if len(again) != 2 || slices.Contains(again, isbns[0]) {
		t.Errorf("%v after %v", again, isbns)
	}
	// A book is for the age, or it does not come; where nothing is left, what
	// many read comes and says so.
	_, m = ask(t, tokenOf(""), "POST", path, `{"preferences":{"genres":["science"],"age":4},"limit":3}`)
	if got, _ := list(m); m["fallback"] != true || len(got) == 0 || m["spoken"] != "The Tale of Peter Rabbit, The Three Little Pigs or The Elves and the Shoemaker" {
		t.Errorf("%v", m)
	}
	_, m = ask(t, tokenOf(""), "POST", path, `{"preferences":{"genres":["mystery"],"reading_level":"advanced","age":8},"limit":1}`)
	if got := m["recommendations"].([]any)[0].(map[string]any); m["fallback"] != true || got["reading_level"] != "intermediate" {
		t.Errorf("a young reader who reads well is given %v", got)
	}
}

func TestAssessment(t *testing.T) {
	const path = "/chatbot/assessment/reading-level"
	tests := []struct {
		name, body, level string
		score, confidence float64
	}{
		{"seed", `{"user_id":"ada","assessment_data":{"quiz_answers":{"correct":8,"total":10},"comprehension_score":0.75,"vocabulary_score":0.82},"current_reading_level":"intermediate","age":12}`,
			"advanced", 0.79, 0.87},
		{"all", `{"assessment_data":{"quiz_answers":{"correct":5,"total":5},"comprehension_score":1,"vocabulary_score":1,"reading_sample":{"words":100,"errors":0}}}`, "advanced", 1, 1},
		{"nothing right", `{"assessment_data":{"quiz_answers":{"correct":0,"total":5},"comprehension_score":0,"vocabulary_score":0,"reading_sample":{"words":100,"errors":100}}}`, "beginner", 0, 1},
		{"a middle", `{"assessment_data":{"comprehension_score":0.6}}`, "intermediate", 0.6, 0.3},
		{"little says little", `{"assessment_data":{"quiz_answers":{"correct":1,"total":1}},"current_reading_level":"beginner"}`, "intermediate", 1, 0.08},
		{"parts disagree", `{"assessment_data":{"comprehension_score":1,"vocabulary_score":0}}`, "intermediate", 0.6, 0.25},
		{"missing age", `{"assessment_data":{"comprehension_score":0.1},"age":null,"current_reading_level":""}`, "beginner", 0.1, 0.3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, m := ask(t, tokenOf("ada"), "POST", path, tt.body)
			if status != 200 || m["reading_level"] != tt.level || m["score"] != tt.score || m["confidence"] != tt.confidence {
				t.Errorf("%d %v, want %s %v %v", status, m, tt.level, tt.score, tt.confidence)
			}
			if m["level_description"] == "" || len(m["next_steps"].([]any)) == 0 || m["strengths"] == nil {
				t.Errorf("%v", m)
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	const books, level = "/chatbot/recommendations", "/chatbot/assessment/reading-level"
	tests := []struct {
		name, path, body string
		status           int
		field            string
	}{
		{"no JSON", books, `{`, 400, ""},
		{"a list", books, `[]`, 422, ""},
		{"a text for a list", books, `{"preferences":{"genres":"adventure"}}`, 422, "preferences.genres"},
		{"no books", books, `{"limit":0}`, 422, "limit"},
		{"too many books", books, `{"limit":21}`, 422, "limit"},
		{"half a book", books, `{"limit":1.5}`, 422, "limit"},
		{"unknown level", books, `{"preferences":{"reading_level":"genius"}}`, 422, "preferences.reading_level"},
		{"no age", books, `{"preferences":{"age":-1}}`, 422, "preferences.age"},
		{"empty genre", books, `{"preferences":{"genres":["a",""]}}`, 422, "preferences.genres.1"},
		{"long genre", books, `{"preferences":{"genres":["` + strings.Repeat("a", 41) + `"]}}`, 422, "preferences.genres.0"},
		{"many genres", books, `{"preferences":{"genres":[` + strings.Repeat(`"a",`, 20) + `"a"]}}`, 422, "preferences.genres"},
		{"many excluded", books, `{"exclude_isbns":[` + strings.Repeat(`"a",`, 200) + `"a"]}`, 422, "exclude_isbns"},
		{"line break", books, `{"exclude_isbns":["a\nb"]}`, 422, "exclude_isbns.0"},
		{"another's", books, `{"user_id":"ben"}`, 403, "user_id"},
		{"large", books, `{"user_id":"` + strings.Repeat("a", maxBody) + `"}`, 413, ""},
		{"no test", level, `{}`, 422, "assessment_data"},
		{"more right than asked", level, `{"assessment_data":{"quiz_answers":{"correct":6,"total":5}}}`, 422, "assessment_data.quiz_answers"},
		{"nothing asked", level, `{"assessment_data":{"quiz_answers":{"correct":0,"total":0}}}`, 422, "assessment_data.quiz_answers"},
		{"score over 1", level, `{"assessment_data":{"vocabulary_score":1.01}}`, 422, "assessment_data.vocabulary_score"},
		{"more errors than words", level, `{"assessment_data":{"reading_sample":{"words":1,"errors":2}}}`, 422, "assessment_data.reading_sample"},
		{"unknown current level", level, `{"assessment_data":{"vocabulary_score":1},"current_reading_level":"x"}`, 422, "current_reading_level"},
		{"old age", level, `{"assessment_data":{"vocabulary_score":1},"age":121}`, 422, "age"},
		{"another's level", level, `{"user_id":"ben","assessment_data":{"vocabulary_score":1}}`, 403, "user_id"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, m := ask(t, tokenOf("ada"), "POST", tt.path, tt.body)
			field, _ := m["field"].(string)
			if status != tt.status || field != tt.field || m["code"] == "" {
				t.Errorf("%d %v, want %d at %q", status, m, tt.status, tt.field)
			}
		})
	}
	l, err := New(key, func() time.Time { return noon })
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", books, strings.NewReader("limit=5"))
	r.Header.Set("Authorization", "Bearer "+tokenOf("ada"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	l.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("a form: %d", w.Code)
	}
	if _, err := New([]byte("short"), nil); err == nil {
		t.Error("a short key is taken")
	}
}

func js(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
