package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
	"parley/agent/flow/flowtest"
	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
)

// ask sends a request to a node and returns the answer's JSON.
func (s *site) ask(n *node, method, path, bearer, body string, want int) map[string]any {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		if want == 0 {
			return nil
		}
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var m map[string]any
	raw, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(raw, &m); resp.StatusCode != want || err != nil && want != 204 {
		s.t.Fatalf("%s %s: %d %s, want %d", method, path, resp.StatusCode, raw, want)
	}
	return m
}

// A node is killed while its turn calls outside: the other finishes the turn,
// with nobody asking, and gives the call out again under the same key.
func TestChatOutlivesANode(t *testing.T) {
	t.Parallel()
	s := newSite(t, directly)
	var mu sync.Mutex
	var keys []string
	arrived := make(chan struct{}, 2)
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		first := len(keys) == 1
		mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body) // else its end is not noticed
		arrived <- struct{}{}
		if first {
			<-r.Context().Done() // never answered
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"number":7}`)
	}))
	t.Cleanup(func() { shop.CloseClientConnections(); shop.Close() })
	s.env = append(s.env, "PARLEY_EGRESS_ALLOW="+strings.TrimPrefix(shop.URL, "http://"))
	a, b := s.start("a", "127.0.0.1:0"), s.start("b", "127.0.0.1:0")
	doc := `{"nodes":[{"id":"what","type":"question","content":{"question":"What?","variable":"what"},"connections":{"default":"order"}},
		{"id":"order","type":"webhook","content":{"url":"` + shop.URL + `/order","method":"POST","timeout":60000,"body":{"what":"{what}"},"response_mapping":{"number":"$.number"}},"connections":{"success":"done","error":"failed"}},
		{"id":"done","type":"message","content":{"text":"Order {number}."}},{"id":"failed","type":"message","content":{"text":"That failed."}}]}`
	f := s.ask(a, "POST", "/v1/flows", s.key, `{"name":"shop","document":`+doc+`}`, 201)
	s.ask(a, "POST", "/v1/flows/"+f["id"].(string)+"/publish", s.key, `{}`, 200)
	chat := s.ask(a, "POST", "/chat/start", s.key, `{"flow_id":"shop"}`, 201)
	path, token := "/chat/sessions/"+chat["session_token"].(string), chat["session_token"].(string)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		s.ask(a, "POST", path+"/interact", token, `{"input":"tea"}`, 0) // the connection breaks
	}()
	<-arrived
	a.signal(t, os.Kill)
	<-answered
	began := time.Now()
	select {
	case <-arrived:
	case <-time.After(40 * time.Second):
		t.Fatal("the other node does not go on")
	}
	s.await(10*time.Second, "the turn's end", func() bool {
		return s.ask(b, "GET", path, token, "", 200)["status"] == "completed"
	})
	t.Logf("the turn is finished %v after its node was killed", time.Since(began).Round(100*time.Millisecond))
	h := s.ask(b, "GET", path+"/history", token, "", 200)["items"].([]any)
	last, _ := json.Marshal(h[len(h)-1])
	if len(h) != 3 || !bytes.Contains(last, []byte("Order 7.")) {
		t.Errorf("history of %d, at last %s", len(h), last)
	}
	want := chat["session_id"].(string) + ":order:2"
	if !slices.Equal(keys, []string{want, want}) {
		t.Errorf("keys %q, want %q twice", keys, want)
	}
	if all := a.log.String() + b.log.String(); strings.Contains(all, token) {
		t.Error("a log holds the token")
	}
}

// A node is killed while it makes an asynchronous call that nobody waits for.
// Another, which was not there yet, makes it again under the same key.
func TestTaskOutlivesItsNode(t *testing.T) {
	t.Parallel()
	s := newSite(t, directly)
	keys := make(chan string, 4)
	var calls atomic.Int32
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		keys <- r.Header.Get("Idempotency-Key")
		if calls.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"number":7}`)
	}))
	t.Cleanup(func() { shop.CloseClientConnections(); shop.Close() })
	s.env = append(s.env, "PARLEY_EGRESS_ALLOW="+strings.TrimPrefix(shop.URL, "http://"))
	a := s.start("a", "127.0.0.1:0")
	doc := `{"nodes":[{"id":"what","type":"question","content":{"question":"What?"},"connections":{"default":"order"}},
		{"id":"order","type":"webhook","content":{"url":"` + shop.URL + `/order","async":true,"timeout":60000,"say_while":"Ordering.","response_mapping":{"number":"$.number"}},"connections":{"success":"done","error":"failed"}},
		{"id":"done","type":"message","content":{"text":"Order {number}."}},{"id":"failed","type":"message","content":{"text":"That failed."}}]}`
	f := s.ask(a, "POST", "/v1/flows", s.key, `{"name":"shop","document":`+doc+`}`, 201)
	s.ask(a, "POST", "/v1/flows/"+f["id"].(string)+"/publish", s.key, `{}`, 200)
	chat := s.ask(a, "POST", "/chat/start", s.key, `{"flow_id":"shop"}`, 201)
	path, token := "/chat/sessions/"+chat["session_token"].(string), chat["session_token"].(string)
	r := s.ask(a, "POST", path+"/interact", token, `{"input":"tea"}`, 200)
	if r["status"] != "active" || r["current_node"] != "order" || r["input"] != nil {
		t.Errorf("answered with %v, want the turn to end at order", r)
	}
	s.ask(a, "POST", path+"/interact", token, `{"input":"well?"}`, 409)
	first := <-keys
	a.signal(t, os.Kill)
	b := s.start("b", "127.0.0.1:0")
	select {
	case again := <-keys:
		if want := chat["session_id"].(string) + ":order:2"; first != want || again != want {
			t.Errorf("keys %q and %q, want %q twice", first, again, want)
		}
	case <-time.After(40 * time.Second):
		t.Fatal("the other node does not go on")
	}
	s.await(10*time.Second, "the flow's end", func() bool {
		return s.ask(b, "GET", path, token, "", 200)["status"] == "completed"
	})
	h := s.ask(b, "GET", fmt.Sprintf("%s/history?after=%v", path, r["revision"]), token, "", 200)["items"].([]any)
	if last, _ := json.Marshal(h); len(h) != 1 || !bytes.Contains(last, []byte("Order 7.")) {
		t.Errorf("the page reads %s", last)
	}
}

