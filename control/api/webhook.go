package api

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

type webhookJSON struct {
	ID             uuid.UUID         `json:"id"`
	Name           string            `json:"name"`
	URL            string            `json:"url"`
	Events         []string          `json:"events" doc:"Types that it gets; empty: all."`
	FlowIDs        []uuid.UUID       `json:"flow_ids" doc:"Flows whose events it gets; empty: all."`
	Headers        map[string]string `json:"headers" doc:"A value that names no secret is not shown."`
	TimeoutSeconds float64           `json:"timeout_seconds"`
	MaxAttempts    int               `json:"max_attempts"`
	Enabled        bool              `json:"enabled"`
	DisabledReason string            `json:"disabled_reason,omitempty" doc:"failing: it failed for so long that it was disabled."`
	Failures       int               `json:"failures" doc:"Attempts in a row."`
	FailingSince   *time.Time        `json:"failing_since"`
	OldSecretUntil *time.Time        `json:"old_secret_until,omitempty" doc:"The secret before signs too until then."`
	Revision       int               `json:"revision"`
	CreatedAt      time.Time         `json:"created_at"`
	UpdatedAt      time.Time         `json:"updated_at"`
	Secret         string            `json:"secret,omitempty" doc:"What it signs with, shown this once."`
}

func (s *Server) webhookJSON(ctx context.Context, w control.Webhook) (webhookJSON, error) {
	headers, err := s.o.Webhooks.Headers(ctx, w)
	out := webhookJSON{ID: w.ID, Name: w.Name, URL: w.URL, Events: w.Types, FlowIDs: w.Flows, Headers: headers,
		TimeoutSeconds: w.Timeout.Seconds(), MaxAttempts: w.MaxAttempts, Enabled: w.Enabled, DisabledReason: w.DisabledReason,
		Failures: w.Failures, FailingSince: when(w.FailingSince), Revision: w.Revision, CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt}
	if w.OldUntil.After(time.Now()) {
		out.OldSecretUntil = when(w.OldUntil)
	}
	return out, err
}

type webhookOut struct {
	ETag string `header:"ETag"`
	Body webhookJSON
}

func (s *Server) webhookOut(ctx context.Context, w control.Webhook, secret string) (*webhookOut, error) {
	body, err := s.webhookJSON(ctx, w)
	body.Secret = secret
	return &webhookOut{etag(w.Revision), body}, err
}

type deliveryJSON struct {
	ID             uuid.UUID  `json:"id" doc:"As in the header Parley-Delivery; the same in every attempt."`
	EventID        string     `json:"event_id"`
	EventType      string     `json:"event_type"`
	Status         string     `json:"status" enum:"pending,delivered,dead"`
	Attempts       int        `json:"attempts"`
	DueAt          *time.Time `json:"due_at,omitempty" doc:"Of the next attempt."`
	ResponseStatus int        `json:"response_status,omitempty"`
	Error          string     `json:"error,omitempty" doc:"Of the last attempt."`
	DurationMS     int64      `json:"duration_ms,omitempty"`
	CreatedAt      time.Time  `json:"created_at"`
	FinishedAt     *time.Time `json:"finished_at,omitempty"`
	Event          any        `json:"event" doc:"As it is sent; its schema is at /v1/events/schema."`
}

func newDeliveryJSON(d control.Delivery) deliveryJSON {
	out := deliveryJSON{ID: d.ID, EventID: strconv.FormatInt(d.Event.ID, 10), EventType: d.Event.Type, Status: d.Status, Attempts: d.Attempts,
		ResponseStatus: d.Response, Error: d.Error, DurationMS: d.Duration.Milliseconds(), CreatedAt: d.CreatedAt,
		FinishedAt: when(d.FinishedAt), Event: d.Event}
	if d.Status == control.DeliveryPending {
		out.DueAt = &d.DueAt
	}
	return out
}

