package outbound

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A traffic is storage in memory: what tenants ordered and called.
type traffic struct {
	mu     sync.Mutex
	orders map[uuid.UUID][]order
	stops  map[uuid.UUID]Stop
	seen   map[string]map[string]bool
	looks  int
}

// An order is a dial, and its call where it cost something.
type order struct {
	at     time.Time
	callee Callee
	took   time.Duration
	cost   Money
	by     string
}

func newTraffic() *traffic {
	return &traffic{orders: map[uuid.UUID][]order{}, stops: map[uuid.UUID]Stop{}, seen: map[string]map[string]bool{}}
}

func (s *traffic) since(ctx context.Context, since time.Time) (list []order) {
	tenant, _ := control.TenantOf(ctx)
	for _, o := range s.orders[tenant] {
		if !o.at.Before(since) {
			list = append(list, o)
		}
	}
	return list
}

func (s *traffic) NewCountries(ctx context.Context, before, since time.Time) (t Tally, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	known := map[string]bool{}
	for _, o := range s.since(ctx, before) {
		if o.at.Before(since) {
			known[o.callee.Destination()] = true
		}
	}
	for _, o := range s.since(ctx, since) {
		if c := o.callee.Destination(); !known[c] {
			known[c], t.By = true, o.by
			t.Count++
			t.About = strings.TrimSpace(t.About + " " + c)
		}
	}
	return t, nil
}

// fullest counts by the beginning of numbers.
func fullest(list []order, cut int, distinct bool) (t Tally) {
	seen, counts := map[string]bool{}, map[string]int{}
	for _, o := range list {
		if seen[o.callee.Number] && distinct {
			continue
		}
		seen[o.callee.Number] = true
		head := o.callee.Number[:len(o.callee.Number)-cut]
		if counts[head]++; counts[head] > t.Count {
			t = Tally{counts[head], head, o.by}
		}
	}
	return t
}

func (s *traffic) FullestRange(ctx context.Context, since time.Time) (Tally, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fullest(s.since(ctx, since), 2, true), nil
}

func (s *traffic) ShortCalls(ctx context.Context, since time.Time, d time.Duration) (Tally, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fullest(slices.DeleteFunc(s.since(ctx, since), func(o order) bool { return o.took == 0 || o.took > d }), 4, false), nil
}

func (s *traffic) OutboundSpent(ctx context.Context, since time.Time) (m Money, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.since(ctx, since) {
		m += o.cost
	}
	return m, nil
}

func (s *traffic) DearestHour(ctx context.Context, since, until time.Time) (most Money, first time.Time, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hours := map[time.Time]Money{}
	for _, o := range s.since(ctx, since) {
		if o.cost == 0 || !o.at.Before(until) {
			continue
		}
		if first.IsZero() {
			first = o.at
		}
		hours[o.at.Truncate(time.Hour)] += o.cost
		most = max(most, hours[o.at.Truncate(time.Hour)])
	}
	return most, first, nil
}

func (s *traffic) OutboundStop(ctx context.Context) (Stop, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tenant, _ := control.TenantOf(ctx)
	return s.stops[tenant], nil
}

func (s *traffic) PutOutboundStop(ctx context.Context, stop Stop) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tenant, _ := control.TenantOf(ctx)
	if s.stops[tenant].Holds() {
		return false, nil
	}
	s.stops[tenant] = stop
	return true, nil
}

func (s *traffic) LiftOutboundStop(ctx context.Context) (Stop, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tenant, _ := control.TenantOf(ctx)
	stop := s.stops[tenant]
	if !stop.Holds() {
		return Stop{}, control.ErrConflict
	}
	stop.Lifted = time.Now().UTC()
	s.stops[tenant] = stop
	return stop, nil
}

// Sight forgets nothing, which tests need no more than.
func (s *traffic) Sight(_ context.Context, key, member string, _ time.Duration) (n int, fresh, alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[key] == nil {
		s.seen[key] = map[string]bool{}
	}
	fresh = !s.seen[key][member]
	s.seen[key][member] = true
	return len(s.seen[key]), fresh, false
}

// A fraudNode is one process of several that share storage.
func (s *traffic) node(raised *[]Stop) *Watch {
	return &Watch{Stops: s, Traffic: s, Seen: s, Thresholds: DefaultThresholds(), Pseudonym: func(n string) string { return "p" + n },
		Raised: func(_ context.Context, stop Stop) { *raised = append(*raised, stop) }}
}

