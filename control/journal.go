package control

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"parley/agent"
)

const (
	journalBound = 4096             // entries; a busy call makes about 60 a minute
	journalTry   = 5 * time.Second  // one write
	journalPause = 10 * time.Second // longest pause between tries
)

// A Journal keeps what one session leaves behind: a queue in order, bounded,
// written by its own goroutine. It implements [agent.Journal]; nothing of it
// waits for storage but Close.
type Journal struct {
	records RecordStore
	conv    Conversation
	log     *slog.Logger

	wake chan struct{} // one pending wake-up
	done chan struct{} // closed when Run has ended
	quit chan struct{} // closed to give up what is not written
	once sync.Once

	mu      sync.Mutex
	queue   []entry
	closed  bool
	dropped int
}

// An entry is one thing to write.
type entry struct {
	what   string
	commit bool // a later commit makes an earlier one dispensable
	write  func(context.Context) error
}

var _ agent.Journal = (*Journal)(nil)

func newJournal(records RecordStore, conv Conversation, log *slog.Logger) *Journal {
	return &Journal{
		records: records, conv: conv, log: log.With("call", conv.Call),
		wake: make(chan struct{}, 1), done: make(chan struct{}), quit: make(chan struct{}),
	}
}

// Turn implements [agent.Journal].
func (j *Journal) Turn(_ context.Context, t agent.Turn) {
	j.add("turn", false, func(ctx context.Context) error { return j.records.WriteTurn(ctx, j.conv.Call, t) })
}

// Commit implements [agent.Journal].
func (j *Journal) Commit(_ context.Context, m agent.Commit) {
	m.State = bytes.Clone(m.State)
	j.add("commit", true, func(ctx context.Context) error { return j.records.WriteCommit(ctx, j.conv, m) })
}

// add puts an entry at the end. Where storage has been away for so long that
// the queue is full, the oldest commit goes, since a later one holds all of its
// state; without any, the oldest entry.
func (j *Journal) add(what string, commit bool, write func(context.Context) error) {
	j.mu.Lock()
	if len(j.queue) >= journalBound {
		drop := 0
		for i, e := range j.queue {
			if e.commit {
				drop = i
				break
			}
		}
		j.queue = append(j.queue[:drop], j.queue[drop+1:]...)
		j.dropped++
	}
	j.queue = append(j.queue, entry{what, commit, write})
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Run writes until the journal is closed and empty, given up, or ctx ends.
// While storage is away it tries again, ever more slowly; what storage refuses
// for good is logged and left out.
func (j *Journal) Run(ctx context.Context) {
	defer close(j.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, j.abandon)()
	for {
		e, ok, closed := j.head()
		switch {
		case ok:
			if !j.write(ctx, e) {
				j.report()
				return
			}
		case closed:
			j.report()
			return
		default:
			select {
			case <-j.wake:
			case <-j.quit:
				return
			}
		}
	}
}

// head takes the oldest entry.
func (j *Journal) head() (e entry, ok, closed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.queue) == 0 {
		return e, false, j.closed
	}
	e = j.queue[0]
	j.queue[0] = entry{}
	j.queue = j.queue[1:]
	return e, true, j.closed
}

// write tries until e is written or refused; false if it was given up.
func (j *Journal) write(ctx context.Context, e entry) bool {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, journalPause) {
		try, cancel := context.WithTimeout(ctx, journalTry)
		err := e.write(try)
		cancel()
		if err == nil {
			return true
		}
		if !errors.Is(err, ErrUnavailable) {
			j.log.Error("a record of the call was refused", "record", e.what, "error", err)
			return true
		}
		j.log.Warn("a record of the call waits for storage", "record", e.what, "error", err)
		select {
		case <-time.After(pause):
		case <-j.quit:
			j.mu.Lock()
			j.dropped += 1 + len(j.queue)
			j.mu.Unlock()
			return false
		}
	}
}

func (j *Journal) report() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dropped > 0 {
		j.log.Error("records of the call were lost: storage was away for too long", "records", j.dropped)
	}
}

// Close says that nothing follows, and waits until all is written or ctx ends.
// It may be called again.
func (j *Journal) Close(ctx context.Context) error {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// abandon gives up what is not written.
func (j *Journal) abandon() { j.once.Do(func() { close(j.quit) }) }