// WebhookPath names a webhook in a route; exported for huma, which fills it.
type WebhookPath struct {
	ID uuid.UUID `path:"id"`
}

// WebhookFields are what may be said of a webhook; exported for huma.
type WebhookFields struct {
	Name           *string           `json:"name,omitempty"`
	URL            *string           `json:"url,omitempty" doc:"A public address; a private one only if the operator allows it."`
	Events         []string          `json:"events,omitempty"`
	FlowIDs        []uuid.UUID       `json:"flow_ids,omitempty"`
	Headers        map[string]string `json:"headers,omitempty" doc:"Sent along. {secret:name} stands for a secret that is bound to the host; [hidden] keeps the value that is there."`
	TimeoutSeconds *float64          `json:"timeout_seconds,omitempty" minimum:"1" maximum:"30"`
	MaxAttempts    *int              `json:"max_attempts,omitempty" minimum:"1" maximum:"20"`
	Enabled        *bool             `json:"enabled,omitempty"`
}

// apply writes what is said into w.
func (f WebhookFields) apply(w *control.Webhook) {
	set(&w.Name, f.Name)
	set(&w.URL, f.URL)
	set(&w.MaxAttempts, f.MaxAttempts)
	set(&w.Enabled, f.Enabled)
	if f.TimeoutSeconds != nil {
		w.Timeout = time.Duration(*f.TimeoutSeconds * float64(time.Second))
	}
	if f.Events != nil {
		w.Types = f.Events
	}
	if f.FlowIDs != nil {
		w.Flows = f.FlowIDs
	}
}

func set[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

func (s *Server) webhooks() error {
	read, write := control.WebhooksRead, control.WebhooksWrite
	return errors.Join(
		operation(s, reads("/v1/webhooks", read), "list-webhooks", "List webhooks", 200, s.listWebhooks),
		operation(s, reads("/v1/webhooks/{id}", read), "get-webhook", "Get a webhook", 200, s.getWebhook),
		operation(s, writes("POST", "/v1/webhooks", write, 64<<10), "create-webhook", "Have events sent to an address", 201, s.createWebhook),
		operation(s, writes("PATCH", "/v1/webhooks/{id}", write, 64<<10), "change-webhook", "Change a webhook; enabling it forgives its failures", 200, s.changeWebhook),
		operation(s, writes("DELETE", "/v1/webhooks/{id}", write, NoBody), "delete-webhook", "Delete a webhook with its deliveries", 204, s.deleteWebhook),
		operation(s, writes("POST", "/v1/webhooks/{id}/rotate", write, 4<<10), "rotate-webhook-secret", "Replace the secret; the old one signs too for a while", 200, s.rotateWebhook),
		operation(s, writes("POST", "/v1/webhooks/{id}/test", write, NoBody), "test-webhook", "Send an event of type test, once, and tell what came of it", 200, s.testWebhook),
		operation(s, reads("/v1/webhooks/{id}/deliveries", read), "list-deliveries", "List deliveries, newest first", 200, s.listDeliveries),
		operation(s, writes("POST", "/v1/webhooks/{id}/replay", write, 4<<10), "replay-deliveries", "Send one delivery again, or all that are dead", 202, s.replayDeliveries),
	)
}

func (s *Server) listWebhooks(ctx context.Context, in *PageQuery) (*listOut[webhookJSON], error) {
	rows, err := s.o.Webhooks.Store.Webhooks(ctx, in.page())
	if err != nil {
		return nil, err
	}
	var failed error
	out := newList(*in, rows, func(w control.Webhook) webhookJSON {
		v, err := s.webhookJSON(ctx, w)
		failed = errors.Join(failed, err)
		return v
	}, func(w control.Webhook) uuid.UUID { return w.ID })
	return out, failed
}

func (s *Server) getWebhook(ctx context.Context, in *WebhookPath) (*webhookOut, error) {
	w, err := s.o.Webhooks.Store.Webhook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.webhookOut(ctx, w, "")
}

func (s *Server) createWebhook(ctx context.Context, in *struct{ Body WebhookFields }) (*webhookOut, error) {
	w := control.Webhook{Timeout: control.DefaultWebhookTimeout, MaxAttempts: control.DefaultWebhookAttempts, Enabled: true}
	in.Body.apply(&w)
	w, secret, err := s.o.Webhooks.Create(ctx, w, in.Body.Headers)
	if err != nil {
		return nil, err
	}
	return s.webhookOut(ctx, w, secret)
}

func (s *Server) changeWebhook(ctx context.Context, in *struct {
	WebhookPath
	Match
	Body WebhookFields
}) (*webhookOut, error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	w, err := s.o.Webhooks.Store.Webhook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		revision = w.Revision // what is not changed here is not lost
	}
	in.Body.apply(&w)
	if w, err = s.o.Webhooks.Update(ctx, w, in.Body.Headers, revision); err != nil {
		return nil, in.matched(err)
	}
	return s.webhookOut(ctx, w, "")
}

