package redis

import (
	"context"
	"fmt"
	"strings"

	"parley/control"
)

var _ control.SharedMemory = (*Client)(nil)

// forgetStep is how many keys Redis looks at before others have their turn.
const forgetStep = 500

// Forget implements [control.SharedMemory]. What servers have answered to flows
// is kept under digests, so that nobody can tell of whom it is: all of it goes,
// and is asked for again.
func (c *Client) Forget(ctx context.Context, word string) (dropped int, err error) {
	for cursor := uint64(0); ; {
		keys, next, err := c.rdb.Scan(ctx, cursor, "*", forgetStep).Result()
		if err != nil {
			return dropped, fmt.Errorf("forget: %w", err)
		}
		var gone []string
		for _, key := range keys {
			if strings.HasPrefix(key, "cell:answer:") || word != "" && strings.Contains(key, word) {
				gone = append(gone, key)
			}
		}
		if len(gone) > 0 {
			n, err := c.rdb.Del(ctx, gone...).Result()
			if err != nil {
				return dropped, fmt.Errorf("forget: %w", err)
			}
			dropped += int(n)
		}
		if cursor = next; cursor == 0 {
			return dropped, nil
		}
	}
}
