// Package redis keeps what may be lost: which single-use tokens were used, how
// often somebody asked, and which calls are live. Without Redis it works on,
// for this node alone.
package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/control"
	"parley/control/ingress"
)

// A Client talks to Redis. Its methods never wait longer than 250 ms.
type Client struct {
	rdb   *redis.Client
	limit *limiter
	seen  *ingress.Recent // while Redis is away
	used  *usedSet

	patience time.Duration // with one request
}

var _ control.Single = (*Client)(nil)

// patience with Redis: it is asked on the road of requests.
const patience = 250 * time.Millisecond

// Open returns a client for a URL such as redis://host:6379/0. It connects when
// it is needed, and fails on a malformed address only.
func Open(url string) (*Client, error) { return openPatient(url, patience) }

// openPatient opens a client that waits so long for an answer.
func openPatient(url string, patience time.Duration) (*Client, error) {
	opt, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("open redis: the address is malformed") // the cause may repeat the password
	}
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = patience, patience, patience
	opt.PoolTimeout, opt.MaxRetries = patience, -1
	opt.ContextTimeoutEnabled = true
	rdb := redis.NewClient(opt)
	return &Client{rdb: rdb, limit: newLimiter(rdb), seen: ingress.NewRecent(), used: newUsedSet(), patience: patience}, nil
}

// Ping asks Redis for an answer.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	if err := c.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	return nil
}

// Close ends all connections.
func (c *Client) Close() error { return c.rdb.Close() }

// Use implements [control.Single]. The node's own memory is asked first and
// always kept, so that a token stays used while Redis comes and goes.
func (c *Client) Use(ctx context.Context, key string, life time.Duration) bool {
	if !c.used.add(key, life, time.Now()) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	err := c.rdb.SetArgs(ctx, "used:"+key, 1, redis.SetArgs{Mode: "NX", TTL: life}).Err()
	return !errors.Is(err, redis.Nil) // Nil: it was set before; any other fault: memory decides
}