func (s *Server) deleteWebhook(ctx context.Context, in *struct {
	WebhookPath
	Match
}) (*struct{}, error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	return nil, in.matched(s.o.Webhooks.Store.DeleteWebhook(ctx, in.ID, revision))
}

func (s *Server) rotateWebhook(ctx context.Context, in *struct {
	WebhookPath
	Match
	Body *struct {
		OverlapSeconds *int `json:"overlap_seconds,omitempty" minimum:"0" maximum:"604800" doc:"How long the old secret signs too; a day by default."`
	}
}) (*webhookOut, error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	overlap := control.DefaultOverlap
	if in.Body != nil && in.Body.OverlapSeconds != nil {
		overlap = time.Duration(*in.Body.OverlapSeconds) * time.Second
	}
	w, secret, err := s.o.Webhooks.Rotate(ctx, in.ID, overlap, revision)
	if err != nil {
		return nil, in.matched(err)
	}
	return s.webhookOut(ctx, w, secret)
}

type attemptJSON struct {
	Delivered      bool   `json:"delivered"`
	ResponseStatus int    `json:"response_status,omitempty"`
	Error          string `json:"error,omitempty"`
	DurationMS     int64  `json:"duration_ms"`
}

func (s *Server) testWebhook(ctx context.Context, in *WebhookPath) (*reply[attemptJSON], error) {
	a, err := s.o.Deliveries.Test(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &reply[attemptJSON]{attemptJSON{a.Error == "", a.Response, a.Error, a.Duration.Milliseconds()}}, nil
}

func (s *Server) listDeliveries(ctx context.Context, in *struct {
	WebhookPath
	PageQuery
	Status string `query:"status" enum:"pending,delivered,dead"`
}) (*listOut[deliveryJSON], error) {
	if _, err := s.o.Webhooks.Store.Webhook(ctx, in.ID); err != nil {
		return nil, err
	}
	rows, err := s.o.Deliveries.Store.Deliveries(ctx, in.ID, in.Status, in.page())
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, rows, newDeliveryJSON, func(d control.Delivery) uuid.UUID { return d.ID }), nil
}

type replayedJSON struct {
	Replayed int `json:"replayed"`
}

func (s *Server) replayDeliveries(ctx context.Context, in *struct {
	WebhookPath
	Body *struct {
		DeliveryID uuid.UUID `json:"delivery_id,omitempty" doc:"That one, dead or delivered; all dead ones by default."`
	}
}) (*reply[replayedJSON], error) {
	var id uuid.UUID
	if in.Body != nil {
		id = in.Body.DeliveryID
	}
	n, err := s.o.Deliveries.Replay(ctx, in.ID, id)
	if err != nil {
		return nil, err
	}
	return &reply[replayedJSON]{replayedJSON{n}}, nil
}
