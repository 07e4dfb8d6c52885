package control_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent/effect"
	"parley/agent/flow"
	"parley/control"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

// till notes what is said, and calls outside before and after it.
const till = `{"defaults":{"limits":{"turns":10000}},"nodes":[
	{"id":"q","type":"question","content":{"question":"?","variable":"now"},"connections":{"default":"over"}},
	{"id":"over","type":"condition","content":{"conditions":[{"if":{"var":"now","eq":"bye"},"then":"bye"}],"else":"order"}},
	{"id":"order","type":"webhook","content":{"url":"%[1]s/order","method":"POST","body":{"what":"{now}"},"say_while":"Ordering {now}."},"connections":{"success":"note","error":"note"}},
	{"id":"note","type":"action","content":{"actions":[{"type":"append","variable":"said","value":"{now}"}]},"connections":{"default":"pay"}},
	{"id":"pay","type":"webhook","content":{"url":"%[1]s/pay","method":"POST"},"connections":{"success":"q","error":"q"}},
	{"id":"bye","type":"message","content":{"text":"Bye."}}]}`

// The child is a process that holds chats, until it is killed.
const childEnv = "PARLEY_TEST_CHATS"

type childSettings struct {
	Database string
	Tenant   uuid.UUID
}

type childAsk struct {
	Session  uuid.UUID
	Text     string
	Expected int
}

type childReply struct {
	Revision int
	Resumed  bool
	Status   string
	Err      string
}

// runChild answers what comes in by its standard input, line by line.
func runChild(settings string) int {
	var o childSettings
	if err := json.Unmarshal([]byte(settings), &o); err != nil {
		return 2
	}
	ctx, stop := context.WithCancel(control.WithTenant(context.Background(), o.Tenant))
	defer stop()
	store, err := postgres.Open(ctx, o.Database, postgres.Options{MaxConns: 4, Connect: time.Second})
	if err != nil {
		return 2
	}
	s := newChats(store)
	s.Perform = func(tenant uuid.UUID) func(context.Context, flow.Effect) flow.Result {
		return (&effect.Performer{HTTP: plainHTTP{}, Tenant: tenant.String()}).Perform
	}
	var behind sync.WaitGroup
	behind.Go(func() { _ = s.Run(ctx) })
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	_ = store.Ping(ctx) // what is killed is turns at work, not the way to the database
	_ = out.Encode(childReply{Status: "ready"})
	for in.Scan() {
		var ask childAsk
		_ = json.Unmarshal(in.Bytes(), &ask)
		r, err := s.Interact(ctx, ask.Session, control.Answer{Text: ask.Text, Mode: "text", Expected: ask.Expected})
		reply := childReply{Revision: r.Revision, Resumed: r.Resumed, Status: r.Status}
		if err != nil {
			reply.Err = err.Error()
		}
		_ = out.Encode(reply)
	}
	stop()
	behind.Wait()
	return 0
}

// plainHTTP sends as it is told.
type plainHTTP struct{}

func (plainHTTP) Send(ctx context.Context, r effect.Request) (effect.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL.String(), bytes.NewReader(r.Body))
	if err != nil {
		return effect.Response{}, err
	}
	req.Header = r.Header
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return effect.Response{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return effect.Response{Status: res.StatusCode, Header: res.Header, Body: b}, err
}

// A slaughter has turns held while processes and the database are killed.
type slaughter struct {
	*town
	r     *rand.Rand
	proxy *postgrestest.Proxy
	child *child
	deeds map[string]int // what was done to whom

	mu   sync.Mutex
	keys map[string]int // requests at the shop, by idempotency key
}