// called has a tenant order a call, and looks a moment later.
func (s *traffic) called(t *testing.T, w *Watch, ctx context.Context, o order) Stop {
	t.Helper()
	tenant, _ := control.TenantOf(ctx)
	if o.callee.Risk == "" {
		c, err := Inspect(o.callee.Number, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.callee = c
	}
	o.at, o.by = time.Now(), "key:k"
	if o.callee.Risk == "" {
		s.mu.Lock()
		s.orders[tenant] = append(s.orders[tenant], o)
		s.mu.Unlock()
	} else if err := w.Refused(ctx, o.callee); err != nil {
		t.Fatal(err)
	}
	time.Sleep(lookEvery)
	stop, err := w.Stopped(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stop
}

// abroad are numbers of different countries.
var abroad = []string{"+4930123456", "+33142685300", "+34911234567", "+390612345678", "+31201234567", "+3225551234", "+4312345678", "+48221234567"}

func number(n int) order { return order{callee: Callee{Number: fmt.Sprintf("+1212555%04d", n)}} }

// Each signal stops its tenant with the count that its threshold says, not with
// one less, tells of it once, and stops no other tenant.
func TestFraudSignals(t *testing.T) {
	risky := func(n int) order {
		return order{callee: Callee{Number: fmt.Sprintf("+1900555%04d", n), Risk: RiskPremium}}
	}
	brief := func(n int) order {
		o := number(137 * n) // of a hundred each
		o.took, o.cost = 5*time.Second, 1
		return o
	}
	tests := []struct {
		signal Signal
		order  func(n int) order
		about  string
	}{
		{NewCountries, func(n int) order { return order{callee: Callee{Number: abroad[n]}} }, "DE FR ES IT NL BE"},
		{NumberRange, func(n int) order { return number(n) }, "+121255500"},
		{ShortCalls, brief, "+1212555"},
		{RiskyNumbers, risky, ""},
	}
	for _, tt := range tests {
		t.Run(string(tt.signal), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTraffic()
				var raised []Stop
				w := s.node(&raised)
				mine, other := control.WithTenant(t.Context(), uuid.New()), control.WithTenant(t.Context(), uuid.New())
				most := DefaultThresholds()[tt.signal]
				for n := range most - 1 {
					if stop := s.called(t, w, mine, tt.order(n)); stop.Holds() {
						t.Fatalf("%d of %d stop it: %s", n+1, most, stop.Reason())
					}
					if tt.signal != ShortCalls {
						s.called(t, w, mine, tt.order(n/2)) // the same again counts but there
					}
				}
				stop := s.called(t, w, mine, tt.order(most-1))
				if !stop.Holds() || stop.Signal != tt.signal || stop.Count != most || stop.Threshold != most || stop.About != tt.about || len(raised) != 1 {
					t.Fatalf("%d: %+v, told of %v", most, stop, raised)
				}
				if stop := s.called(t, w, other, tt.order(most-1)); stop.Holds() {
					t.Errorf("another tenant is stopped: %s", stop.Reason())
				}
			})
		})
	}
}

// What is spread over more than an hour, or usual, stops nobody.
func TestFraudLeavesWhatIsUsual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTraffic()
		var raised []Stop
		w, ctx := s.node(&raised), control.WithTenant(t.Context(), uuid.New())
		for n := range 60 { // of one hundred, but 12 an hour
			s.called(t, w, ctx, number(n))
			time.Sleep(5 * time.Minute)
		}
		for _, to := range abroad { // one country after the other
			s.called(t, w, ctx, order{callee: Callee{Number: to}})
			time.Sleep(FraudWindow)
		}
		for _, to := range abroad { // all at once: they are known
			s.called(t, w, ctx, order{callee: Callee{Number: to}})
		}
		for n := range 100 { // 100 people of an exchange, who talk
			o := number(101 * n)
			o.took = time.Minute
			s.called(t, w, ctx, o)
		}
		if len(raised) > 0 {
			t.Errorf("stopped: %v", raised[0].Reason())
		}
	})
}

