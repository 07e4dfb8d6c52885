package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"parley/control/outbound"
)

var _ outbound.Limits = (*Client)(nil)

// The keys of a tenant's slots, in the order in which scripts get them. epoch
// names the time since which nothing was forgotten, and lapses with the leases:
// without it nothing is granted. token is set by who is about to read what is
// open, while there is no epoch. slots and number hold when leases lapse, done
// what was released lately, cost what all of these cost.
func slotKeys(tenant uuid.UUID, number string) []string {
	head := "dial:{" + tenant.String() + "}:"
	return []string{head + "epoch", head + "token", head + "slots", head + "done", head + "cost", head + "rate", head + "number:" + number}
}

// slotHead takes out what has lapsed.
const slotHead = `
	redis.replicate_commands()
	local t = redis.call('TIME')
	local now = t[1] * 1000 + math.floor(t[2] / 1000)
	for _, key in ipairs({KEYS[3], KEYS[4]}) do
		for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now)) do
			redis.call('ZREM', key, id)
			redis.call('HDEL', KEYS[5], id)
		end
	end
	redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', now)
	local function keep()
		for i = 3, 7 do redis.call('PEXPIRE', KEYS[i], 180000) end
	end
`

// acquire takes a slot. ARGV: attempt, lease, cost, bounds of the tenant, of the
// number, a minute, of the day's spend, and what is spent.
var acquire = redis.NewScript(slotHead + `
	local epoch = redis.call('GET', KEYS[1])
	if not epoch then return {'unsynced', 0, ''} end
	if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[4]) then return {'concurrency', 1000, ''} end
	if redis.call('ZCARD', KEYS[7]) >= tonumber(ARGV[5]) then return {'number_concurrency', 1000, ''} end
	local most = tonumber(ARGV[7])
	if most > 0 then
		local sum = tonumber(ARGV[8]) + tonumber(ARGV[3])
		for _, cost in ipairs(redis.call('HVALS', KEYS[5])) do sum = sum + tonumber(cost) end
		if sum > most then return {'daily_spend', 10000, ''} end
	end
	local each = tonumber(ARGV[6])
	if each <= 0 then return {'rate', 10000, ''} end
	local gap, room = 60000 / each, math.max(1000, 60000 / each)
	local full = math.max(tonumber(redis.call('GET', KEYS[6]) or '0'), now)
	if full + gap - now - room > 0.5 then return {'rate', math.ceil(full + gap - now - room), ''} end
	redis.call('SET', KEYS[6], string.format('%.3f', full + gap))
	redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])
	redis.call('ZADD', KEYS[7], now + ARGV[2], ARGV[1])
	redis.call('HSET', KEYS[5], ARGV[1], ARGV[3])
	keep()
	return {'', 0, epoch}`)

// confirm renews a slot of an epoch. ARGV: attempt, lease, epoch.
var confirm = redis.NewScript(slotHead + `
	if redis.call('GET', KEYS[1]) ~= ARGV[3] or not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
	redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])
	redis.call('ZADD', KEYS[7], now + ARGV[2], ARGV[1])
	keep()
	return 1`)

// release gives a slot back. ARGV: attempt, for how long it is remembered, cost.
var release = redis.NewScript(slotHead + `
	redis.call('ZREM', KEYS[3], ARGV[1])
	redis.call('ZREM', KEYS[7], ARGV[1])
	redis.call('ZADD', KEYS[4], now + ARGV[2], ARGV[1])
	redis.call('HSET', KEYS[5], ARGV[1], ARGV[3])
	keep()
	return 1`)

// tokened returns a token for who is about to read what is open: that of another
// who began after all was forgotten is as good. ARGV: a fresh token, its life.
var tokened = redis.NewScript(`
	if redis.call('GET', KEYS[1]) then return '' end
	redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2], 'NX')
	return redis.call('GET', KEYS[2])`)