// Over 200 turns (PARLEY_KILLS; else 24), the process is killed, the database
// cut off, and one of its backends killed, so that it recovers from a crash, at
// random points. Nothing committed is lost, nothing is done under a second key,
// and every session goes on to its end.
func TestKilledAtRandom(t *testing.T) {
	turns, err := strconv.Atoi(cmp.Or(os.Getenv("PARLEY_KILLS"), "24"))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("PARLEY_SEED"), "1"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	k := newSlaughter(t, seed)
	sessions := make([]control.Reply, 4)
	said := make([][]string, len(sessions))
	for i := range sessions {
		sessions[i] = k.start(k.process())
	}
	for n := range turns {
		i := k.r.IntN(len(sessions))
		text := fmt.Sprint("t", n)
		sessions[i].Revision = k.turn(sessions[i].ID, text, sessions[i].Revision)
		said[i] = append(said[i], text)
	}
	k.stopChild()
	for i, s := range sessions {
		k.check(s.ID, said[i])
	}
	again := 0
	for _, n := range k.keys {
		again += n - 1
	}
	t.Logf("%d turns with seed %d: %v; %d calls were given out again, each under its own key", turns, seed, k.deeds, again)
	if k.deeds["kill"] == 0 || k.deeds["cut"] == 0 {
		t.Errorf("too little was done: %v", k.deeds)
	}
}

func newSlaughter(t *testing.T, seed uint64) *slaughter {
	k := &slaughter{r: rand.New(rand.NewPCG(seed, 7)), deeds: map[string]int{}, keys: map[string]int{}}
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		k.keys[r.Header.Get(effect.IdempotencyKey)]++
		pause := time.Duration(k.r.IntN(4)) * time.Millisecond
		k.mu.Unlock()
		<-time.After(pause)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(shop.Close)
	db := durable(t)
	k.town = newTownOn(t, db, fmt.Sprintf(till, shop.URL))
	k.proxy = db.Proxy(t)
	t.Cleanup(k.stopChild)
	return k
}

// durable is a database that keeps its word over a crash, other than the
// server of the other tests.
func durable(t testing.TB) postgrestest.Database {
	t.Helper()
	return postgrestest.NewOwn(t).Database
}

// turn has a session take an answer, whatever happens meanwhile, and returns
// the revision that it rests at.
func (k *slaughter) turn(id uuid.UUID, text string, before int) int {
	k.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for first := true; time.Now().Before(deadline); first = false {
		reply, err := k.ask(childAsk{id, text, before}, first)
		if err == nil && reply.Err == "" {
			if reply.Resumed {
				k.t.Fatalf("%s was not taken: a turn before it had been left", text)
			}
			return reply.Revision
		}
		k.repair(id)
		c := k.look(id)
		if c.Revision == before {
			continue // nothing of it was done: it is sent again
		}
		for ; time.Now().Before(deadline); c = k.look(id) { // begun: somebody finishes it
			state, err := flow.DecodeState(c.State, c.Hash)
			if err != nil {
				k.t.Fatal(err)
			}
			if state.System.Waiting.For == flow.ForInput {
				return c.Revision
			}
			// Where another has finished it meanwhile, this is a conflict.
			reply, err := k.ask(childAsk{id, "not taken", c.Revision}, false)
			if err == nil && reply.Err == "" && !reply.Resumed {
				k.t.Fatal("a turn that had been left was passed over")
			}
			k.repair(id)
		}
	}
	k.t.Fatalf("%s cannot go on", id)
	return 0
}

// ask sends a line to the child; with hurt, something is killed meanwhile.
func (k *slaughter) ask(a childAsk, hurt bool) (childReply, error) {
	if k.child == nil {
		k.child = k.newChild()
	}
	c := k.child
	err := json.NewEncoder(c.in).Encode(a)
	if hurt {
		k.hurt(c)
	}
	var line []byte
	if err == nil {
		line, err = c.out.ReadBytes('\n')
	}
	if err != nil { // it is dead
		k.stopChild()
		return childReply{}, err
	}
	var r childReply
	return r, json.Unmarshal(line, &r)
}

