package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// embeddedRedis is the in-process Redis of `parley dev`. It forgets everything
// at the end of the process, as what Redis holds may be lost.
type embeddedRedis struct {
	server *miniredis.Miniredis
	stop   chan struct{}
	clock  sync.WaitGroup
}

// startRedis starts it on a free port of the loopback interface.
func startRedis() (*embeddedRedis, error) {
	server, err := miniredis.Run()
	if err != nil {
		return nil, fmt.Errorf("start the embedded redis: %w", err)
	}
	e := &embeddedRedis{server: server, stop: make(chan struct{})}
	e.clock.Go(e.tick)
	return e, nil
}

// tick lets time pass for what expires, which the server does not do by itself.
func (e *embeddedRedis) tick() {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-e.stop:
			return
		case now := <-t.C:
			e.server.FastForward(now.Sub(last))
			last = now
		}
	}
}

// URL is its address, as REDIS_URL would have it.
func (e *embeddedRedis) URL() string { return "redis://" + e.server.Addr() + "/0" }

// Stop ends it and waits. It is called once.
func (e *embeddedRedis) Stop() {
	close(e.stop)
	e.clock.Wait()
	e.server.Close()
}
