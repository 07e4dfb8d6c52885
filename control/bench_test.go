package control_test

import (
	"testing"

	"parley/agent/flow"
	"parley/control"
)

// One answer of a chat: claim, step, commit, on a real database.
func BenchmarkChatTurn(b *testing.B) {
	w := newTown(b, `{"defaults":{"limits":{"turns":10000}},"nodes":[{"id":"q","type":"question","content":{"question":"?","input_type":"number","variable":"n"}}]}`)
	s := w.process()
	r := w.start(s)
	for b.Loop() {
		if r.Status != flow.Active || r.Revision > 9000 {
			r = w.start(s)
		}
		if _, err := s.Interact(w.ctx, r.ID, control.Answer{Text: "nonsense", Mode: "text"}); err != nil {
			b.Fatal(err)
		}
		r.Revision++
	}
}

func BenchmarkChatStart(b *testing.B) {
	w := newTown(b, shop)
	s := w.process()
	for b.Loop() {
		w.start(s)
	}
}