// hurt does one deed, or none, at a random point of a turn.
func (k *slaughter) hurt(c *child) {
	k.mu.Lock()
	what, after, long := k.r.IntN(100), time.Duration(k.r.IntN(25_000))*time.Microsecond, time.Duration(k.r.IntN(20))*time.Millisecond
	k.mu.Unlock()
	<-time.After(after)
	switch {
	case what < 40:
		k.deeds["kill"]++
		_ = c.cmd.Process.Kill()
	case what < 60:
		k.deeds["cut"]++
		k.proxy.Cut()
		<-time.After(long)
		k.proxy.Restore()
	case what < 65:
		k.deeds["crash"]++
		k.crash()
	default:
		k.deeds["nothing"]++
	}
}

// crash kills a backend: PostgreSQL then ends all others, and recovers.
func (k *slaughter) crash() {
	k.t.Helper()
	conn, err := pgx.Connect(k.t.Context(), k.db.SuperURL)
	if err != nil {
		k.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var pid int
	if err := conn.QueryRow(k.t.Context(), `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
		k.t.Fatal(err)
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

// repair waits for the database, and ends the leases of the dead.
func (k *slaughter) repair(id uuid.UUID) {
	k.t.Helper()
	for range 2000 {
		conn, err := pgx.Connect(k.t.Context(), k.db.SuperURL)
		if err == nil {
			_, err = conn.Exec(k.t.Context(), `UPDATE conversations SET claimed_until = now() - interval '1 second' WHERE id = $1 AND claim_id IS NOT NULL`, id)
			_ = conn.Close(k.t.Context())
		}
		if err == nil {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	k.t.Fatal("the database does not come back")
}

func (k *slaughter) look(id uuid.UUID) control.Conversation {
	k.t.Helper()
	for range 2000 {
		c, err := k.store.Conversation(k.ctx, id)
		if err == nil {
			return c
		}
		if !errors.Is(err, control.ErrUnavailable) {
			k.t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
	k.t.Fatal("the database does not come back")
	return control.Conversation{}
}

// check holds a session against what it was told, and has it end.
func (k *slaughter) check(id uuid.UUID, said []string) {
	k.t.Helper()
	k.repair(id)
	c := k.look(id)
	state, err := flow.DecodeState(c.State, c.Hash)
	if err != nil {
		k.t.Fatal(err)
	}
	list, _ := state.Variables["said"].([]any)
	if got, want := fmt.Sprint(list), fmt.Sprint(said); got != want {
		k.t.Errorf("said %s, want %s", got, want)
	}
	if want := 1 + 3*len(said); c.Revision != want {
		k.t.Errorf("revision %d, want %d", c.Revision, want)
	}
	keys := 0
	for key := range k.keys {
		if strings.HasPrefix(key, id.String()+":") {
			keys++
		}
	}
	if keys != 2*len(said) {
		k.t.Errorf("%d keys for %d turns of two calls", keys, len(said))
	}
	k.transcript(id)
	if n := len(k.events(id)); n != c.Revision {
		k.t.Errorf("%d events of %d revisions", n, c.Revision)
	}
	r, err := k.process().Interact(k.ctx, id, control.Answer{Text: "bye", Mode: "text"})
	if err != nil || r.Status != flow.Completed {
		k.t.Errorf("the end: %s, %v", r.Status, err)
	}
}

// A child is a process of ours.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (k *slaughter) newChild() *child {
	k.t.Helper()
	tenant, _ := control.TenantOf(k.ctx)
	settings, err := json.Marshal(childSettings{Database: k.proxy.AppURL, Tenant: tenant})
	if err != nil {
		k.t.Fatal(err)
	}
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(settings))
	in, err := c.cmd.StdinPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	if _, err := c.out.ReadBytes('\n'); err != nil {
		k.t.Fatal(err)
	}
	return c
}

func (k *slaughter) stopChild() {
	if c := k.child; c != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		k.child = nil
	}
}

// newChats holds chats over a store, and calls nobody yet.
func newChats(store *postgres.Store) *control.Chats {
	ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
	if err != nil {
		panic(err)
	}
	return &control.Chats{Store: store, Turns: store, Flows: &control.Flows{Store: store, Changes: store},
		Graphs: &control.Graphs{Store: store}, Ring: ring, Log: slog.New(slog.DiscardHandler)}
}
