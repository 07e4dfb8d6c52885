package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// A scenario is one row or more of the table.
type scenario struct {
	name string
	run  func(*suite, context.Context) error
}

func scenarios() []scenario {
	return []scenario{
		{"S1", (*suite).latency},
		{"S2", (*suite).byRecognizer},
		{"S3", (*suite).byVoice},
		{"S4", (*suite).cost},
		{"S5", (*suite).capacity},
		{"S6", (*suite).overload},
		{"S7", (*suite).pacing},
		{"S8", (*suite).faults},
		{"S9", (*suite).soak},
		{"S10", (*suite).browserCalls},
	}
}

// A suite is one run of scenarios.
type suite struct {
	*stage
	report report
	loaded *held // at o.calls, which more than one scenario looks at
	most   int   // calls that the gateway carried, once searched for
}

// bench runs what is asked for and prints and writes the figures.
func bench(ctx context.Context, o options) error {
	st, err := newStage(ctx, o)
	if err != nil {
		return err
	}
	defer st.close()
	clock, stop := context.WithCancel(ctx)
	ticking := make(chan struct{})
	go func() { defer close(ticking); st.fleet.run(clock) }()
	defer func() { stop(); <-ticking }()

	s := &suite{stage: st, report: report{Machine: thisMachine()}}
	for _, sc := range scenarios() {
		if o.only != "" && !contains(o.only, sc.name) {
			continue
		}
		began := time.Now()
		if err := sc.run(s, ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.report.failed(sc.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s took %v\n", sc.name, time.Since(began).Round(time.Second))
	}
	s.report.print(os.Stdout)
	return s.report.write(o.out)
}

func contains(list, name string) bool {
	for n := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(n), name) {
			return true
		}
	}
	return false
}

// atLoad holds o.calls calls once and remembers how they went.
func (s *suite) atLoad(ctx context.Context) (held, error) {
	if s.loaded != nil {
		return *s.loaded, nil
	}
	h, err := s.once(ctx, s.o.calls, talk, s.o.measure)
	if err == nil {
		s.loaded = &h
		s.report.keep("gateway at load", h)
	}
	return h, err
}

// once holds calls on a gateway of their own.
func (s *suite) once(ctx context.Context, n int, sc script, measure time.Duration, env ...string) (held, error) {
	t, err := s.gateway(ctx, append([]string{noLimit, "PARLEY_MAX_LATE=0"}, env...)...)
	if err != nil {
		return held{}, err
	}
	h, err := s.hold(ctx, t, n, sc, 8*time.Second, measure)
	if e := t.end(); err == nil && e != nil {
		err = fmt.Errorf("stop the gateway: %w", e)
	}
	return h, err
}

// latency is S1.
func (s *suite) latency(ctx context.Context) error {
	for _, n := range []int{1, 25} {
		h, err := s.once(ctx, n, talk, s.o.measure)
		if err != nil {
			return err
		}
		s.report.latency(h)
	}
	h, err := s.atLoad(ctx)
	if err == nil {
		s.report.latency(h)
	}
	return err
}

// cost is S4: the floor before and after, so that a machine that changes
// meanwhile is noticed.
func (s *suite) cost(ctx context.Context) error {
	floor := func(role string) (held, error) {
		t, err := s.floor(ctx, role)
		if err != nil {
			return held{}, err
		}
		defer func() { _ = t.end() }()
		return s.hold(ctx, t, s.o.calls, streaming, 4*time.Second, s.o.measure/2)
	}
	echo, err := floor(roleEcho)
	if err != nil {
		return err
	}
	before, err := floor(roleRelay)
	if err != nil {
		return err
	}
	h, err := s.atLoad(ctx)
	if err != nil {
		return err
	}
	after, err := floor(roleRelay)
	if err != nil {
		return err
	}
	s.report.cost(echo, before, h, after)
	return nil
}
