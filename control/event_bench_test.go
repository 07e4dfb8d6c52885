package control_test

import (
	"context"
	"testing"
	"time"

	"parley/agent/flow"
	"parley/control"
)

// An event's way from the commit to a queued delivery, without the commit.
func BenchmarkEvents(b *testing.B) {
	w := newTown(b, shop)
	s := w.script()
	for n := range b.N {
		if err := s.write([]string{"a", "b"}[n%2], flow.Active); err != nil {
			b.Fatal(err)
		}
	}
	hook, err := w.store.InsertWebhook(w.ctx, control.Webhook{ID: s.id, Name: "w", URL: "https://a.example", Headers: []byte{}, Secret: []byte{},
		Timeout: time.Second, MaxAttempts: 1, Enabled: true})
	must(b, err)
	read := func(ctx context.Context, events []control.Event) error {
		list := make([]control.Delivery, len(events))
		for i, e := range events {
			list[i] = control.Delivery{ID: e.Session, Webhook: hook.ID, Event: e}
			list[i].ID[15], list[i].ID[14], list[i].ID[13] = byte(e.Seq), byte(e.Seq>>8), byte(e.Seq>>16)
		}
		return w.store.InsertDeliveries(ctx, list)
	}
	b.ResetTimer()
	for done := 0; done < b.N; {
		n, err := w.store.PublishEvents(w.ctx, 200)
		must(b, err)
		_, err = w.store.ReadEvents(w.ctx, "webhooks", 200, read)
		must(b, err)
		done += n
	}
}
