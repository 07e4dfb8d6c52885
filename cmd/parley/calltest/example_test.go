package calltest

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/agent/effect"
	"parley/agent/flow"
	"parley/control"
	"parley/control/identity"
	"parley/examples/bookbot/library"
	"parley/store/postgres/postgrestest"
)

var databases postgrestest.Server

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

// An example is a flow with those that it calls, and what stands behind it.
type example struct {
	files   []string // the flow first
	service bool     // the library answers
	// pictures are shown in chat. On the telephone those that say speak_alt are
	// described, and the others left out.
	pictures map[string]bool
	model    []string // what a language model says in turn; "exit:name" takes an exit
}

var (
	frontDesk = example{files: []string{"front-desk/flow.json"}}
	bookBot   = example{files: []string{"bookbot/flow.json", "bookbot/pictures.json", "bookbot/quiz.json"}, service: true,
		pictures: map[string]bool{"One: a treasure map. Two: a magnifying glass. Three: a puppy. Which of these": true, "A robot": false}}
)

// An exchange is what a person said, and what came of it: what the agent said
// and asked the world, and where the flow waits then.
type exchange struct {
	Said     string
	Messages []string // JSON
	Calls    []string // routes
	Node     string
}

// A conversation is what the history of a channel holds.
type conversation struct {
	exchanges       []exchange
	status          string
	user, variables map[string]any
}

// answers are words, or keys behind a "#".
type answers []string

// The same answers lead to the same history in chat and by telephone, but for
// the channel: every message, every call and every place, and the same state.
func TestExamplesAreTheSameByChatAndByTelephone(t *testing.T) {
	away := bookBot
	away.service = false
	asked := frontDesk
	asked.model = []string{"What would you like to know?", "Yes, dogs are welcome in the garden.", "exit:book"}
	for name, tt := range map[string]struct {
		example
		answers answers
		last    string // what is said at the end
		status  string
	}{
		"desk-booking": {frontDesk, answers{"I'd like to book a table", "ten", "Monday", "Friday", "no", "two", "Sunday", "yes", "no"},
			"Thank you for calling the Parley demo. Goodbye.", flow.Completed},
		"desk-keys": {frontDesk, answers{"#2", "#4#", "#7", "#1", "#1", "#1", "#2"}, "Thank you for calling the Parley demo. Goodbye.", flow.Completed},
		"desk-questions": {asked, answers{"I have a question", "May I bring my dog?", "Then I want a table", "four", "Sunday", "yes", "no"},
			"Thank you for calling the Parley demo. Goodbye.", flow.Completed},
		"desk-without-a-model": {frontDesk, answers{"I have a question", "opening hours", "no"}, "Thank you for calling the Parley demo. Goodbye.", flow.Completed},
		"books": {bookBot, answers{"Lily", "nine", "chapters", "puppy", "dragon", "the ship", "yes", "the bus", "rain", "her brother",
			"the first one", "yes", "more", "the second one", "no", "that is all"}, "Goodbye, and enjoy your book.", flow.Completed},
		"books-keys": {bookBot, answers{"Ben", "#14#", "#1", "#1", "#2", "#3", "#2", "#1", "#1", "#2", "Tom", "#5#", "#2", "#3", "#3", "#1", "no", "#1", "#2", "goodbye"},
			"Goodbye, and enjoy your book.", flow.Completed},
		"books-away": {away, answers{"Lily", "nine", "chapters", "puppy", "dragon", "the ship", "yes", "the bus", "rain", "her brother", "yes", "no"},
			"Goodbye, and enjoy your book.", flow.Completed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chat, phone := tt.byChat(t, tt.answers), tt.byPhone(t, tt.answers)
			for i := range max(len(chat.exchanges), len(phone.exchanges)) {
				var a, b exchange
				if i < len(chat.exchanges) {
					a = chat.exchanges[i]
				}
				if i < len(phone.exchanges) {
					b = phone.exchanges[i]
				}
				if !reflect.DeepEqual(a, b) {
					t.Fatalf("exchange %d: in chat\n%+v\nby telephone\n%+v", i, a, b)
				}
			}
			if n := len(chat.exchanges); n != len(tt.answers)+1 || !strings.Contains(strings.Join(chat.exchanges[n-1].Messages, ""), tt.last) {
				t.Errorf("%d exchanges, at last %+v", n, chat.exchanges[n-1])
			}
			if chat.status != tt.status || phone.status != tt.status {
				t.Errorf("chat is %s, the call %s, want %s", chat.status, phone.status, tt.status)
			}
			if !reflect.DeepEqual(chat.variables, phone.variables) || !reflect.DeepEqual(chat.user, phone.user) {
				t.Errorf("in chat\n%v %v\nby telephone\n%v %v", chat.user, chat.variables, phone.user, phone.variables)
			}
		})
	}
}

