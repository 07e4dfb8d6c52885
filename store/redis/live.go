package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// liveKey holds the live calls of all nodes: member is the call's id, score
// when it lapses, in Unix milliseconds.
const liveKey = "live-calls"

// SetLive notes that calls are live for as long as life from now.
func (c *Client) SetLive(ctx context.Context, life time.Duration, calls ...uuid.UUID) error {
	if len(calls) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	z := make([]redis.Z, len(calls))
	for i, id := range calls {
		z[i] = redis.Z{Score: float64(time.Now().Add(life).UnixMilli()), Member: id.String()}
	}
	if err := c.rdb.ZAdd(ctx, liveKey, z...).Err(); err != nil {
		return fmt.Errorf("note live calls: %w", err)
	}
	return nil
}

// Alive reports whether a call is noted as live.
func (c *Client) Alive(ctx context.Context, call uuid.UUID) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	until, err := c.rdb.ZScore(ctx, liveKey, call.String()).Result()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a live call: %w", err)
	}
	return until >= float64(time.Now().UnixMilli()), nil
}

// Ended takes a call out.
func (c *Client) Ended(ctx context.Context, call uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	if err := c.rdb.ZRem(ctx, liveKey, call.String()).Err(); err != nil {
		return fmt.Errorf("note an ended call: %w", err)
	}
	return nil
}

// Live counts the calls of all nodes, lapsed ones left out.
func (c *Client) Live(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	pipe := c.rdb.TxPipeline()
	pipe.ZRemRangeByScore(ctx, liveKey, "-inf", fmt.Sprintf("(%d", time.Now().UnixMilli()))
	n := pipe.ZCard(ctx, liveKey)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, fmt.Errorf("count live calls: %w", err)
	}
	return int(n.Val()), nil
}
