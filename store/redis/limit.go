package redis

import (
	"context"
	"sync"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"
)

// limiterBound is how many keys one node limits by itself.
const limiterBound = 10_000

type limiter struct {
	shared *redis_rate.Limiter

	mu    sync.Mutex
	local map[string]*rate.Limiter
	away  time.Time // Redis is not asked before
}

func newLimiter(rdb *redis.Client) *limiter {
	return &limiter{shared: redis_rate.NewLimiter(rdb), local: map[string]*rate.Limiter{}}
}

// Allow tells whether key may do one thing more, at n a period, all at once if
// need be; if not, after how long. Without Redis each node counts by itself.
func (c *Client) Allow(ctx context.Context, key string, n int, period time.Duration) (bool, time.Duration) {
	l := c.limit
	if l.reachable(time.Now()) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		r, err := l.shared.Allow(ctx, key, redis_rate.Limit{Rate: n, Burst: n, Period: period})
		if err == nil {
			return r.Allowed > 0, max(r.RetryAfter, 0)
		}
		l.lost(time.Now())
	}
	return l.allow(key, n, period, time.Now())
}

func (l *limiter) reachable(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !now.Before(l.away)
}

// lost keeps requests from waiting for Redis one by one while it is away.
func (l *limiter) lost(now time.Time) {
	l.mu.Lock()
	l.away = now.Add(time.Second)
	l.mu.Unlock()
}

func (l *limiter) allow(key string, n int, period time.Duration, now time.Time) (bool, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, ok := l.local[key]
	if !ok {
		if len(l.local) >= limiterBound {
			clear(l.local) // forgets everybody: rather too mild than without bound
		}
		one = rate.NewLimiter(rate.Limit(float64(n)/period.Seconds()), n)
		l.local[key] = one
	}
	if one.AllowN(now, 1) {
		return true, 0
	}
	return false, time.Duration((1 - one.TokensAt(now)) / float64(one.Limit()) * float64(time.Second))
}