// Money that goes five times as fast as in the dearest hour stops; not on the
// first day.
func TestFraudSpend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTraffic()
		var raised []Stop
		w, ctx := s.node(&raised), control.WithTenant(t.Context(), uuid.New())
		spend := func(m Money) Stop {
			o := number(1)
			o.cost, o.took = m, time.Hour
			return s.called(t, w, ctx, o)
		}
		if spend(200 * 1e6).Holds() {
			t.Fatal("a first day is held to hours before it")
		}
		time.Sleep(usualOver) // the first day is no measure any more
		spend(20 * 1e6)
		time.Sleep(30 * time.Hour)
		if spend(99 * 1e6).Holds() {
			t.Fatal("less than five times the dearest hour stops")
		}
		if stop := spend(1e6); !stop.Holds() || stop.Signal != SpendJump || stop.Count != 5 {
			t.Errorf("five times the dearest hour: %+v", stop)
		}
	})
}

// A stop stands for every node and whoever starts later; of two that see it at
// once one tells; lifted, what was before counts no more, and what comes after
// does.
func TestStopHoldsUntilItIsLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTraffic()
		var raised, late []Stop
		a, b := s.node(&raised), s.node(&raised)
		tenant := uuid.New()
		ctx := control.WithTenant(t.Context(), tenant)
		for n := range 19 {
			s.called(t, a, ctx, number(n))
		}
		s.orders[tenant] = append(s.orders[tenant], order{at: time.Now(), callee: Callee{Number: "+12125550019"}, by: "key:k"})
		time.Sleep(lookEvery)
		for _, w := range []*Watch{a, b} { // both count before either has written
			if found, err := w.look(ctx, tenant, time.Now(), time.Time{}); err != nil || found.Signal != NumberRange {
				t.Fatalf("%+v, %v", found, err)
			} else if _, err := w.raise(ctx, found); err != nil {
				t.Fatal(err)
			}
		}
		if len(raised) != 1 {
			t.Errorf("two nodes tell of it %d times", len(raised))
		}
		time.Sleep(48 * time.Hour) // long after its cause
		restarted := s.node(&late)
		orders := &Orders{Policies: fixedPolicy{}, Fraud: restarted}
		_, _, err := orders.check(ctx, Dial{To: "+12125559999"})
		var told *control.Refusal
		if !errors.Is(err, ErrStopped) || !errors.Is(err, control.ErrForbidden) || !errors.As(err, &told) {
			t.Fatalf("an order after a restart: %v", err)
		}
		for _, want := range []string{raised[0].At.Format(time.RFC3339), "20 numbers that begin with +121255500", tenant.String() + "/outbound/resume", "key:k"} {
			if !strings.Contains(told.Reason, want) {
				t.Errorf("the refusal %q does not say %q", told.Reason, want)
			}
		}
		s.orders[tenant] = nil
		for n := range 19 { // while it is stopped, on the way to another
			s.orders[tenant] = append(s.orders[tenant], order{at: time.Now(), callee: Callee{Number: number(n).callee.Number}})
		}
		time.Sleep(time.Millisecond)
		if _, err := s.LiftOutboundStop(ctx); err != nil {
			t.Fatal(err)
		}
		for n := range 19 {
			if stop := s.called(t, restarted, ctx, number(50+n)); stop.Holds() {
				t.Fatalf("what was before it was lifted counts: %s", stop.Reason())
			}
		}
		if stop := s.called(t, restarted, ctx, number(70)); !stop.Holds() || len(late) != 1 {
			t.Errorf("20 more are let pass: %+v", stop)
		}
	})
}

// A node counts a tenant at most once a second, and a policy without thresholds
// never.
func TestWatchLooksSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTraffic()
		w, ctx := s.node(&[]Stop{}), control.WithTenant(t.Context(), uuid.New())
		for range 100 {
			if _, err := w.Stopped(ctx); err != nil {
				t.Fatal(err)
			}
			time.Sleep(lookEvery / 10)
		}
		if s.looks != 10 {
			t.Errorf("100 orders in 10 s are counted %d times, want 10", s.looks)
		}
		var nobody *Watch
		if stop, err := nobody.Stopped(ctx); stop.Holds() || err != nil || nobody.Refused(ctx, Callee{Risk: RiskPremium}) != nil {
			t.Errorf("nobody watches: %+v, %v", stop, err)
		}
	})
}

type fixedPolicy struct{ Policies }

func (fixedPolicy) OutboundPolicy(context.Context) (Policy, error) { return DefaultPolicy(), nil }

func TestParseThresholds(t *testing.T) {
	got, err := ParseThresholds("number_range=50, spend=0")
	if err != nil || got[NumberRange] != 50 || got[SpendJump] != 0 || got[NewCountries] != DefaultThresholds()[NewCountries] {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"range=5", "spend", "spend=-1", "spend=x", "risky_numbers=1001"} {
		if _, err := ParseThresholds(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
