package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// A held load is what a number of calls cost and how they went.
type held struct {
	Calls      int     `json:"calls"`
	CPU        float64 `json:"cpu_seconds_per_call_minute"`
	Core       float64 `json:"share_of_core"`
	KiB        float64 `json:"kib_per_call"`
	RSS        int64   `json:"rss_kib"`
	Turns      int64   `json:"turns"`
	Missed     int64   `json:"missed_turns"`
	Short      int64   `json:"short_replies"`
	Refused    int     `json:"refused"`
	Lost       int64   `json:"lost"`
	Underruns  int64   `json:"underruns"`
	Stale      int64   `json:"old_audio_after_clear"`
	Unaborted  int64   `json:"requests_not_aborted"`
	Unheeded   int64   `json:"interruptions_not_heeded"`
	FalsePause int64   `json:"false_pauses"`
	Steal      float64 `json:"stolen_share_of_cores"`

	Overhead    quantiles `json:"overhead"`
	Echo        quantiles `json:"echo"`
	Lead        quantiles `json:"lead"`
	Jitter      quantiles `json:"jitter"`
	FromInterim quantiles `json:"interim_to_clear"`
	FromOnset   quantiles `json:"onset_to_clear"`
	Aborts      quantiles `json:"clear_to_abort"`
	Late        quantiles `json:"load_lateness"`
}

// Beyond these a run is void: the machine did something else.
const (
	latenessMax = 5    // ms that the load's own clock may be late, p99
	stealMax    = 0.05 // of all cores' time that the host may take
)

func (h held) void() bool { return h.Late.P99 > latenessMax || h.Steal > stealMax }

// place brings n more calls up, some at a time, and returns how many were
// refused. Any other failure counts as an error.
func (s *stage) place(ctx context.Context, t *target, n int, sc script) (refused int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	work := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for range work {
				_, e := t.place(ctx, sc)
				mu.Lock()
				switch {
				case errors.Is(e, errRefused):
					refused++
				case e != nil && err == nil:
					err = e
				}
				mu.Unlock()
			}
		})
	}
	for range n {
		work <- struct{}{}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			break
		}
	}
	close(work)
	wg.Wait()
	return refused, errors.Join(err, ctx.Err())
}

// hold brings n calls up, lets them settle, measures them for a while, and
// hangs up.
func (s *stage) hold(ctx context.Context, t *target, n int, sc script, settle, measure time.Duration) (held, error) {
	defer s.fleet.hangUpAll()
	refused, err := s.place(ctx, t, n, sc)
	if err != nil {
		return held{}, fmt.Errorf("place %d calls: %w", n, err)
	}
	if err := pause(ctx, settle); err != nil {
		return held{}, err
	}
	h, err := s.measure(ctx, t, measure)
	h.Refused = refused
	return h, err
}

// measure watches the calls that are up.
func (s *stage) measure(ctx context.Context, t *target, d time.Duration) (held, error) {
	s.fleet.take()
	calls := s.fleet.size()
	stolen := stolenTime()
	before, err := t.usage()
	if err != nil {
		return held{}, err
	}
	profiled := make(chan error, 1)
	go func() { profiled <- s.profile(ctx, t, calls, d) }()
	if err := errors.Join(pause(ctx, d), <-profiled); err != nil {
		return held{}, err
	}
	after, err := t.usage()
	if err != nil {
		return held{}, err
	}
	m := s.fleet.take()
	cpu, took := (after.cpu - before.cpu).Seconds(), after.at.Sub(before.at)
	h := held{
		Calls: calls, Core: cpu / took.Seconds(), RSS: after.rss >> 10,
		Turns: m.turns.Load(), Missed: m.missed.Load(), Short: m.short.Load(), Lost: m.lost.Load(),
		Underruns: m.underruns.Load(), Stale: m.stale.Load(), Unaborted: m.unaborted.Load(), Unheeded: m.unheeded.Load(), FalsePause: m.falsePauses.Load(),
		Steal:    (stolenTime() - stolen).Seconds() / took.Seconds() / float64(onlineCores()),
		Overhead: m.overhead.quantiles(), Echo: m.echo.quantiles(), Lead: m.lead.quantiles(), Jitter: m.jitter.quantiles(),
		FromInterim: m.fromInterim.quantiles(), FromOnset: m.fromOnset.quantiles(), Aborts: m.aborts.quantiles(), Late: m.late.quantiles(),
	}
	if calls > 0 {
		h.CPU = cpu / took.Minutes() / float64(calls)
		h.KiB = float64(after.rss-t.idle.rss) / 1024 / float64(calls)
	}
	return h, nil
}

// profile keeps the gateway's profiles of a measurement, if asked to.
func (s *stage) profile(ctx context.Context, t *target, calls int, d time.Duration) error {
	if s.o.profile == "" || t.admin == "" || calls != s.o.calls {
		return nil
	}
	seconds := max(1, int(d.Seconds())-1)
	return errors.Join(
		t.save(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), filepath.Join(s.o.profile, "cpu.pprof")),
		t.save(ctx, "/debug/pprof/heap", filepath.Join(s.o.profile, "heap.pprof")),
		t.save(ctx, "/metrics", filepath.Join(s.o.profile, "metrics.txt")),
		t.save(ctx, "/debug/pprof/goroutine?debug=1", filepath.Join(s.o.profile, "goroutines.txt")),
	)
}