// One flow says the same in the terminal, in chat, in a simulation and to the
// test runner.
func TestSameTranscript(t *testing.T) {
	doc, err := os.ReadFile(frontDesk)
	if err != nil {
		t.Fatal(err)
	}
	for _, inputs := range [][]string{
		{"opening hours please", "yes", "book a table", "400", "4", "monday", "friday", "no", "2", "sunday", "yes", "no"},
		{"nonsense", "more nonsense", "and more"},
		{"repeat that", "a table", "talk to a person"},
	} {
		chat := chatTalk(t, doc, inputs)
		if len(chat) != len(inputs)+1 && len(chat) < 2 {
			t.Fatalf("chat says %q", chat)
		}
		if got, want := terminalTalk(t, inputs), slices.Concat(chat...); !slices.Equal(got, want) {
			t.Errorf("the terminal says\n%q, chat\n%q", got, want)
		}
		steps := []flowtest.Step{}
		for i, said := range chat {
			st := flowtest.Step{Messages: &[]any{}}
			if i > 0 {
				st.Input, _ = json.Marshal(inputs[i-1])
			}
			for _, m := range said {
				*st.Messages = append(*st.Messages, m)
			}
			steps = append(steps, st)
		}
		if r := flowtest.Run(flowtest.Case{Name: "same", Flow: doc, Steps: steps}); !r.OK {
			t.Errorf("the test runner, step %d: got %s, chat says %s", r.Step, r.Got, r.Want)
		}
	}
}

// chatTalk answers by the chat's service, on a real database, and returns what
// is said turn by turn. The simulation must say the same.
func chatTalk(t *testing.T, doc []byte, inputs []string) [][]string {
	t.Helper()
	store, err := postgres.Open(t.Context(), databases.New(t).AppURL, postgres.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	ring, err := control.NewKeyring(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	tenant := uuid.New()
	ctx := control.WithTenant(t.Context(), tenant)
	flows := &control.Flows{Store: store, Changes: store}
	chats := &control.Chats{Store: store, Turns: store, Flows: flows, Graphs: &control.Graphs{Store: store}, Ring: ring,
		Log: slog.New(slog.DiscardHandler), Perform: (&outside{log: slog.New(slog.DiscardHandler)}).performerOf}
	err = store.InsertTenant(t.Context(), identity.Tenant{ID: tenant, Name: "t"}, identity.User{ID: uuid.New(), Email: "a@b.c", Role: control.RoleOwner})
	if err != nil {
		t.Fatal(err)
	}
	f, _, err := flows.Create(ctx, "desk", doc)
	if err == nil {
		_, err = flows.Releases().Publish(ctx, f.ID, control.Release{}, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := chats.Start(ctx, control.Beginning{Flow: "desk"})
	if err != nil {
		t.Fatal(err)
	}
	said := [][]string{texts(r.Messages)}
	sim := control.Simulation{}
	for _, in := range inputs {
		if r.Status != flow.Active {
			break
		}
		a := control.Answer{Text: in, Mode: "text"}
		sim.Inputs = append(sim.Inputs, a)
		if r, err = chats.Interact(ctx, r.ID, a); err != nil {
			t.Fatal(err)
		}
		said = append(said, texts(r.Messages))
	}
	turns, err := flows.Simulate(ctx, chats.Graphs, doc, sim)
	if err != nil || len(turns) != len(said) {
		t.Fatalf("%d turns simulated, %v, want %d", len(turns), err, len(said))
	}
	for i, s := range turns {
		if got := texts(s.Messages); !slices.Equal(got, said[i]) {
			t.Errorf("turn %d: the simulation says %q, chat %q", i, got, said[i])
		}
	}
	return said
}

func texts(list []flow.Message) []string {
	out := []string{}
	for _, m := range list {
		out = append(out, m.Text)
	}
	return out
}

// terminalTalk is what `parley flow run` says.
func terminalTalk(t *testing.T, inputs []string) []string {
	t.Helper()
	_, out, errs := parley(t, strings.Join(inputs, "\n")+"\n", "flow", "run", "--json", frontDesk)
	var said []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var m struct{ Text, Status string }
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(fmt.Errorf("%w in %q: %s", err, line, errs))
		}
		if m.Status == "" {
			said = append(said, m.Text)
		}
	}
	return said
}
