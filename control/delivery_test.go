package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
	"parley/control"
	"parley/control/signature"
	"parley/store/postgres"
)

// post sends as the way out does, but anywhere.
type post struct{ transport http.RoundTripper }

func (p post) Send(ctx context.Context, r effect.Request) (effect.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	req := (&http.Request{Method: r.Method, URL: r.URL, Header: r.Header, Host: r.URL.Host, Body: io.NopCloser(bytes.NewReader(r.Body))}).WithContext(ctx)
	res, err := p.transport.RoundTrip(req)
	if err != nil {
		return effect.Response{}, err
	}
	defer res.Body.Close()
	return effect.Response{Status: res.StatusCode, Header: res.Header}, nil
}

// A receiver of webhooks remembers what it got, and answers as it is told.
type receiver struct {
	t      *testing.T
	url    string
	answer func(n int, w http.ResponseWriter, r *http.Request) // nil: 204
	refuse int                                                 // every so many, unseen; 0: none

	mu    sync.Mutex
	asked int
	got   []received
}

type received struct {
	event, delivery, typ, session string
	seq                           int
	header                        http.Header
	body                          []byte
}

func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	v := &receiver{t: t, answer: answer}
	s := httptest.NewServer(v)
	t.Cleanup(s.Close)
	v.url = s.URL + "/hook"
	return v
}

