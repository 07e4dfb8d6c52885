package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/control/ingress"
)

var (
	_ ingress.Limiter   = (*Client)(nil)
	_ ingress.Sightings = (*Client)(nil)
	_ ingress.Deny      = (*Client)(nil)
)

// errScript says that a script of ours answered something else.
var errScript = errors.New("redis: a script answered out of form")

// sight adds a member to a set that lapses with its window, up to a bound.
var sight = redis.NewScript(`
	local n = redis.call('SCARD', KEYS[1])
	if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return {n, 0} end
	if n < tonumber(ARGV[3]) then
		redis.call('SADD', KEYS[1], ARGV[1])
		if n == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
		n = n + 1
	end
	return {n, 1}`)

// Sight implements [ingress.Sightings].
func (c *Client) Sight(ctx context.Context, key, member string, window time.Duration) (n int, fresh, alone bool) {
	if c.limit.reachable(time.Now()) {
		try, cancel := context.WithTimeout(ctx, c.patience)
		defer cancel()
		got, err := sight.Run(try, c.rdb, []string{"seen:" + key}, member, window.Milliseconds(), ingress.MaxSightings).Int64Slice()
		if err == nil && len(got) == 2 {
			return int(got[0]), got[1] == 1, false
		}
		if ctx.Err() == nil {
			c.limit.lost(time.Now())
		}
	}
	return c.seen.Sight(ctx, key, member, window)
}

// blocksKey holds the networks that are kept out: field is the network, value
// a storedBlock.
const blocksKey = "blocks"

type storedBlock struct {
	Until  int64  `json:"until"` // Unix milliseconds
	Reason string `json:"reason"`
	By     string `json:"by,omitempty"`
}

// PutBlock implements [ingress.Deny].
func (c *Client) PutBlock(ctx context.Context, b ingress.Block) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	text, err := json.Marshal(storedBlock{b.Until.UnixMilli(), b.Reason, b.By})
	if err != nil {
		return fmt.Errorf("put block: %w", err)
	}
	if err := c.rdb.HSet(ctx, blocksKey, b.Network.String(), text).Err(); err != nil {
		return fmt.Errorf("put block: %w", err)
	}
	return nil
}

// LiftBlock implements [ingress.Deny].
func (c *Client) LiftBlock(ctx context.Context, network netip.Prefix) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	n, err := c.rdb.HDel(ctx, blocksKey, network.String()).Result()
	if err != nil {
		return false, fmt.Errorf("lift block: %w", err)
	}
	return n > 0, nil
}

// Blocks implements [ingress.Deny]; what has lapsed is taken out.
func (c *Client) Blocks(ctx context.Context) ([]ingress.Block, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	all, err := c.rdb.HGetAll(ctx, blocksKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list blocks: %w", err)
	}
	var list []ingress.Block
	var lapsed []string
	now := time.Now()
	for field, text := range all {
		var s storedBlock
		network, err := netip.ParsePrefix(field)
		if err != nil || json.Unmarshal([]byte(text), &s) != nil || s.Until <= now.UnixMilli() {
			lapsed = append(lapsed, field)
			continue
		}
		if len(list) < ingress.MaxBlocks {
			list = append(list, ingress.Block{Network: network, Until: time.UnixMilli(s.Until).UTC(), Reason: s.Reason, By: s.By})
		}
	}
	if len(lapsed) > 0 {
		if err := c.rdb.HDel(ctx, blocksKey, lapsed...).Err(); err != nil {
			return list, fmt.Errorf("take out lapsed blocks: %w", err)
		}
	}
	return list, nil
}
