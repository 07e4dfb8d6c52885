package main

import (
	"slices"
	"sync"
	"time"
)

// A series is a row of measured times. It is safe for concurrent use.
type series struct {
	mu sync.Mutex
	d  []time.Duration
}

func (s *series) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.d = append(s.d, d)
}

// quantiles of a series, in milliseconds.
type quantiles struct {
	N   int     `json:"n"`
	Min float64 `json:"min_ms"`
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func (s *series) quantiles() quantiles {
	s.mu.Lock()
	d := slices.Clone(s.d)
	s.mu.Unlock()
	if len(d) == 0 {
		return quantiles{}
	}
	slices.Sort(d)
	at := func(p float64) float64 {
		// The least value that a share of p does not exceed.
		i := int(p*float64(len(d))+0.999999) - 1
		return millis(d[min(max(i, 0), len(d)-1)])
	}
	return quantiles{len(d), millis(d[0]), at(0.5), at(0.95), at(0.99), millis(d[len(d)-1])}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
