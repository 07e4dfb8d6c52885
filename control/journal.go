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
	journalBound = 4096            // entries; a busy call makes about 60 a minute
	journalTry   = 5 * time.Second // one write
	journalPause = 2 * time.Second // longest pause between tries
)

// A Journal keeps what one session leaves behind: a queue in order, bounded,
// written by its own goroutine. It implements [agent.Journal]; nothing of it
// waits for storage but Close.
//
// All queues together are bounded by the calls that were in progress when
// storage went away, since none begins without it.
type Journal struct {
	store func(context.Context, record) error
	first record // what all of its records have in common
	conv  Conversation
	taken func() // called once when another process has taken the call; may be nil
	log   *slog.Logger

	wake chan struct{} // one pending wake-up
	done chan struct{} // closed when Run has ended
	quit chan struct{} // closed to give up what is not written
	once sync.Once

	mu      sync.Mutex
	queue   []record
	closed  bool // nothing more is taken
	dropped int
}

var _ agent.Journal = (*Journal)(nil)

func newJournal(store func(context.Context, record) error, c Call, conv Conversation, log *slog.Logger) *Journal {
	return &Journal{
		store: store, first: record{Tenant: c.Tenant, Hold: c.Hold()}, conv: conv, log: log.With("call", c.ID),
		wake: make(chan struct{}, 1), done: make(chan struct{}), quit: make(chan struct{}),
	}
}

// Turn implements [agent.Journal].
func (j *Journal) Turn(_ context.Context, t agent.Turn) {
	j.add(record{Turn: &t, At: time.Now().UTC()})
}

// Commit implements [agent.Journal].
func (j *Journal) Commit(_ context.Context, m agent.Commit) {
	m.State = bytes.Clone(m.State)
	r, err := NewRevision(m)
	if err != nil {
		j.log.Error("a commit cannot be written", "revision", m.Revision, "error", err)
		return
	}
	j.add(record{Commit: &committed{j.conv, r}})
}

// add puts a record at the end. Where storage has been away for so long that
// the queue is full, the oldest commit goes, since a later one holds all of its
// state; without any, the oldest record.
func (j *Journal) add(r record) {
	r.Tenant, r.Hold = j.first.Tenant, j.first.Hold
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	if len(j.queue) >= journalBound {
		drop := 0
		for i, e := range j.queue {
			if e.Commit != nil {
				drop = i
				break
			}
		}
		j.queue = append(j.queue[:drop], j.queue[drop+1:]...)
		j.dropped++
	}
	j.queue = append(j.queue, r)
	j.signal()
}

func (j *Journal) signal() {
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
	defer j.report()
	for {
		r, ok, closed := j.take()
		switch {
		case ok:
			if !j.write(ctx, r) {
				return
			}
		case closed:
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

// take removes the oldest record.
func (j *Journal) take() (r record, ok, closed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.queue) == 0 {
		return r, false, j.closed
	}
	r = j.queue[0]
	j.queue[0] = record{}
	j.queue = j.queue[1:]
	return r, true, j.closed
}

// write tries until r is written or refused; false if it was given up, and is
// in the queue again.
func (j *Journal) write(ctx context.Context, r record) bool {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, journalPause) {
		try, cancel := context.WithTimeout(ctx, journalTry)
		err := j.store(try, r)
		cancel()
		switch {
		case err == nil:
			return true
		case errors.Is(err, ErrTaken):
			j.leave()
			return true
		case !errors.Is(err, ErrUnavailable) && ctx.Err() == nil:
			j.log.Error("a record of the call was refused", "record", r.what(), "error", err)
			return true
		}
		j.log.Warn("a record of the call waits for storage", "record", r.what(), "error", err)
		select {
		case <-time.After(pause):
		case <-j.quit:
			j.mu.Lock()
			j.queue = append([]record{r}, j.queue...)
			j.mu.Unlock()
			return false
		}
	}
}

// leave drops what is queued and what comes: the call goes on elsewhere.
func (j *Journal) leave() {
	j.mu.Lock()
	j.log.Warn("the call goes on in another process: its records here end", "records", 1+len(j.queue))
	j.queue, j.closed = nil, true
	j.mu.Unlock()
	if j.taken != nil {
		j.taken()
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
	j.signal()
	j.mu.Unlock()
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// abandon gives up what is not written; rest returns it once Run has ended.
func (j *Journal) abandon() { j.once.Do(func() { close(j.quit) }) }

func (j *Journal) rest() []record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.queue
}
