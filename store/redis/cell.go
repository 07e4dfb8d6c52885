package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/agent/effect"
)

var _ effect.Cells = (*Client)(nil)

// cellTries is how often a change is made anew because others were quicker.
const cellTries = 5

var (
	// errAway says that Redis was away a moment ago, and is not asked.
	errAway = errors.New("redis: away")
	errRace = errors.New("redis: others were quicker each time")
)

// replace puts a value in another's place, if that still stands: an empty one
// stands for none.
var replace = redis.NewScript(`
	if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
	redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
	return 1`)

// Change implements [effect.Cells]. While Redis is away it fails at once.
func (c *Client) Change(ctx context.Context, key string, life time.Duration, f func(old []byte) []byte) error {
	if !c.limit.reachable(time.Now()) {
		return errAway
	}
	try, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	err := c.change(try, "cell:"+key, life, f)
	if err == nil {
		return nil
	}
	if ctx.Err() == nil && !errors.Is(err, errRace) {
		c.limit.lost(time.Now())
	}
	return fmt.Errorf("change a cell: %w", err)
}

func (c *Client) change(ctx context.Context, key string, life time.Duration, f func(old []byte) []byte) error {
	for range cellTries {
		old, err := c.rdb.Get(ctx, key).Bytes()
		if errors.Is(err, redis.Nil) {
			old, err = nil, nil
		}
		if err != nil {
			return err
		}
		value := f(old)
		if bytes.Equal(value, old) {
			return nil
		}
		done, err := replace.Run(ctx, c.rdb, []string{key}, old, value, max(life.Milliseconds(), 1)).Int()
		if err != nil || done == 1 {
			return err
		}
	}
	return errRace
}

// meter adds to sums that lapse with their window, and returns them.
var meter = redis.NewScript(`
	local sums = {}
	for i, n in ipairs({ARGV[2], ARGV[3], ARGV[4]}) do sums[i] = redis.call('HINCRBY', KEYS[1], i, n) end
	redis.call('PEXPIRE', KEYS[1], ARGV[1], 'NX')
	return sums`)

// Spend adds to what was spent under a key in a window that begins with the
// first, and returns the sums. While Redis is away it fails at once.
func (c *Client) Spend(ctx context.Context, key string, window time.Duration, amounts [3]int64) (sums [3]int64, err error) {
	if !c.limit.reachable(time.Now()) {
		return sums, errAway
	}
	try, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	got, err := meter.Run(try, c.rdb, []string{"meter:" + key}, window.Milliseconds(), amounts[0], amounts[1], amounts[2]).Int64Slice()
	if err != nil {
		if ctx.Err() == nil {
			c.limit.lost(time.Now())
		}
		return sums, fmt.Errorf("spend: %w", err)
	}
	copy(sums[:], got)
	return sums, nil
}
