package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
)

// lineOf is a store with one call. What it does not have panics.
type lineOf struct {
	control.CallStore
	control.RecordStore
	mu   sync.Mutex
	call control.Call
}

func (l *lineOf) Call(context.Context, uuid.UUID) (control.Call, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.call, nil
}

func (l *lineOf) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.call.Status = control.CallEnded
}

func (l *lineOf) NextTurn(context.Context, uuid.UUID) (int, error) { return 0, nil }
func (l *lineOf) Turns(context.Context, uuid.UUID, int, int) ([]agent.Turn, error) {
	return nil, nil
}

// A watcher is one client of a live call, in virtual time.
type watcher struct {
	*client
	line   *lineOf
	events *memory
	hub    *control.Hub
	tell   func(agent.Event) // as the call's session
	may    atomic.Pointer[error]
	took   time.Duration // set when the stream has ended
	over   chan struct{}
}

// watched runs one stream of a live call while do goes on, and waits for its end.
func watched(t *testing.T, takes time.Duration, last string, net control.Announcer, do func(*watcher)) *watcher {
	var w *watcher
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		tenant := uuid.New()
		l := &lineOf{call: control.Call{ID: uuid.New(), Tenant: tenant, Status: control.CallActive}}
		m := &memory{}
		m.add(9)
		m.gone = 3
		events := &control.Events{Store: m, Log: log}
		hub := control.NewHub(net, nil, uuid.New(), log)
		s := &Server{o: Options{Events: events, Log: log, Calls: &control.Calls{Store: l, Records: l, Hub: hub, Log: log}}}
		ctx, cancel := context.WithCancel(t.Context())
		w = &watcher{client: &client{header: http.Header{}, takes: takes}, line: l, events: m, hub: hub, tell: hub.Observe(l.call), over: make(chan struct{})}
		var work sync.WaitGroup
		defer work.Wait()
		running, stop := context.WithCancel(t.Context())
		defer stop()
		work.Go(func() { _ = events.Run(running) })
		work.Go(func() { _ = hub.Run(running) })
		r := httptest.NewRequestWithContext(control.WithTenant(ctx, tenant), "GET", "/v1/calls/"+l.call.ID.String()+"/live", nil)
		r.SetPathValue("id", l.call.ID.String())
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		ask := func(context.Context) error {
			if err := w.may.Load(); err != nil {
				return *err
			}
			return nil
		}
		r = r.WithContext(context.WithValue(r.Context(), stayKey{}, ask))
		synctest.Wait()
		began := time.Now()
		work.Go(func() {
			defer close(w.over)
			s.followCall(w.client, r)
			w.took = time.Since(began)
		})
		synctest.Wait()
		do(w)
		cancel()
		<-w.over
		if s.streams.all != 0 {
			t.Errorf("%d streams are left", s.streams.all)
		}
	})
	return w
}

func (w *watcher) want(t *testing.T, parts ...string) {
	t.Helper()
	rest := w.text()
	for _, part := range parts {
		i := strings.Index(rest, part)
		if i < 0 {
			t.Fatalf("no %q in what is left of:\n%s", part, w.text())
		}
		rest = rest[i+len(part):]
	}
}

func end(reason string) string { return "event: end\ndata: {\"reason\":\"" + reason + "\"}\n\n" }

// A client that comes back gets what it has missed, or is told that it is kept no
// longer, and then how things stand.
func TestLiveCallIsResumed(t *testing.T) {
	for name, tt := range map[string]struct {
		last string
		want []string
		not  string
	}{
		"first":   {"", []string{"id: 9\nevent: snapshot\n"}, "event: gap"},
		"missed":  {"7", []string{"id: 8\nevent: node_changed\n", "id: 9\n", "event: snapshot\n"}, "event: gap"},
		"nothing": {"9", []string{"id: 9\nevent: snapshot\n"}, "event: gap"},
		"too-old": {"1", []string{"id: 3\nevent: gap\ndata: {\"reason\":\"too_old\"}\n\n", "id: 4\n", "id: 9\n", "event: snapshot\n"}, "id: 2\n"},
		"ahead":   {"50", []string{"id: 9\nevent: gap\ndata: {\"reason\":\"unknown\"}\n\n", "id: 9\nevent: snapshot\n"}, "id: 50"},
	} {
		t.Run(name, func(t *testing.T) {
			w := watched(t, 0, tt.last, nil, func(*watcher) {})
			w.want(t, tt.want...)
			if strings.Contains(w.text(), tt.not) {
				t.Errorf("there is %q in:\n%s", tt.not, w.text())
			}
		})
	}
}

