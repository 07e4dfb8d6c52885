package signalingtest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/signaling"
)

// A mock answers what Twilio's document knows with the document's own examples.
type mock struct {
	document *apiDocument
	raw      map[string]any

	mu      sync.Mutex
	example string // of an operation's, by its name; empty: the first
	strays  []string
}

func (m *mock) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	_ = req.ParseForm()
	o, err := m.document.check(req)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.strays = append(m.strays, err.Error())
		restError(w, http.StatusBadRequest, 20001, err.Error())
		return
	}
	path := object(object(m.raw["paths"])[strings.Join(o.path, "/")])
	for status, a := range object(object(path[strings.ToLower(o.method)])["responses"]) {
		examples := object(object(object(object(a)["content"])["application/json"])["examples"])
		name := m.example
		if examples[name] == nil {
			name = slices.Sorted(maps.Keys(examples))[0]
		}
		body, err := json.Marshal(object(examples[name])["value"])
		if err == nil {
			err = o.checkAnswer(number(status), body)
		}
		if err != nil {
			m.strays = append(m.strays, err.Error())
		}
		w.WriteHeader(number(status))
		_, _ = w.Write(body)
	}
}

func number(s string) int { n, _ := strconv.Atoi(s); return n }

// Every request of ours is one that Twilio's document knows, and we read what it
// says is answered.
func TestRequestsByTwiliosDocument(t *testing.T) {
	b := documentOrNote(t)
	if b == nil {
		return
	}
	m := &mock{}
	var err error
	if m.document, err = newAPIDocument(b); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &m.raw); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(m)
	defer server.Close()
	account, call := "AC"+strings.Repeat("a", 32), "CA"+strings.Repeat("a", 32)
	rest := &signaling.REST{AccountSID: account, User: "SK1", BaseURL: server.URL,
		Secret: func(context.Context) (string, error) { return "s3cret", nil }}
	const hook = "https://gw.example/twilio/voice/desk?dial=1#ct=1000&rc=5"
	sid := func(want int) func(string, error) error {
		return func(got string, err error) error {
			if err == nil && len(got) != want {
				err = fmt.Errorf("the sid is %q", got)
			}
			return err
		}
	}(34)
	for name, do := range map[string]func(context.Context) error{
		"place": func(ctx context.Context) error {
			return sid(rest.CreateCall(ctx, signaling.OutboundCall{From: "+15550100", To: "+15550101", Answer: hook}))
		},
		"place-with-all": func(ctx context.Context) error {
			return sid(rest.CreateCall(ctx, signaling.OutboundCall{From: "+15550100", To: "+15550101", Answer: hook, Status: hook,
				Ring: 25 * time.Second, TimeLimit: time.Hour, DetectMachine: true, AwaitMachine: true}))
		},
		"place-to-sip": func(ctx context.Context) error {
			return sid(rest.CreateCall(ctx, signaling.OutboundCall{From: "client:desk", To: "sip:desk@example.com", Answer: hook}))
		},
		"consult": func(ctx context.Context) error {
			return sid(rest.Consult(ctx, "https://gw.example/", "4b9d", "+15550100", "+15550101"))
		},
		"hang-up":  func(ctx context.Context) error { return rest.HangUp(ctx, call) },
		"redirect": func(ctx context.Context) error { return rest.Redirect(ctx, call, hook) },
		"perform":  func(ctx context.Context) error { return rest.Perform(ctx, call, "<Response><Hangup/></Response>") },
		"fetch": func(ctx context.Context) error {
			c, err := rest.FetchCall(ctx, call)
			want := signaling.CallRecord{SID: c.SID, Status: "completed", AnsweredBy: "machine_start",
				Created: time.Date(2019, 10, 18, 17, 0, 0, 0, time.UTC), Duration: 4 * time.Second}
			if c.Created = c.Created.UTC(); err == nil && (len(c.SID) != 34 || c != want) {
				err = fmt.Errorf("read %+v, want %+v", c, want)
			}
			return err
		},
		"list": func(ctx context.Context) error {
			m.mu.Lock()
			m.example = "readFullPage1"
			m.mu.Unlock()
			list, err := rest.FindCalls(ctx, "+15550100", "+15550101")
			if err == nil && (len(list) == 0 || list[0].Status == "" || list[0].Created.IsZero()) {
				err = fmt.Errorf("read %+v", list)
			}
			return err
		},
		"check": func(ctx context.Context) error {
			wrong, err := rest.Check(ctx)
			if err == nil && wrong != "" {
				err = fmt.Errorf("an active account is %q", wrong)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := do(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for _, stray := range m.strays {
		t.Error(stray)
	}
}
