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

// records is a RecordStore that can be away.
type records struct {
	mu      sync.Mutex
	away    bool
	refuse  string
	written []string
	tries   int
}

func (r *records) write(what string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	switch {
	case r.away:
		return fmt.Errorf("write: %w", ErrUnavailable)
	case what == r.refuse:
		return fmt.Errorf("a constraint")
	}
	r.written = append(r.written, what)
	return nil
}

func (r *records) setAway(v bool) {
	r.mu.Lock()
	r.away = v
	r.mu.Unlock()
}

func (r *records) WriteTurn(_ context.Context, _ uuid.UUID, t agent.Turn) error {
	return r.write(fmt.Sprint("turn ", t.Index))
}

func (r *records) WriteCommit(_ context.Context, _ Conversation, m agent.Commit) error {
	return r.write(fmt.Sprint("commit ", m.Revision))
}

func (r *records) Turns(context.Context, uuid.UUID, int, int) ([]agent.Turn, error) { return nil, nil }

func (r *records) Conversation(context.Context, uuid.UUID) (Conversation, error) {
	return Conversation{}, ErrNotFound
}

func (r *records) NextTurn(context.Context, uuid.UUID) (int, error) { return 0, nil }

func startJournal(r *records) *Journal {
	j := newJournal(r, Conversation{ID: uuid.New()}, slog.New(slog.DiscardHandler))
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
		if r.tries > 30 {
			t.Errorf("%d tries in a minute without storage", r.tries)
		}
	})
}

func TestJournalIsBounded(t *testing.T) {
	r := &records{}
	j := newJournal(r, Conversation{}, slog.New(slog.DiscardHandler))
	j.Commit(t.Context(), agent.Commit{Revision: 1})
	for i := range journalBound {
		j.Turn(t.Context(), agent.Turn{Index: i})
	}
	if len(j.queue) != journalBound || j.queue[0].what != "turn" || j.dropped != 1 {
		t.Errorf("%d entries, first %s, %d dropped: want %d, turn, 1", len(j.queue), j.queue[0].what, j.dropped, journalBound)
	}
}

func TestJournalGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := startJournal(&records{away: true})
		j.Turn(t.Context(), agent.Turn{})
		time.Sleep(time.Second)
		j.abandon()
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if j.dropped != 1 {
			t.Errorf("%d dropped, want 1", j.dropped)
		}
	})
}
