package control_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
	"parley/control"
)

// stock is a ShelfStore that counts what it is asked.
type stock struct {
	asked int
	text  string
	none  bool
}

func (s *stock) Candidates(context.Context, string, []string) ([]control.Candidate, error) {
	s.asked++
	return []control.Candidate{{ID: uuid.MustParse(someContent), Locale: "en-US"}}, nil
}

func (s *stock) Published(_ context.Context, ids []uuid.UUID) ([]flow.Content, error) {
	s.asked++
	if s.none {
		return nil, nil
	}
	return []flow.Content{{ID: ids[0].String(), Content: s.text}}, nil
}

const someContent = "01990000-0000-7000-8000-000000000001"

// A change is seen within a second in every process, and at once in that which
// made it; until then one look is enough for all.
func TestShelfForgetsWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stock{text: "old"}
		here, there := &control.Shelf{Store: s}, &control.Shelf{Store: s}
		service := &control.Contents{Changes: noChanges{}, Shelf: here}
		ctx := control.WithTenant(t.Context(), uuid.New())
		look := func(shelf *control.Shelf) string {
			t.Helper()
			got, err := shelf.Contents(ctx, []string{someContent, "no id"})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 {
				return ""
			}
			return got[0].Content.(string)
		}
		for range 3 {
			look(here)
			look(there)
		}
		if s.asked != 2 {
			t.Errorf("asked %d times, want once a process", s.asked)
		}
		s.text = "new"
		if err := service.DeleteVariant(ctx, uuid.New(), uuid.New(), 0); err != nil { // some change
			t.Fatal(err)
		}
		if got := look(here); got != "new" {
			t.Errorf("where it was changed it is %q", got)
		}
		time.Sleep(time.Second)
		if got := look(there); got != "new" {
			t.Errorf("a second later it is %q elsewhere", got)
		}
		s.none = true
		time.Sleep(time.Second)
		for range 2 { // the second is kept
			if look(here) != "" {
				t.Error("what is gone is shown")
			}
		}
		asked := s.asked
		if look(here); s.asked != asked {
			t.Error("that it is gone is not kept")
		}
		other := control.WithTenant(t.Context(), uuid.New())
		if _, err := here.Contents(other, []string{someContent}); err != nil || s.asked != asked+1 {
			t.Error("a tenant gets what was kept for another")
		}
	})
}

// noChanges changes nothing.
type noChanges struct{ control.ContentChanges }

func (noChanges) DeleteVariant(context.Context, uuid.UUID, uuid.UUID, int) error { return nil }

func TestShelfKeepsCandidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stock{}
		shelf := &control.Shelf{Store: s}
		ctx := control.WithTenant(t.Context(), uuid.New())
		for _, w := range []flow.Want{{Type: "joke", Locale: "en"}, {Type: "joke", Locale: "en-GB"}, {Type: "joke"}} {
			if got, err := shelf.Candidates(ctx, w); err != nil || !slices.Equal(got, []string{someContent}) {
				t.Errorf("%+v: %v, %v", w, got, err)
			}
		}
		if got, _ := shelf.Candidates(ctx, flow.Want{Type: "joke", Locale: "de"}); len(got) != 0 {
			t.Errorf("German: %v", got)
		}
		if s.asked != 1 {
			t.Errorf("asked %d times, want 1", s.asked)
		}
		_, _ = shelf.Candidates(ctx, flow.Want{Type: "joke", Tags: []string{"x"}})
		if time.Sleep(time.Second); s.asked != 2 {
			t.Errorf("asked %d times, want 2", s.asked)
		}
	})
}
