package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Scenarios of many calls: capacity, overload, soak.

const (
	searchFrom = 100
	searchStep = 50
	searchMost = 1000
	lateMax    = 40 // ms at the 99th percentile that a call still bears
)

// search adds calls to a target until they suffer. It returns the last number
// that did not, and how those calls went.
func (s *suite) search(ctx context.Context, t *target, sc script) (best held, err error) {
	defer s.fleet.hangUpAll()
	refused, err := s.place(ctx, t, searchFrom-searchStep, sc)
	for n := searchFrom; err == nil && n <= searchMost; n += searchStep {
		var more int
		if more, err = s.place(ctx, t, searchStep, sc); err != nil {
			break
		}
		refused += more
		if err = pause(ctx, 4*time.Second); err != nil { // longer than a turn waits for its reply
			break
		}
		var h held
		if h, err = s.measure(ctx, t, 6*time.Second); err != nil {
			break
		}
		if h.Lost+h.Missed > 0 || refused > 0 || max(h.Echo.P99, h.Overhead.P99) > lateMax {
			h.Refused = refused
			s.report.keep(fmt.Sprintf("S5 limit of %s", t.name), h)
			break
		}
		best = h
	}
	return best, err
}

// capacity is S5.
func (s *suite) capacity(ctx context.Context) error {
	floor, err := s.floor(ctx, roleRelay)
	if err != nil {
		return err
	}
	most, err := s.search(ctx, floor, streaming)
	_ = floor.end() // it has told what it had to
	if err != nil {
		return err
	}
	t, err := s.gateway(ctx, noLimit, "PARLEY_MAX_LATE=0")
	if err != nil {
		return err
	}
	ours, err := s.search(ctx, t, talk)
	_ = t.end()
	if err != nil {
		return err
	}
	s.most = ours.Calls
	s.report.capacity(most, ours)
	return nil
}

// overload is S6: half as many calls again as the gateway carries, and its own
// judgement of what that is.
func (s *suite) overload(ctx context.Context) error {
	offered := max(s.most, 300) * 3 / 2
	t, err := s.gateway(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = t.end() }()
	s.fleet.take()
	h, err := s.hold(ctx, t, offered, talk, 8*time.Second, s.o.measure/2)
	if err != nil {
		return err
	}
	alone, err := s.atLoad(ctx)
	if err == nil {
		s.report.overload(offered, h, alone)
	}
	return err
}

// soak is S9: calls come and go. What is left at the end is what leaks.
func (s *suite) soak(ctx context.Context) error {
	t, err := s.gateway(ctx, noLimit, "PARLEY_MAX_LATE=0")
	if err != nil {
		return err
	}
	defer func() { _ = t.end() }()
	base, err := t.leftovers(ctx)
	if err != nil {
		return err
	}
	slope, err := s.churn(ctx, t)
	if err != nil {
		return err
	}
	s.fleet.hangUpAll()
	var after leftovers
	for range 20 { // what ends with the calls takes its time
		s.vendors.hangUpIdle()
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		if after, err = t.leftovers(ctx); err != nil {
			return err
		}
		if after.goroutines <= base.goroutines+leftoverMax && after.fds <= base.fds+leftoverMax {
			break
		}
	}
	s.report.soak(s.o.soak, slope, base, after)
	return nil
}

// churn keeps half of the usual calls up, each for 10 to 30 s, and returns by
// how much resident memory grew in the second half, in MiB an hour.
func (s *suite) churn(ctx context.Context, t *target) (slope float64, err error) {
	n := max(1, s.o.calls/2)
	if _, err := s.place(ctx, t, n, talk); err != nil {
		return 0, err
	}
	end := time.Now().Add(s.o.soak)
	half := time.Now().Add(s.o.soak / 2)
	var x, y []float64
	for time.Now().Before(end) {
		if err := pause(ctx, time.Second); err != nil {
			return 0, err
		}
		gone := s.fleet.hangUpSome(n/20 + rand.IntN(2))
		if _, err := s.place(ctx, t, gone, talk); err != nil {
			return 0, err
		}
		if u, err := t.usage(); err == nil && time.Now().After(half) {
			x, y = append(x, time.Since(half).Hours()), append(y, float64(u.rss)/(1<<20))
		}
	}
	return fit(x, y), nil
}

// fit is the slope of the line of least squares.
func fit(x, y []float64) float64 {
	var n, sx, sy, sxx, sxy float64
	for i := range x {
		n, sx, sy, sxx, sxy = n+1, sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i]
	}
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}

// leftovers are what calls might leave behind.
type leftovers struct{ goroutines, fds int }

// leftoverMax allows for the database's pool, which keeps what it has opened.
const leftoverMax = 25

func (t *target) leftovers(ctx context.Context) (l leftovers, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.admin+"/metrics", nil)
	if err != nil {
		return l, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return l, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseFloat(value, 64) // only of the two lines below
		switch name {
		case "go_goroutines":
			l.goroutines = int(n)
		case "process_open_fds":
			l.fds = int(n)
		}
	}
	return l, err
}
