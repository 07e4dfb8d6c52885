package main

import (
	"context"
	"time"
)

// Scenarios of interruption, pacing and faults.

// few is how many calls the scenarios have that do not ask for load.
const few = 25

// byRecognizer is S2: the caller speaks so softly over the agent that only the
// recognizer notices.
func (s *suite) byRecognizer(ctx context.Context) error {
	h, err := s.once(ctx, few, whispers, s.o.measure)
	if err == nil {
		s.report.byRecognizer(h)
	}
	return err
}

// byVoice is S3: the caller speaks up over the agent, or something clicks.
func (s *suite) byVoice(ctx context.Context) error {
	h, err := s.once(ctx, few, speaksUp, s.o.measure)
	if err != nil {
		return err
	}
	click, err := s.once(ctx, few, clicks, s.o.measure/2)
	if err == nil {
		s.report.byVoice(h, click)
	}
	return err
}

// pacing is S7, seen on the calls of the load.
func (s *suite) pacing(ctx context.Context) error {
	h, err := s.atLoad(ctx)
	if err == nil {
		s.report.pacing(h)
	}
	return err
}

// faults is S8: every recognizer's socket breaks, then the first model stalls,
// then the first voice fails. Each time calls go on, and the turns after are as
// good as before.
func (s *suite) faults(ctx context.Context) error {
	t, err := s.gateway(ctx, noLimit, "PARLEY_MAX_LATE=0")
	if err != nil {
		return err
	}
	defer func() { _ = t.end() }()
	defer s.fleet.hangUpAll()
	if _, err := s.place(ctx, t, few, talk); err != nil {
		return err
	}
	f := &s.vendors.faults
	for _, fault := range []struct {
		name    string
		on, off func()
	}{
		{"recognizer's socket broken", s.vendors.killRecognizers, func() {}},
		{"model stalled for 8 s", func() { f.stall.Store(true) }, func() { f.stall.Store(false) }},
		{"speech answers 500 for 8 s", func() { f.mute.Store(true) }, func() { f.mute.Store(false) }},
	} {
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		s.fleet.take()
		fault.on()
		err := pause(ctx, 8*time.Second)
		fault.off()
		if err != nil {
			return err
		}
		lost := s.fleet.take().lost.Load()
		if err := pause(ctx, 8*time.Second); err != nil { // for the turn that was hit
			return err
		}
		lost += s.fleet.take().lost.Load()
		h, err := s.measure(ctx, t, 8*time.Second)
		if err != nil {
			return err
		}
		h.Lost += lost
		s.report.fault(fault.name, h)
	}
	return nil
}