// document reads a file of the examples.
func document(t *testing.T, name string) []byte {
	t.Helper()
	doc, err := os.ReadFile("../../../examples/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// sharedKey signs who the library is asked for.
var sharedKey = []byte(strings.Repeat("k", 32))

// performer asks the library, in no time and without a network.
func (x example) performer(t *testing.T) func(context.Context, flow.Effect) flow.Result {
	books, err := library.New(sharedKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	memory := &effect.Memory{}
	base, err := url.Parse("http://library.test")
	if err != nil {
		t.Fatal(err)
	}
	models := x.proposer()
	return func(ctx context.Context, e flow.Effect) flow.Result {
		p := &effect.Performer{Models: models, HTTP: served{books.Handler(), x.service}, Circuits: memory, Answers: memory, Internal: base,
			Bearer: func(*url.URL) (effect.Secret, error) {
				party, _ := control.PartyOf(ctx)
				return effect.Secret(party.Token(sharedKey, time.Now())), nil
			}}
		return p.Perform(ctx, e)
	}
}

// proposer is the example's model; each conversation needs its own.
func (x example) proposer() *agent.Proposer {
	m := &scriptedModel{lines: x.model}
	return &agent.Proposer{Models: func(context.Context, []flow.ModelChoice) ([]agent.Model, error) {
		if x.model == nil {
			return nil, nil
		}
		return []agent.Model{{Vendor: "stand-in", LLM: m}}, nil
	}}
}

// A scriptedModel says its lines in turn.
type scriptedModel struct{ lines []string }

// Reply implements [agent.LLM].
func (m *scriptedModel) Reply(context.Context, agent.Prompt) iter.Seq2[agent.Delta, error] {
	said := m.lines[0]
	m.lines = m.lines[1:]
	return func(yield func(agent.Delta, error) bool) {
		d := agent.Delta{Text: said, Finish: "stop"}
		if exit, ok := strings.CutPrefix(said, "exit:"); ok {
			d = agent.Delta{Call: &agent.ToolCall{ID: "1", Name: flow.WishExit, Arguments: `{"exit":"` + exit + `"}`}, Finish: "tool_calls"}
		}
		yield(d, nil)
	}
}

// served answers by a handler, or not at all. It implements [effect.HTTP].
type served struct {
	handler http.Handler
	open    bool
}

func (s served) Send(ctx context.Context, r effect.Request) (effect.Response, error) {
	if !s.open {
		return effect.Response{}, context.DeadlineExceeded
	}
	req := httptest.NewRequestWithContext(ctx, r.Method, r.URL.String(), strings.NewReader(string(r.Body)))
	req.Header = r.Header
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, req)
	return effect.Response{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}, nil
}

// byChat holds the conversation as the chat API does, on a real database, and
// reads its history back.
func (x example) byChat(t *testing.T, in answers) conversation {
	store := databases.Store(t)
	tenant := uuid.New()
	ctx := control.WithTenant(t.Context(), tenant)
	if err := store.InsertTenant(t.Context(), identity.Tenant{ID: tenant, Name: "t"},
		identity.User{ID: uuid.New(), Email: "a@b.c", Role: control.RoleOwner}); err != nil {
		t.Fatal(err)
	}
	flows := &control.Flows{Store: store, Changes: store}
	var name string
	for _, file := range slices.Backward(x.files) {
		doc := document(t, file)
		f, err := flow.Parse(doc)
		if err != nil {
			t.Fatal(err)
		}
		name = f.ID
		made, _, err := flows.Create(ctx, name, doc)
		if err == nil {
			_, err = flows.Releases().Publish(ctx, made.ID, control.Release{}, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ring, err := control.NewKeyring(sharedKey)
	if err != nil {
		t.Fatal(err)
	}
	perform := x.performer(t)
	chats := &control.Chats{Store: store, Turns: store, Flows: flows, Graphs: &control.Graphs{Store: store}, Ring: ring,
		Log:     slog.New(slog.DiscardHandler),
		Perform: func(uuid.UUID) func(context.Context, flow.Effect) flow.Result { return perform }}
	r, _, err := chats.Start(ctx, control.Beginning{Flow: name})
	for _, said := range in {
		if err != nil {
			t.Fatal(err)
		}
		a := control.Answer{Text: said, Mode: "text"}
		if keys, ok := strings.CutPrefix(said, "#"); ok {
			a = control.Answer{Text: keys, Mode: "dtmf"}
		}
		if r.Status == flow.Active {
			r, err = chats.Interact(ctx, r.ID, a)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	entries, err := store.History(ctx, r.ID, 0, 500)
	if err != nil {
		t.Fatal(err)
	}
	return told(t, entries, r.State)
}

// A noteTaker keeps what a call commits, as storage would.
type noteTaker struct {
	*call
	entries []control.Entry
	state   []byte
}

// Commit implements [agent.Journal].
func (n *noteTaker) Commit(_ context.Context, m agent.Commit) {
	r, err := control.NewRevision(m)
	if err != nil {
		n.t.Error(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.entries, n.state = append(n.entries, r.Entry), slices.Clone(m.State)
}

// byPhone holds it by telephone.
func (x example) byPhone(t *testing.T, in answers) conversation {
	main, err := flow.Parse(document(t, x.files[0]))
	if err != nil {
		t.Fatal(err)
	}
	subs := map[string]*flow.Flow{}
	for _, file := range x.files[1:] {
		f, err := flow.Parse(document(t, file))
		if err != nil {
			t.Fatal(err)
		}
		subs[f.ID] = f
	}
	notes := &noteTaker{}
	perform, party := x.performer(t), control.Party{Tenant: uuid.New(), Conversation: uuid.New(), Channel: control.ChannelVoice}
	p := plan{align: true, up: line(50), down: line(50), spec: func(s *agent.Spec) {
		notes.call = s.Journal.(*call)
		s.Prompt, s.Journal = nil, notes
		s.Flow = &agent.FlowSpec{Models: x.proposer(), Flow: main.With(subs), Init: flow.Init{ID: party.Conversation.String()},
			Perform: func(ctx context.Context, e flow.Effect) flow.Result {
				return perform(control.WithParty(ctx, party), e)
			}}
	}}
	c := run(t, p, func(c *call) {
		for _, said := range in {
			if !c.untilQuiet(1500*time.Millisecond, 60*time.Second) {
				c.t.Fatalf("the agent does not fall silent; %s", c.said())
			}
			if keys, ok := strings.CutPrefix(said, "#"); ok {
				c.carrier.Digits(keys)
			} else {
				c.say(says(t, said))
			}
			if !c.untilSound(10 * time.Second) {
				select {
				case end := <-c.ending:
					c.t.Fatalf("ended by %+v after %q; %s", end, said, c.said())
				default:
					c.t.Fatalf("no answer to %q; %s", said, c.said())
				}
			}
		}
		c.ended(40 * time.Second)
	})
	for alt, aloud := range x.pictures {
		if strings.Contains(c.said(), alt) != aloud {
			t.Errorf("%q is heard: %t; %s", alt, !aloud, c.said())
		}
	}
	return told(t, notes.entries, notes.state)
}

// told reads a history as what was exchanged. That speech was played is the
// telephone's own.
func told(t *testing.T, entries []control.Entry, state []byte) (c conversation) {
	t.Helper()
	for _, e := range entries {
		var ev struct {
			Type string
			Text string
		}
		var messages, trace []json.RawMessage
		for _, part := range []struct {
			from json.RawMessage
			to   any
		}{{e.Event, &ev}, {e.Messages, &messages}, {e.Trace, &trace}} {
			if err := json.Unmarshal(part.from, part.to); err != nil {
				t.Fatalf("%v in %s", err, part.from)
			}
		}
		if ev.Type == "start" || ev.Type == "input" || ev.Type == "silence" {
			c.exchanges = append(c.exchanges, exchange{Said: strings.ToLower(strings.Trim(ev.Text, ".#"))})
		}
		x := &c.exchanges[len(c.exchanges)-1]
		for _, m := range messages {
			var v any // storage orders fields as it likes
			if err := json.Unmarshal(m, &v); err != nil {
				t.Fatal(err)
			}
			m, _ = json.Marshal(v)
			x.Messages = append(x.Messages, string(m))
		}
		for _, m := range trace {
			var did struct{ Effect, What string }
			if err := json.Unmarshal(m, &did); err != nil {
				t.Fatal(err)
			}
			if did.Effect != "emit" {
				x.Calls = append(x.Calls, did.Effect+" "+did.What)
			}
		}
		x.Node, c.status = e.Node, e.Status
	}
	var s struct{ User, Variables map[string]any }
	if err := json.Unmarshal(state, &s); err != nil {
		t.Fatal(err)
	}
	c.user, c.variables = s.User, s.Variables
	return c
}
