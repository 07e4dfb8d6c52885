package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// memory is a stream of events without storage. What it does not have panics.
type memory struct {
	control.EventStore
	mu   sync.Mutex
	list []control.Event
	gone int64 // the first so many are kept no longer
	wake func()
}

func (m *memory) Events(_ context.Context, _ control.EventFilter, after int64, most int) ([]control.Event, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	page := m.list[after:min(len(m.list), int(after)+most)]
	return page, after + int64(len(page)), nil
}

func (m *memory) LastEvent(context.Context) (int64, error) { return int64(len(m.list)), nil }

func (m *memory) FirstEvent(_ context.Context, after int64) (int64, error) {
	if first := max(after, m.gone) + 1; first <= int64(len(m.list)) {
		return first, nil
	}
	return 0, nil
}

func (m *memory) Listen(ctx context.Context, wake func()) error {
	m.mu.Lock()
	m.wake = wake
	m.mu.Unlock()
	<-ctx.Done()
	return nil
}
func (m *memory) Written() <-chan struct{}                                     { return nil }
func (m *memory) LocateUnpublished(context.Context) ([]control.Located, error) { return nil, nil }

func (m *memory) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range n {
		m.list = append(m.list, control.Event{Type: "node_changed", Data: json.RawMessage(`{}`), Position: int64(len(m.list) + 1)})
	}
	if m.wake != nil {
		m.wake()
	}
}

// A client takes what is written, each time after a while.
type client struct {
	header http.Header
	takes  time.Duration

	mu       sync.Mutex
	got      bytes.Buffer
	deadline time.Time
	broken   bool
}

func (c *client) Header() http.Header { return c.header }
func (c *client) WriteHeader(int)     {}
func (c *client) Flush()              {}

func (c *client) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

func (c *client) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got.Len() > 0 && !c.broken { // the beginning is taken at once
		time.Sleep(min(c.takes, time.Until(c.deadline)))
		c.broken = !time.Now().Before(c.deadline)
	}
	if c.broken {
		return 0, io.ErrClosedPipe
	}
	return c.got.Write(b)
}

func (c *client) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got.String()
}

// streaming runs one stream from the first event on, in virtual time.
func streaming(t *testing.T, takes time.Duration, do func(*memory, *client, context.CancelFunc)) (took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		events := &control.Events{Store: m, Log: slog.New(slog.DiscardHandler)}
		s := &Server{o: Options{Events: events, Log: slog.New(slog.DiscardHandler)}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var work sync.WaitGroup
		defer work.Wait()
		running, stop := context.WithCancel(t.Context())
		defer stop()
		work.Go(func() { _ = events.Run(running) })
		synctest.Wait()
		c := &client{header: http.Header{}, takes: takes}
		began := time.Now()
		work.Go(func() {
			r := httptest.NewRequestWithContext(control.WithTenant(ctx, uuid.New()), "GET", "/v1/events?last_event_id=0", nil)
			s.followEvents(c, r)
			took = time.Since(began)
			cancel()
		})
		synctest.Wait()
		do(m, c, cancel)
		<-ctx.Done()
		synctest.Wait()
		if s.streams.all != 0 {
			t.Errorf("%d streams are left", s.streams.all)
		}
	})
	return took
}

func TestStreamBeats(t *testing.T) {
	streaming(t, 0, func(m *memory, c *client, cancel context.CancelFunc) {
		time.Sleep(2*streamBeat + time.Second)
		if n := strings.Count(c.text(), ":\n\n"); n != 2 {
			t.Errorf("%d beats in %q", n, c.text())
		}
		m.add(3)
		time.Sleep(2 * streamPause)
		if !strings.HasSuffix(c.text(), "id: 3\nevent: node_changed\n"+last(m)) {
			t.Errorf("got %q", c.text())
		}
		cancel()
	})
}

func last(m *memory) string {
	text, _ := json.Marshal(m.list[len(m.list)-1])
	return "data: " + string(text) + "\n\n"
}

// Whoever is slow is told so, and whoever takes nothing is cut off; what they
// have not got is not kept for them.
func TestSlowStreamEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		takes, within time.Duration
		told          bool
	}{
		"quick": {takes: time.Second, within: time.Hour},
		"slow":  {takes: streamSlow + time.Second, within: 2 * streamStuck, told: true},
		"stuck": {takes: time.Hour, within: 2 * streamStuck},
	} {
		t.Run(name, func(t *testing.T) {
			var c *client
			took := streaming(t, tt.takes, func(m *memory, cl *client, cancel context.CancelFunc) {
				c = cl
				m.add(250)
				if name == "quick" {
					time.Sleep(time.Minute)
					cancel()
				}
			})
			if took > tt.within {
				t.Errorf("ended after %v", took)
			}
			if got := strings.Contains(c.text(), "event: end\ndata: {\"reason\":\"slow\"}\n\n"); got != tt.told {
				t.Errorf("told of the end %v, want %v", got, tt.told)
			}
			if n := strings.Count(c.text(), "\nid: "); name == "quick" && n != 250 {
				t.Errorf("%d events of 250", n)
			}
		})
	}
}

func TestStreamLasts(t *testing.T) {
	took := streaming(t, 0, func(*memory, *client, context.CancelFunc) {})
	if took != streamLife {
		t.Errorf("a stream lasts %v", took)
	}
}

func TestStreamsAreFew(t *testing.T) {
	var s streams
	tenant := uuid.New()
	for range streamTenant {
		if !s.enter(tenant) {
			t.Fatal("refused early")
		}
	}
	if s.enter(tenant) {
		t.Error("a tenant has more than its part")
	}
	for range streamMost - streamTenant {
		s.enter(uuid.New())
	}
	if s.enter(uuid.New()) {
		t.Error("there are more than there may be")
	}
	s.leave(tenant)
	if !s.enter(tenant) {
		t.Error("a place that is free is not given")
	}
}