func (v *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var e struct {
		ID      string `json:"id"`
		Type    string `json:"event_type"`
		Session string `json:"session_id"`
		Seq     int    `json:"sequence"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		v.t.Error(err)
	}
	v.mu.Lock()
	v.asked++
	if v.refuse > 0 && v.asked%v.refuse == 0 {
		v.mu.Unlock()
		w.WriteHeader(503)
		return
	}
	v.got = append(v.got, received{e.ID, r.Header.Get("Parley-Delivery"), e.Type, e.Session, e.Seq, r.Header, body})
	n := len(v.got)
	v.mu.Unlock()
	if v.answer == nil {
		w.WriteHeader(204)
		return
	}
	v.answer(n, w, r)
}

func (v *receiver) all() []received {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.got)
}

func (v *receiver) gets(n int) []received {
	v.t.Helper()
	eventually(v.t, fmt.Sprintf("%d events are received", n), func() bool { return len(v.all()) >= n })
	return v.all()
}

func always(status int) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// mail is one process that publishes and delivers.
func (w *town) mail(t *testing.T, store *postgres.Store, change func(*control.Deliveries)) *control.Deliveries {
	t.Helper()
	ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
	must(t, err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	d := &control.Deliveries{Store: store, Webhooks: &control.Webhooks{Store: store, Ring: ring}, HTTP: post{transport},
		Log: slog.New(slog.DiscardHandler), First: time.Millisecond, Look: 20 * time.Millisecond, Longer: 10 * time.Millisecond}
	if change != nil {
		change(d)
	}
	e := w.relay(d.Reader())
	e.Store, d.Changed = store, e.Changed
	background(t, e.Run)
	background(t, d.Run)
	return d
}

func (w *town) webhook(d *control.Deliveries, h control.Webhook, headers map[string]string) (control.Webhook, string) {
	w.t.Helper()
	h.Name, h.Enabled = "hook", true
	h.Timeout, h.MaxAttempts = max(h.Timeout, time.Second), max(h.MaxAttempts, 1)
	h, secret, err := d.Webhooks.Create(w.ctx, h, headers)
	must(w.t, err)
	return h, secret
}

func (w *town) deliveries(h control.Webhook, status string) []control.Delivery {
	w.t.Helper()
	list, err := w.store.Deliveries(w.ctx, h.ID, status, control.Page{Limit: 200})
	must(w.t, err)
	return list
}

// Sessions change in parallel and two processes deliver: a receiver gets what it
// asked for, each once, signed, and in the order of every session.
func TestDeliveriesKeepTheOrderOfSessions(t *testing.T) {
	w := newTown(t, shop)
	d := w.mail(t, w.store, nil)
	second, err := postgres.Open(t.Context(), w.db.AppURL, postgres.Options{MaxConns: 4})
	must(t, err)
	t.Cleanup(second.Close)
	w.mail(t, second, nil)
	v, foreign := newReceiver(t, nil), newReceiver(t, nil)
	v.refuse = 3 // what is behind must not overtake
	_, secret := w.webhook(d, control.Webhook{URL: v.url, MaxAttempts: 20, Types: []string{"node_changed"}, Flows: []uuid.UUID{uuid.New(), w.flow}}, nil)
	w.webhook(d, control.Webhook{URL: foreign.url, Flows: []uuid.UUID{uuid.New()}}, nil)
	const sessions, revisions = 8, 8
	var load sync.WaitGroup
	for range sessions {
		load.Go(func() {
			s := w.script()
			for n := range revisions {
				if err := s.write([]string{"a", "b"}[n%2], flow.Active); err != nil {
					t.Error(err)
				}
			}
			if err := s.write("b", flow.Completed); err != nil {
				t.Error(err)
			}
		})
	}
	load.Wait()
	const want = sessions * (revisions - 1) // the first begins, the last changes the status
	got := v.gets(want)
	last, once := map[string]int{}, map[string]bool{}
	for _, r := range got {
		if r.typ != "node_changed" || r.seq <= last[r.session] || once[r.event] {
			t.Errorf("%s %s number %d after %d", r.session, r.typ, r.seq, last[r.session])
		}
		last[r.session], once[r.event] = r.seq, true
		if err := signature.Verify(r.header.Get(signature.Header), r.body, time.Now(), signature.Tolerance, secret); err != nil {
			t.Error(err)
		}
	}
	if n := len(foreign.all()); len(got) != want || n != 0 {
		t.Errorf("%d received of %d, %d of another flow", len(got), want, n)
	}
}

// A receiver that answers nobody holds up its own events only.
func TestASlowReceiverDelaysNobody(t *testing.T) {
	w := newTown(t, shop)
	release := make(chan struct{})
	slow := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) { <-release })
	quick := newReceiver(t, nil)
	d := w.mail(t, w.store, nil)
	w.webhook(d, control.Webhook{URL: slow.url, Timeout: 30 * time.Second}, nil)
	w.webhook(d, control.Webhook{URL: quick.url}, nil)
	for range 10 {
		must(t, w.script().write("a", flow.Active))
	}
	slow.gets(4)
	quick.gets(10)
	if n := len(slow.all()); n != 4 {
		t.Errorf("%d at once to one receiver, want 4", n)
	}
	close(release)
	slow.gets(10)
}

// A process that loses the database between sending and writing it down: the
// event comes again, and can be told to be the same.
func TestLostBetweenSendAndMark(t *testing.T) {
	w := newTown(t, shop)
	p := w.db.Proxy(t)
	store, err := postgres.Open(t.Context(), p.AppURL, postgres.Options{MaxConns: 4, Connect: 100 * time.Millisecond})
	must(t, err)
	t.Cleanup(store.Close)
	v := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			p.Cut() // for good: the process is as good as dead
		}
		w.WriteHeader(204)
	})
	d := w.mail(t, store, nil)
	h, _ := w.webhook(d, control.Webhook{URL: v.url}, nil)
	must(t, w.script().write("a", flow.Active))
	v.gets(1)
	w.mail(t, w.store, nil)
	got := v.gets(2)
	if got[0].event != got[1].event || got[0].delivery != got[1].delivery || !bytes.Equal(got[0].body, got[1].body) {
		t.Errorf("the same event came as %s and %s", got[0].body, got[1].body)
	}
	eventually(t, "it is delivered", func() bool { return len(w.deliveries(h, control.DeliveryDelivered)) == 1 })
	if one := w.deliveries(h, ""); one[0].Attempts != 2 {
		t.Errorf("%d attempts", one[0].Attempts)
	}
}

// The end of a process lets what is under way be answered, so that it is not
// sent twice.
func TestAnEndLetsAttemptsBeAnswered(t *testing.T) {
	w := newTown(t, shop)
	ctx, end := context.WithCancel(t.Context())
	v := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		end()
		w.WriteHeader(204)
	})
	ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
	must(t, err)
	d := &control.Deliveries{Store: w.store, Webhooks: &control.Webhooks{Store: w.store, Ring: ring}, HTTP: post{&http.Transport{}},
		Log: slog.New(slog.DiscardHandler)}
	e := w.relay(d.Reader())
	d.Changed = e.Changed
	h, _ := w.webhook(d, control.Webhook{URL: v.url}, nil)
	must(t, w.script().write("a", flow.Active))
	background(t, e.Run)
	must(t, d.Run(ctx))
	if got := w.deliveries(h, ""); len(got) != 1 || got[0].Status != control.DeliveryDelivered || got[0].Attempts != 1 {
		t.Errorf("left behind: %+v", got)
	}
}

// What fails is tried again, then given up; what is behind it in the session
// waits, then goes on. The dead may be replayed.
func TestDeadLettersAndReplay(t *testing.T) {
	w := newTown(t, shop)
	var healthy atomic.Bool
	v := newReceiver(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		switch {
		case healthy.Load():
			w.WriteHeader(200)
		case r.Header.Get("Parley-Event") == "session_started":
			w.WriteHeader(503)
		}
	})
	outcomes := make(chan string, 100)
	var waited atomic.Int64
	d := w.mail(t, w.store, func(d *control.Deliveries) {
		d.Noted = func(o string, _ time.Duration) { outcomes <- o }
		d.Oldest = func(age time.Duration) { waited.Store(max(waited.Load(), int64(age))) }
	})
	h, _ := w.webhook(d, control.Webhook{URL: v.url, MaxAttempts: 3}, nil)
	s := w.script()
	must(t, s.write("a", flow.Active))
	must(t, s.write("b", flow.Active))
	var types []string
	for _, r := range v.gets(4) {
		types = append(types, r.typ)
	}
	if got := strings.Join(types, " "); got != "session_started session_started session_started node_changed" {
		t.Errorf("received %s", got)
	}
	eventually(t, "one is delivered", func() bool { return len(w.deliveries(h, control.DeliveryDelivered)) == 1 })
	dead := w.deliveries(h, control.DeliveryDead)
	if len(dead) != 1 || dead[0].Attempts != 3 || dead[0].Response != 503 || dead[0].Error != "HTTP 503" || dead[0].FinishedAt.IsZero() {
		t.Fatalf("dead: %+v", dead)
	}
	if got := strings.Join([]string{<-outcomes, <-outcomes, <-outcomes, <-outcomes}, " "); got != "failed failed dead delivered" {
		t.Errorf("noted %s", got)
	}
	if waited.Load() == 0 {
		t.Error("nothing was ever due")
	}
	healthy.Store(true)
	if n, err := d.Replay(w.ctx, h.ID, uuid.Nil); n != 1 || err != nil {
		t.Fatalf("replayed %d, %v", n, err)
	}
	if again := v.gets(5)[4]; again.delivery != dead[0].ID.String() || again.event != strconv.FormatInt(dead[0].Event.ID, 10) {
		t.Errorf("replayed as %+v", again)
	}
	eventually(t, "both are delivered", func() bool { return len(w.deliveries(h, control.DeliveryDelivered)) == 2 })
	one := w.deliveries(h, "")[0]
	if n, err := d.Replay(w.ctx, h.ID, one.ID); n != 1 || err != nil {
		t.Errorf("one more: %d, %v", n, err)
	}
	v.gets(6)
	if _, err := d.Replay(w.ctx, h.ID, uuid.New()); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("replay of none: %v", err)
	}
}

// Whoever fails for too long is disabled, loudly; what is queued waits until
// somebody enables it.
func TestAFailingWebhookIsDisabled(t *testing.T) {
	w := newTown(t, shop)
	var healthy atomic.Bool
	v := newReceiver(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if !healthy.Load() {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}
	})
	watcher := newReceiver(t, nil)
	var log bytes.Buffer
	var disabled atomic.Int64
	d := w.mail(t, w.store, func(d *control.Deliveries) {
		d.DisableAfter, d.DisableSpan = 3, time.Nanosecond
		d.Disabled = func() { disabled.Add(1) }
		d.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	h, _ := w.webhook(d, control.Webhook{URL: v.url, MaxAttempts: 20}, nil)
	w.webhook(d, control.Webhook{URL: watcher.url, Types: []string{"webhook_disabled"}}, nil)
	must(t, w.script().write("a", flow.Active))
	told := watcher.gets(1)[0]
	if told.session != h.ID.String() || !strings.Contains(string(told.body), `"last_error":"HTTP 307: redirects are not followed"`) {
		t.Errorf("told %s", told.body)
	}
	now, err := w.store.Webhook(w.ctx, h.ID)
	must(t, err)
	if now.Enabled || now.DisabledReason != "failing" || now.Failures != 3 || now.Revision != h.Revision+1 || disabled.Load() != 1 {
		t.Errorf("disabled: %+v, noted %d times", now, disabled.Load())
	}
	if n := len(v.all()); n != 3 {
		t.Errorf("%d attempts", n)
	}
	must(t, w.script().write("a", flow.Active)) // for nobody
	healthy.Store(true)
	now.Enabled = true
	now, err = d.Webhooks.Update(w.ctx, now, nil, now.Revision)
	must(t, err)
	if now.Failures != 0 || now.DisabledReason != "" {
		t.Errorf("enabled again: %+v", now)
	}
	v.gets(4)
	eventually(t, "it is delivered", func() bool { return len(w.deliveries(h, control.DeliveryDelivered)) == 1 })
	if n := len(w.deliveries(h, "")); n != 1 {
		t.Errorf("%d deliveries: what happened while it was disabled is queued", n)
	}
}

// Rude receivers are failures with a reason, and no more.
func TestRudeReceivers(t *testing.T) {
	w := newTown(t, shop)
	d := w.mail(t, w.store, nil)
	hooks := map[string]control.Webhook{}
	release := make(chan struct{})
	defer close(release)
	for want, answer := range map[string]func(int, http.ResponseWriter, *http.Request){
		"HTTP 500":  always(500),
		"HTTP 410":  always(410),
		"no answer": func(int, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"timed out": func(_ int, w http.ResponseWriter, _ *http.Request) { <-release },
	} {
		hooks[want], _ = w.webhook(d, control.Webhook{URL: newReceiver(t, answer).url}, nil)
	}
	hooks["no answer "], _ = w.webhook(d, control.Webhook{URL: "http://127.0.0.1:1/"}, nil)
	must(t, w.script().write("a", flow.Active))
	for want, h := range hooks {
		eventually(t, want+" is dead", func() bool { return len(w.deliveries(h, control.DeliveryDead)) == 1 })
		if got := w.deliveries(h, "")[0]; got.Error != strings.TrimSpace(want) {
			t.Errorf("%q, want %q", got.Error, want)
		}
	}
}

// vault has one secret, for one host.
type vault struct{ key, value, host string }

func (v vault) Secret(_ context.Context, key string, to *url.URL) (effect.Secret, error) {
	if key != v.key || to.Host != v.host {
		return "", effect.ErrNoSecret
	}
	return effect.Secret(v.value), nil
}

// A header's secret goes to its host, and nowhere else.
func TestSecretsInHeaders(t *testing.T) {
	w := newTown(t, shop)
	v, other := newReceiver(t, nil), newReceiver(t, nil)
	to, err := url.Parse(v.url)
	must(t, err)
	d := w.mail(t, w.store, func(d *control.Deliveries) { d.Secrets = vault{"crm", "canary", to.Host} })
	headers := map[string]string{"Authorization": "Bearer {secret:crm}", "X-Plain": "a {b} c"}
	w.webhook(d, control.Webhook{URL: v.url}, headers)
	h, _ := w.webhook(d, control.Webhook{URL: other.url}, headers)
	must(t, w.script().write("a", flow.Active))
	got := v.gets(1)[0]
	if got.header.Get("Authorization") != "Bearer canary" || got.header.Get("X-Plain") != "a {b} c" {
		t.Errorf("sent %v", got.header)
	}
	eventually(t, "the other is dead", func() bool { return len(w.deliveries(h, control.DeliveryDead)) == 1 })
	if len(other.all()) != 0 || !strings.Contains(w.deliveries(h, "")[0].Error, "secret of header Authorization") {
		t.Errorf("the other host got %d: %+v", len(other.all()), w.deliveries(h, ""))
	}
}
