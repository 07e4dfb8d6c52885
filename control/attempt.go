package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/control/signature"
)

// Test sends an event of type "test" to a webhook, enabled or not, and tells
// what came of it. It is tried once and is no delivery.
func (s *Deliveries) Test(ctx context.Context, webhook uuid.UUID) (Attempt, error) {
	w, err := s.Webhooks.Store.Webhook(ctx, webhook)
	if err != nil {
		return Attempt{}, err
	}
	data, err := json.Marshal(map[string]any{"webhook_id": w.ID})
	if err != nil {
		return Attempt{}, err
	}
	return s.send(ctx, w, Event{Session: w.ID, Type: "test", Data: data, At: time.Now()}, NewID())
}

// send makes one attempt. Its error is ours; the receiver's is the attempt's.
func (s *Deliveries) send(ctx context.Context, w Webhook, e Event, delivery uuid.UUID) (Attempt, error) {
	r, fault, err := s.request(ctx, w, e, delivery)
	if fault != "" || err != nil {
		return Attempt{Error: fault}, err
	}
	began := time.Now()
	res, err := s.HTTP.Send(ctx, r)
	a := Attempt{Response: res.Status, Duration: time.Since(began)}
	switch {
	case err != nil && ctx.Err() != nil:
		return a, ctx.Err()
	case err != nil:
		a.Error = sendFault(err)
	case res.Status >= 300 && res.Status < 400:
		a.Error = fmt.Sprintf("HTTP %d: redirects are not followed", res.Status)
	case res.Status < 200 || res.Status >= 300:
		a.Error = fmt.Sprintf("HTTP %d", res.Status)
		a.again = retryAfter(res.Header.Get("Retry-After"), time.Now())
	}
	return a, nil
}

// sendFault says why there was no answer, in words that tell nothing of our
// network.
func sendFault(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, effect.ErrRefused):
		return strings.TrimPrefix(err.Error(), "effect: ")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	}
	return "no answer"
}

// request builds what is sent. Secrets come in here and nowhere else; fault
// says what is wrong with the webhook's own settings.
func (s *Deliveries) request(ctx context.Context, w Webhook, e Event, delivery uuid.UUID) (r effect.Request, fault string, err error) {
	to, err := url.Parse(w.URL)
	if err != nil {
		return r, "the address is malformed", nil
	}
	body, err := json.Marshal(e)
	if err != nil {
		return r, "", err
	}
	now := time.Now()
	secrets, err := s.Webhooks.secrets(ctx, w, now)
	if err != nil {
		return r, "", err
	}
	headers, err := s.Webhooks.headers(ctx, w)
	if err != nil {
		return r, "", err
	}
	r = effect.Request{Method: http.MethodPost, URL: to, Body: body, Timeout: w.Timeout, Header: http.Header{}}
	for _, name := range sortedHeaders(headers) {
		value, ok, err := s.fill(ctx, headers[name], to)
		switch {
		case err != nil:
			return r, "", err
		case !ok:
			return r, "the secret of header " + name + " does not exist, or is not for this host", nil
		}
		r.Header.Set(name, value)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "parley")
	r.Header.Set("Parley-Event", e.Type)
	r.Header.Set("Parley-Event-Id", strconv.FormatInt(e.ID, 10))
	r.Header.Set("Parley-Delivery", delivery.String())
	r.Header.Set(signature.Header, signature.Sign(now, body, secrets...))
	return r, "", nil
}

// fill puts secrets into a header's value; false if one is not to be had.
func (s *Deliveries) fill(ctx context.Context, value string, to *url.URL) (string, bool, error) {
	var fault error
	value = headerSecret.ReplaceAllStringFunc(value, func(ref string) string {
		key := headerSecret.FindStringSubmatch(ref)[1]
		secret, err := effect.Secret(""), effect.ErrNoSecret
		if s.Secrets != nil {
			secret, err = s.Secrets.Secret(ctx, key, to)
		}
		fault = cmp.Or(fault, err)
		return strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(string(secret))
	})
	if errors.Is(fault, effect.ErrNoSecret) {
		return "", false, nil
	}
	return value, fault == nil, fault
}

// pause is how long to wait after the attempt of that number, counted from 1:
// twice as long each time, of which jitter takes up to half, so that receivers
// who come back are not met by all at once; no less than the receiver asked for.
func (s *Deliveries) pause(attempt int, asked time.Duration) time.Duration {
	d := cmp.Or(s.First, deliveryFirst)
	for range min(attempt-1, 20) {
		d = min(2*d, deliveryMost)
	}
	d -= rand.N(d/2 + 1)
	return max(d, min(asked, deliveryAsked))
}

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds,
// or a date. What it cannot read is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
		return time.Duration(min(max(n, 0), int(deliveryAsked/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}