// syncs renews what is open, and begins an epoch where there is none, by the
// token of who read it since. ARGV: token, lease, then attempt, cost and the
// index of its number's key, of each. A rate that was forgotten begins used up.
var syncs = redis.NewScript(slotHead + `
	local epoch = redis.call('GET', KEYS[1])
	if not epoch then
		local token = redis.call('GET', KEYS[2])
		if not token or token ~= ARGV[1] then return 0 end
		epoch = token
		redis.call('DEL', KEYS[2])
		redis.call('SET', KEYS[6], string.format('%.3f', math.max(tonumber(redis.call('GET', KEYS[6]) or '0'), now + 1000)))
	end
	for i = 3, #ARGV, 3 do
		if not redis.call('ZSCORE', KEYS[4], ARGV[i]) then
			local number = KEYS[tonumber(ARGV[i + 2])]
			redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[i])
			redis.call('ZADD', number, now + ARGV[2], ARGV[i])
			redis.call('PEXPIRE', number, 180000)
			redis.call('HSET', KEYS[5], ARGV[i], ARGV[i + 1])
		end
	end
	redis.call('SET', KEYS[1], epoch, 'PX', ARGV[2])
	keep()
	return 1`)

// Acquire implements [outbound.Limits]. While Redis is away it fails at once.
func (c *Client) Acquire(ctx context.Context, s outbound.Slot, b outbound.Bounds) (outbound.Grant, error) {
	got, err := slotScript(ctx, c, acquire, slotKeys(s.Tenant, s.Number), s.Attempt.String(), outbound.Lease.Milliseconds(), int64(s.Cost),
		b.Concurrency, b.OfNumber, b.PerMinute, int64(b.DailySpend), int64(b.Spent))
	if err != nil {
		return outbound.Grant{}, fmt.Errorf("acquire a slot: %w", err)
	}
	answer, ok := got.([]any)
	if !ok || len(answer) != 3 {
		return outbound.Grant{}, errScript
	}
	why, _ := answer[0].(string)
	wait, _ := answer[1].(int64)
	epoch, _ := answer[2].(string)
	return outbound.Grant{Refused: why, Wait: time.Duration(wait) * time.Millisecond, Epoch: epoch}, nil
}

// Confirm implements [outbound.Limits].
func (c *Client) Confirm(ctx context.Context, s outbound.Slot, g outbound.Grant) (bool, error) {
	got, err := slotScript(ctx, c, confirm, slotKeys(s.Tenant, s.Number), s.Attempt.String(), outbound.Lease.Milliseconds(), g.Epoch)
	if err != nil {
		return false, fmt.Errorf("confirm a slot: %w", err)
	}
	return got == int64(1), nil
}

// Release implements [outbound.Limits].
func (c *Client) Release(ctx context.Context, s outbound.Slot, cost outbound.Money) error {
	_, err := slotScript(ctx, c, release, slotKeys(s.Tenant, s.Number), s.Attempt.String(), outbound.Remember.Milliseconds(), int64(cost))
	if err != nil {
		return fmt.Errorf("release a slot: %w", err)
	}
	return nil
}

// syncLife is how long what is open may take to be read.
const syncLife = 10 * time.Second

// Sync implements [outbound.Limits].
func (c *Client) Sync(ctx context.Context, tenant uuid.UUID, open func(context.Context) ([]outbound.Slot, error)) error {
	keys := slotKeys(tenant, "")
	token, err := slotScript(ctx, c, tokened, keys[:2], uuid.NewString(), syncLife.Milliseconds())
	if err != nil {
		return fmt.Errorf("sync slots: %w", err)
	}
	slots, err := open(ctx)
	if err != nil {
		return err
	}
	args := []any{token, outbound.Lease.Milliseconds()}
	at := map[string]int{} // of a number's key
	for _, s := range slots {
		if at[s.Number] == 0 {
			keys = append(keys, slotKeys(tenant, s.Number)[6])
			at[s.Number] = len(keys)
		}
		args = append(args, s.Attempt.String(), strconv.FormatInt(int64(s.Cost), 10), at[s.Number])
	}
	done, err := slotScript(ctx, c, syncs, keys, args...)
	if err != nil {
		return fmt.Errorf("sync slots: %w", err)
	}
	if done != int64(1) {
		return fmt.Errorf("sync slots: %w", errForgot)
	}
	return nil
}

// errForgot says that slots were forgotten while they were put back.
var errForgot = errors.New("redis: was emptied meanwhile")

// slotScript runs a script with the client's patience. What is asked seldom, and
// must not be guessed, is asked even if Redis was away a moment ago.
func slotScript(ctx context.Context, c *Client, script *redis.Script, keys []string, args ...any) (any, error) {
	try, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	return script.Run(try, c.rdb, keys, args...).Result()
}
