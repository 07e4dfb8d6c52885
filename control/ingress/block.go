package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Block keeps a network out until a time.
type Block struct {
	Network netip.Prefix
	Until   time.Time
	Reason  string // the rule or signal that made it, or an administrator's words
	By      string // "key:id", "user:id"; empty: the program
}

// Deny is the list that all processes share. It must not block for long.
type Deny interface {
	PutBlock(ctx context.Context, b Block) error
	// LiftBlock reports whether there was one.
	LiftBlock(ctx context.Context, network netip.Prefix) (bool, error)
	// Blocks returns at most maxBlocks that still hold.
	Blocks(ctx context.Context) ([]Block, error)
}

// MaxBlocks is how many networks are kept out at once.
const MaxBlocks = 10_000

// maxRanges is how many of them may be wider than one client's network: each
// request is held against every one.
const maxRanges = 100

// maxBlockFor is the longest block.
const maxBlockFor = 30 * 24 * time.Hour

// Errors of [Blocks.Add].
var (
	ErrExempt    = errors.New("ingress: a proxy of ours, this machine, or everybody cannot be blocked")
	ErrBlockTime = errors.New("ingress: a block lasts from a second to thirty days")
	ErrBlockFull = errors.New("ingress: as many are blocked as can be; lift some first")
)

// Blocks holds requests against the shared list. Its own copy is at most
// [BlocksEvery] old, and serves on while the list cannot be read. Fill the
// fields before the first use, and have Run run.
type Blocks struct {
	List   Deny
	Exempt func(netip.Addr) bool // such as our proxies; nil: nobody more than this machine
	Log    *slog.Logger

	changing sync.Mutex // one change of the copy at a time
	copied   atomic.Pointer[blockList]
}

// BlocksEvery is how often the shared list is read.
const BlocksEvery = 2 * time.Second

type blockList struct {
	exact  map[netip.Prefix]Block // by [Network]
	ranges []Block
}

func newBlockList(list []Block, now time.Time) *blockList {
	l := &blockList{exact: map[netip.Prefix]Block{}}
	for _, b := range list {
		switch {
		case !now.Before(b.Until):
		case Network(b.Network.Addr()) == b.Network:
			l.exact[b.Network] = b
		case len(l.ranges) < maxRanges:
			l.ranges = append(l.ranges, b)
		}
	}
	return l
}

// Blocked reports whether a client is kept out, and until when.
func (b *Blocks) Blocked(a netip.Addr) (Block, bool) {
	l := b.copied.Load()
	if l == nil || len(l.exact)+len(l.ranges) == 0 || !a.IsValid() {
		return Block{}, false
	}
	now := time.Now()
	if one, ok := l.exact[Network(a)]; ok && now.Before(one.Until) {
		return one, true
	}
	for _, one := range l.ranges {
		if one.Network.Contains(a.Unmap().WithZone("")) && now.Before(one.Until) {
			return one, true
		}
	}
	return Block{}, false
}

// Add keeps a network out, here at once and elsewhere within [BlocksEvery].
// It holds here even where the shared list cannot be written; the error says so.
func (b *Blocks) Add(ctx context.Context, one Block) error {
	one.Network = one.Network.Masked()
	a := one.Network.Addr()
	if !one.Network.IsValid() || a.IsLoopback() || a.IsUnspecified() || one.Network.Bits() < 8 || b.Exempt != nil && b.Exempt(a) {
		return ErrExempt
	}
	if left := time.Until(one.Until); left < time.Second/2 || left > maxBlockFor+time.Minute {
		return ErrBlockTime
	}
	if err := b.change(func(list []Block) ([]Block, error) {
		if len(list) >= MaxBlocks {
			return nil, ErrBlockFull
		}
		return append(list, one), nil
	}); err != nil {
		return err
	}
	if err := b.List.PutBlock(ctx, one); err != nil {
		return fmt.Errorf("block on other nodes: %w", err)
	}
	return nil
}

// Lift lets a network in again. It reports whether it was kept out.
func (b *Blocks) Lift(ctx context.Context, network netip.Prefix) (bool, error) {
	network = network.Masked()
	there, err := b.List.LiftBlock(ctx, network)
	if err != nil {
		return false, fmt.Errorf("lift a block: %w", err)
	}
	err = b.change(func(list []Block) ([]Block, error) {
		rest := list[:0]
		for _, one := range list {
			if one.Network == network {
				there = true
			} else {
				rest = append(rest, one)
			}
		}
		return rest, nil
	})
	return there, err
}

// All lists who is kept out.
func (b *Blocks) All() []Block {
	l, now := b.copied.Load(), time.Now()
	if l == nil {
		return nil
	}
	var list []Block
	for _, one := range l.exact {
		if now.Before(one.Until) {
			list = append(list, one)
		}
	}
	for _, one := range l.ranges {
		if now.Before(one.Until) {
			list = append(list, one)
		}
	}
	return list
}

func (b *Blocks) change(f func([]Block) ([]Block, error)) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	list, err := f(b.All())
	if err == nil {
		b.copied.Store(newBlockList(list, time.Now()))
	}
	return err
}

// Run reads the shared list until ctx ends.
func (b *Blocks) Run(ctx context.Context) error {
	tick := time.NewTicker(BlocksEvery)
	defer tick.Stop()
	failing := false
	for {
		err := b.read(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			b.Log.Warn("the list of blocked networks cannot be read; the last one holds", "err", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// read takes the shared list over.
func (b *Blocks) read(ctx context.Context) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	list, err := b.List.Blocks(ctx)
	if err == nil {
		b.copied.Store(newBlockList(list, time.Now()))
	}
	return err
}