// The stream ends with the call, whoever tells of it, and beats until then.
func TestLiveCallEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		end    func(*watcher)
		within time.Duration
	}{
		"told-by-its-session": {func(w *watcher) { w.tell(agent.Event{Type: "ended"}) }, time.Millisecond},
		"told-by-storage": {func(w *watcher) {
			w.events.add(1)
			w.events.mu.Lock()
			w.events.list[len(w.events.list)-1].Type = "call_ended"
			w.events.mu.Unlock()
		}, time.Second},
		"told-by-nobody": {func(w *watcher) { w.line.end() }, liveLook},
	} {
		t.Run(name, func(t *testing.T) {
			const before = 2*streamBeat + time.Second
			w := watched(t, 0, "", nil, func(w *watcher) {
				time.Sleep(before)
				tt.end(w)
				<-w.over
			})
			w.want(t, "event: snapshot\n", ":\n\n", ":\n\n", end("ended"))
			if w.took > before+tt.within {
				t.Errorf("ended after %v, %v after the call", w.took, w.took-before)
			}
		})
	}
}

// Who may not look on any more is told, and gone within a check; what cannot be
// found out ends nothing.
func TestLiveCallIsForbidden(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"key-revoked": {control.ErrCredentials, true}, "role-taken": {control.ErrForbidden, true},
		"suspended": {control.ErrSuspended, true}, "storage-away": {control.ErrUnavailable, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := watched(t, 0, "", nil, func(w *watcher) {
				time.Sleep(time.Minute)
				w.may.Store(&tt.err)
				time.Sleep(stayCheck + time.Second)
				select {
				case <-w.over:
				default:
					if tt.want {
						t.Error("the stream goes on")
					}
				}
			})
			if got := strings.Contains(w.text(), end("forbidden")); got != tt.want {
				t.Errorf("told so %v, want %v:\n%s", got, tt.want, w.text())
			}
		})
	}
}

// A client that takes nothing loses what it could not take, is told how much, and
// is let go in the end; who tells of the call waits for none of it.
func TestSlowWatcher(t *testing.T) {
	for name, tt := range map[string]struct {
		takes time.Duration
		want  []string
	}{
		"behind": {time.Second, []string{"event: gap\ndata: {\"reason\":\"slow\",\"lost\":", "event: snapshot\n"}},
		"slow":   {streamSlow + time.Second, []string{end("slow")}},
		"stuck":  {time.Hour, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := watched(t, tt.takes, "", nil, func(w *watcher) {
				began := time.Now()
				for range 2000 {
					w.tell(agent.Event{Type: "interim", Text: "one two three"})
				}
				if d := time.Since(began); d != 0 {
					t.Errorf("the call waited %v", d)
				}
				time.Sleep(time.Minute)
				select {
				case <-w.over:
				default:
					if name != "behind" {
						t.Error("the stream goes on")
					}
				}
			})
			w.want(t, tt.want...)
			if n := strings.Count(w.text(), "event: interim\n"); n > 300 {
				t.Errorf("%d of 2000 events were kept for it", n)
			}
		})
	}
}

// flaky is a network between processes that comes and goes.
type flaky struct {
	mu    sync.Mutex
	hears []func(bool)
}

func (f *flaky) Announce(context.Context, string, string) error { return control.ErrUnavailable }

func (f *flaky) Listen(ctx context.Context, topic string, heard func(string), hears func(bool)) error {
	f.mu.Lock()
	f.hears = append(f.hears, hears)
	f.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (f *flaky) set(up bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, hears := range f.hears {
		hears(up)
	}
}

// Without word from other processes the stream reads how things stand every 2 s,
// and goes on with what happens here; with it again, seldom.
func TestWatcherWithoutRedis(t *testing.T) {
	net := &flaky{}
	watched(t, 0, "", net, func(w *watcher) {
		elsewhere := func() { // something happens to the call
			w.line.mu.Lock()
			w.line.call.Revision++
			w.line.mu.Unlock()
		}
		snapshots := func() int { return strings.Count(w.text(), "event: snapshot\n") }
		net.set(true)
		time.Sleep(time.Minute)
		was := snapshots()
		elsewhere()
		time.Sleep(liveLook + time.Second)
		net.set(false)
		time.Sleep(liveLook)
		if got := snapshots(); got != was+1 {
			t.Errorf("%d snapshots after Redis went away, want one", got-was)
		}
		w.tell(agent.Event{Type: "transcript", Text: "hello"})
		synctest.Wait()
		w.want(t, "event: transcript\n")
		net.set(true)
		elsewhere()
		was = snapshots()
		time.Sleep(liveCheck + liveLook)
		if got := snapshots(); got != was+1 {
			t.Errorf("%d snapshots once it was back, want one", got-was)
		}
	})
}
