package control

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"parley/agent"
)

// records is a storage of records that can be away.
type records struct {
	mu      sync.Mutex
	away    bool
	taken   bool // by another process
	refuse  string
	written []string
	turned  []time.Time // of each turn written
	tries   int
}

func (r *records) store(_ context.Context, e record) error {
	what := e.what()
	switch {
	case e.Turn != nil:
		what = fmt.Sprint("turn ", e.Turn.Index)
	case e.Commit != nil:
		what = fmt.Sprint("commit ", e.Commit.Revision.Revision)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	switch {
	case r.away:
		return fmt.Errorf("write: %w", ErrUnavailable)
	case r.taken:
		return fmt.Errorf("write: %w", ErrTaken)
	case what == r.refuse:
		return fmt.Errorf("a constraint")
	}
	r.written = append(r.written, what)
	if e.Turn != nil {
		r.turned = append(r.turned, e.At)
	}
	return nil
}

func (r *records) setAway(v bool) {
	r.mu.Lock()
	r.away = v
	r.mu.Unlock()
}

var quietLog = slog.New(slog.DiscardHandler)

func startJournal(r *records) *Journal {
	j := newJournal(r.store, Call{ID: uuid.New(), Generation: 1}, Conversation{}, quietLog)
	go j.Run(context.Background())
	return j
}

func TestJournalWritesInOrderAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &records{away: true, refuse: "turn 1"}
		j := startJournal(r)
		begin := time.Now()
		for i := range 3 {
			j.Turn(t.Context(), agent.Turn{Index: i})
			j.Commit(t.Context(), agent.Commit{Revision: i + 1})
		}
		if time.Since(begin) != 0 {
			t.Error("the conductor waited")
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := j.Close(short); err == nil {
			t.Error("Close says that all is written")
		}
		time.Sleep(time.Minute) // in the bubble's time
		r.setAway(false)
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{"turn 0", "commit 1", "commit 2", "turn 2", "commit 3"}
		if !slices.Equal(r.written, want) {
			t.Errorf("written %v, want %v", r.written, want)
		}
		for i, at := range r.turned {
			if !at.Equal(begin) {
				t.Errorf("turn %d is dated %v after its end: what it used would be priced then", i, at.Sub(begin))
			}
		}
		if r.tries > 45 {
			t.Errorf("%d tries in a minute without storage", r.tries)
		}
	})
}

func TestJournalIsBounded(t *testing.T) {
	r := &records{}
	j := newJournal(r.store, Call{}, Conversation{}, quietLog)
	j.Commit(t.Context(), agent.Commit{Revision: 1})
	for i := range journalBound {
		j.Turn(t.Context(), agent.Turn{Index: i})
	}
	if len(j.queue) != journalBound || j.queue[0].Turn == nil || j.dropped != 1 {
		t.Errorf("%d entries, first a %s, %d dropped: want %d, turn, 1", len(j.queue), j.queue[0].what(), j.dropped, journalBound)
	}
}

func TestJournalGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := startJournal(&records{away: true})
		j.Turn(t.Context(), agent.Turn{})
		j.Turn(t.Context(), agent.Turn{Index: 1})
		time.Sleep(time.Second) // in the bubble's time
		j.abandon()
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := j.rest(); len(left) != 2 || left[0].Turn.Index != 0 || left[1].Turn.Index != 1 {
			t.Errorf("left %+v, want both turns in order", left)
		}
	})
}

// The call went on in another process: nothing of this one's is written any
// more, and its session is told, once.
func TestJournalEndsWithItsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, told := &records{}, 0
		j := newJournal(r.store, Call{ID: uuid.New(), Generation: 1}, Conversation{}, quietLog)
		j.taken = func() { told++ }
		go j.Run(context.Background())
		j.Turn(t.Context(), agent.Turn{})
		synctest.Wait()
		r.mu.Lock()
		r.taken = true
		r.mu.Unlock()
		for i := range 3 {
			j.Turn(t.Context(), agent.Turn{Index: 1 + i})
		}
		synctest.Wait()
		j.Turn(t.Context(), agent.Turn{Index: 4})
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if told != 1 || r.tries != 2 || len(j.rest()) != 0 {
			t.Errorf("told %d times after %d tries, %d records left: want 1, 2, 0", told, r.tries, len(j.rest()))
		}
	})
}
