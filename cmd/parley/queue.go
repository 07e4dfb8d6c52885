package main

import (
	"cmp"
	"context"
	"time"

	"parley/store/postgres"
)

// openQueue lets this process work the jobs of all.
func (g *gateway) openQueue(ctx context.Context) (err error) {
	g.chats.Tasks, g.chats.Counted = g.db, newTaskMetrics(g.metrics)
	g.queue, err = postgres.OpenQueue(ctx, cmp.Or(g.settings.DatabaseListenURL, g.settings.DatabaseURL),
		postgres.Workers{Task: g.chats.DoTask, Afterwork: g.afterworks().Do},
		postgres.QueueOptions{Drain: max(min(g.settings.Drain, queueDrain), time.Second), Log: g.log})
	return err
}

// queueDrain is how long jobs may go on when the process ends: most calls are
// answered by then, and the rest another process makes again.
const queueDrain = 5 * time.Second
