package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/control"
)

var _ control.Announcer = (*Client)(nil)

// announceBeat is how long a subscription may be silent before Redis is asked
// whether it stands; as long again for the answer.
const announceBeat = time.Second

// Announce implements [control.Announcer] by publishing.
func (c *Client) Announce(ctx context.Context, topic, text string) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	if err := c.rdb.Publish(ctx, "announce:"+topic, text).Err(); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}

// Listen implements [control.Announcer]. It comes back by itself when Redis
// does, and returns nil when ctx ends.
func (c *Client) Listen(ctx context.Context, topic string, heard func(string), hears func(bool)) error {
	for ctx.Err() == nil {
		c.listen(ctx, "announce:"+topic, heard, hears)
		hears(false)
		pause := time.NewTimer(patience)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
	return nil
}

// listen hears until the connection is lost, or silent for too long.
func (c *Client) listen(ctx context.Context, channel string, heard func(string), hears func(bool)) {
	sub := c.rdb.Subscribe(ctx, channel)
	defer sub.Close()
	asked := false
	for {
		msg, err := sub.ReceiveTimeout(ctx, announceBeat)
		var network net.Error
		switch {
		case err == nil:
			asked = false
		case errors.As(err, &network) && network.Timeout() && !asked && ctx.Err() == nil:
			if sub.Ping(ctx) != nil {
				return
			}
			asked = true
			continue
		default:
			return
		}
		switch m := msg.(type) {
		case *redis.Subscription:
			hears(true)
		case *redis.Message:
			heard(m.Payload)
		}
	}
}
