package redis

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/control/ingress"
)

type limiter struct {
	rdb  *redis.Client
	here *ingress.Memory

	mu   sync.Mutex
	away time.Time // Redis is not asked before
}

func newLimiter(rdb *redis.Client) *limiter {
	return &limiter{rdb: rdb, here: ingress.NewMemory()}
}

// take is the generic cell rate algorithm over several keys, of which all are
// counted or none. ARGV holds units, units a period, and microseconds of the
// period, for each key; values are the time at which all is given back. It
// answers whether, which ask decided, its units left, and microseconds until it
// allows again and until it is full.
var take = redis.NewScript(`
	redis.replicate_commands()
	local t = redis.call('TIME')
	local now = t[1] * 1000000 + t[2]
	local thens, of, least, reset = {}, 0, -1, 0
	for i = 1, #KEYS do
		local cost, n, per = tonumber(ARGV[3*i-2]), tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i])
		local full = math.max(tonumber(redis.call('GET', KEYS[i]) or '0'), now)
		local one = per / n
		local after = full + one * cost
		if after - now - per > 0.5 then
			return {0, i - 1, 0, math.ceil(after - now - per), math.ceil(full - now)}
		end
		local left = math.floor((per - (after - now)) / one + 0.000001)
		if least < 0 or left < least then of, least, reset = i - 1, left, after - now end
		thens[i] = after
	end
	for i = 1, #KEYS do
		redis.call('SET', KEYS[i], string.format('%.0f', thens[i]), 'PX', math.max(math.ceil((thens[i] - now) / 1000), 1))
	end
	return {1, of, least, 0, math.ceil(reset)}`)

// Take implements [ingress.Limiter]. Without Redis each process counts by
// itself.
func (c *Client) Take(ctx context.Context, asks ...ingress.Ask) ingress.Verdict {
	l := c.limit
	if len(asks) > 0 && l.reachable(time.Now()) {
		try, cancel := context.WithTimeout(ctx, c.patience)
		defer cancel()
		v, err := l.shared(try, asks)
		if err == nil {
			return v
		}
		if ctx.Err() == nil {
			l.lost(time.Now())
		}
	}
	return l.here.Take(ctx, asks...)
}

func (l *limiter) shared(ctx context.Context, asks []ingress.Ask) (ingress.Verdict, error) {
	keys, args := make([]string, len(asks)), make([]any, 0, 3*len(asks))
	for i, a := range asks {
		a.N = max(a.N, 1)
		keys[i] = "limit:" + a.Key
		args = append(args, a.Units(), a.N, a.Per.Microseconds())
	}
	got, err := take.Run(ctx, l.rdb, keys, args...).Int64Slice()
	if err != nil {
		return ingress.Verdict{}, err
	}
	if len(got) != 5 || got[1] < 0 || int(got[1]) >= len(asks) {
		return ingress.Verdict{}, errScript
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	return ingress.Verdict{OK: got[0] == 1, Of: int(got[1]), Left: int(got[2]), Wait: us(got[3]), Reset: us(got[4])}, nil
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
