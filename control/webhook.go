package control

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A Webhook has events sent to an address, as they happen.
type Webhook struct {
	ID    uuid.UUID
	Name  string
	URL   string      // http or https
	Types []string    // of events; empty: all
	Flows []uuid.UUID // whose events; empty: all
	// Timeout is the longest attempt; 1 to 30 s.
	Timeout time.Duration
	// MaxAttempts is how often a delivery is tried before it is dead; 1 to 20.
	MaxAttempts int

	Enabled   bool
	EnabledAt time.Time // what happened before is not for it
	// DisabledReason is "failing" where the program has disabled it, else empty.
	DisabledReason string
	Failures       int       // attempts in a row
	FailingSince   time.Time // the first of them; zero: none
	Revision       int       // counts changes from 1
	CreatedAt      time.Time
	UpdatedAt      time.Time

	// Sealed: they leave storage only to be used.
	Headers   []byte
	Secret    []byte
	OldSecret []byte    // signs too,
	OldUntil  time.Time // until then
}

// WebhookStore keeps webhooks. A revision of 0 matches any; another that is not
// the webhook's is ErrConflict.
type WebhookStore interface {
	Webhook(ctx context.Context, id uuid.UUID) (Webhook, error)
	Webhooks(ctx context.Context, p Page) ([]Webhook, error)
	EnabledWebhooks(ctx context.Context) ([]Webhook, error)
	InsertWebhook(ctx context.Context, w Webhook) (Webhook, error)
	UpdateWebhook(ctx context.Context, w Webhook, revision int) (Webhook, error)
	DeleteWebhook(ctx context.Context, id uuid.UUID, revision int) error
}

// Webhooks is the service of webhooks.
type Webhooks struct {
	Store WebhookStore
	Ring  *Keyring
}

// Bounds and defaults of webhooks.
const (
	DefaultWebhookTimeout  = 15 * time.Second
	DefaultWebhookAttempts = 8
	// DefaultOverlap is how long a replaced secret goes on signing.
	DefaultOverlap = 24 * time.Hour

	maxWebhooks       = 100 // of a tenant
	maxWebhookTimeout = 30 * time.Second
	maxAttempts       = 20
	maxOverlap        = 7 * 24 * time.Hour
	maxHeaders        = 20
	maxHeaderBytes    = 8 << 10
)

const webhookPurpose = "webhook"

// place of a webhook's sealed fields: none opens in another row or column.
func (w Webhook) place(ctx context.Context, field string) string {
	t, _ := TenantOf(ctx)
	return t.String() + "/" + w.ID.String() + "/" + field
}

// Create makes a webhook and returns the secret that it signs with, which is
// shown this once.
func (s *Webhooks) Create(ctx context.Context, w Webhook, headers map[string]string) (Webhook, string, error) {
	w.ID, w.Revision = NewID(), 1
	if err := checkWebhook(w); err != nil {
		return w, "", err
	}
	have, err := s.Store.Webhooks(ctx, Page{Limit: maxWebhooks})
	if err != nil {
		return w, "", err
	}
	if len(have) >= maxWebhooks {
		return w, "", Invalidf("name", "there are %d webhooks already; delete one first", maxWebhooks)
	}
	if err := s.setHeaders(ctx, &w, headers); err != nil {
		return w, "", err
	}
	secret := s.newSecret(ctx, &w)
	w, err = s.Store.InsertWebhook(ctx, w)
	if err != nil {
		return w, "", fmt.Errorf("create webhook: %w", err)
	}
	return w, secret, nil
}

// Update writes what the tenant may change of w. Nil headers stay as they are;
// else they are all replaced, but for one that is [HiddenHeader].
func (s *Webhooks) Update(ctx context.Context, w Webhook, headers map[string]string, revision int) (Webhook, error) {
	if err := checkWebhook(w); err != nil {
		return w, err
	}
	if headers != nil {
		if err := s.setHeaders(ctx, &w, headers); err != nil {
			return w, err
		}
	}
	if w.Enabled { // it may try again
		w.DisabledReason, w.Failures, w.FailingSince = "", 0, time.Time{}
	}
	return s.Store.UpdateWebhook(ctx, w, revision)
}

// Rotate replaces the secret and returns the new one. The old one signs beside
// it for the overlap, at most 7 days; 0 ends it at once. One that was replaced
// before ends now.
func (s *Webhooks) Rotate(ctx context.Context, id uuid.UUID, overlap time.Duration, revision int) (Webhook, string, error) {
	if overlap < 0 || overlap > maxOverlap {
		return Webhook{}, "", Invalidf("overlap_seconds", "must be 0 to %d", int(maxOverlap/time.Second))
	}
	w, err := s.Store.Webhook(ctx, id)
	if err != nil {
		return w, "", err
	}
	if revision == 0 {
		revision = w.Revision // a rival's secret is not lost unseen
	}
	old, err := s.open(ctx, w, "secret", w.Secret)
	if err != nil {
		return w, "", err
	}
	w.OldSecret, w.OldUntil = nil, time.Time{}
	if overlap > 0 {
		w.OldSecret = s.Ring.Seal(webhookPurpose, w.place(ctx, "old_secret"), old)
		w.OldUntil = time.Now().Add(overlap)
	}
	secret := s.newSecret(ctx, &w)
	w, err = s.Store.UpdateWebhook(ctx, w, revision)
	return w, secret, err
}

// newSecret gives w a fresh secret: "whsec_" and 32 random bytes.
func (s *Webhooks) newSecret(ctx context.Context, w *Webhook) string {
	secret := "whsec_" + RandomText(32)
	w.Secret = s.Ring.Seal(webhookPurpose, w.place(ctx, "secret"), []byte(secret))
	return secret
}

func (s *Webhooks) open(ctx context.Context, w Webhook, field string, sealed []byte) ([]byte, error) {
	text, err := s.Ring.Unseal(webhookPurpose, w.place(ctx, field), sealed)
	if err != nil {
		return nil, fmt.Errorf("%s of webhook %s: %w", field, w.ID, err)
	}
	return text, nil
}

// secrets returns those that sign at a time, the newest first.
func (s *Webhooks) secrets(ctx context.Context, w Webhook, now time.Time) ([]string, error) {
	secret, err := s.open(ctx, w, "secret", w.Secret)
	if err != nil {
		return nil, err
	}
	live := []string{string(secret)}
	if len(w.OldSecret) > 0 && now.Before(w.OldUntil) {
		old, err := s.open(ctx, w, "old_secret", w.OldSecret)
		if err != nil {
			return nil, err
		}
		live = append(live, string(old))
	}
	return live, nil
}

// HiddenHeader stands for a header's value that is not shown. Sent back, it
// means the value that is there.
const HiddenHeader = "[hidden]"

// Headers returns a webhook's headers for people: a value that refers to a
// secret as it is, any other as [HiddenHeader], since it may be one.
func (s *Webhooks) Headers(ctx context.Context, w Webhook) (map[string]string, error) {
	h, err := s.headers(ctx, w)
	for name, value := range h {
		if !headerSecret.MatchString(value) {
			h[name] = HiddenHeader
		}
	}
	return h, err
}

func (s *Webhooks) headers(ctx context.Context, w Webhook) (map[string]string, error) {
	h := map[string]string{}
	if len(w.Headers) == 0 {
		return h, nil
	}
	text, err := s.open(ctx, w, "headers", w.Headers)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, fmt.Errorf("headers of webhook %s are not ours", w.ID) // the error might quote them
	}
	return h, nil
}

var (
	headerName   = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")
	headerSecret = regexp.MustCompile(`\{secret:([A-Za-z_][A-Za-z0-9_./-]{0,254})\}`)
	// ourHeaders are set by the program.
	ourHeaders = []string{"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "Keep-Alive", "Te",
		"Trailer", "Upgrade", "Proxy-Authorization", "Proxy-Connection", "Expect", "User-Agent", "Accept-Encoding"}
)

// setHeaders checks and seals headers.
func (s *Webhooks) setHeaders(ctx context.Context, w *Webhook, headers map[string]string) error {
	if len(headers) > maxHeaders {
		return Invalidf("headers", "must be at most %d", maxHeaders)
	}
	before, err := s.headers(ctx, *w)
	if err != nil {
		return err
	}
	out, size := map[string]string{}, 0
	for name, value := range headers {
		if err := RefuseSecret("headers", name); err != nil {
			return err
		}
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		if !headerName.MatchString(name) || slices.Contains(ourHeaders, canonical) || strings.HasPrefix(canonical, "Parley-") {
			return Invalidf("headers", "a name is no header's, or one that the program sets itself")
		}
		if value == HiddenHeader {
			if value = before[canonical]; value == "" {
				return Invalidf("headers", "a value is %s, and there was none before", HiddenHeader)
			}
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return Invalidf("headers", "a value holds control characters")
		}
		if strings.Contains(headerSecret.ReplaceAllLiteralString(value, ""), "{secret:") {
			return Invalidf("headers", "a reference to a secret is malformed: it is {secret:name}")
		}
		out[canonical] = value
		size += len(canonical) + len(value)
	}
	if size > maxHeaderBytes {
		return Invalidf("headers", "must be at most %d bytes together", maxHeaderBytes)
	}
	text, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("headers of webhook %s cannot be kept", w.ID)
	}
	w.Headers = s.Ring.Seal(webhookPurpose, w.place(ctx, "headers"), text)
	return nil
}

var eventType = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:-]{0,99}$`)

func checkWebhook(w Webhook) error {
	if err := RefuseSecret("name", w.Name); err != nil {
		return err
	}
	u, err := url.Parse(w.URL)
	switch {
	case strings.TrimSpace(w.Name) == "" || len(w.Name) > 100:
		return Invalidf("name", "must be 1 to 100 bytes")
	case len(w.URL) > 2000 || err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return Invalidf("url", "must be an http or https address of at most 2000 bytes")
	case u.Fragment != "":
		return Invalidf("url", "must have no fragment")
	case w.Timeout < time.Second || w.Timeout > maxWebhookTimeout:
		return Invalidf("timeout_seconds", "must be 1 to %d", int(maxWebhookTimeout/time.Second))
	case w.MaxAttempts < 1 || w.MaxAttempts > maxAttempts:
		return Invalidf("max_attempts", "must be 1 to %d", maxAttempts)
	case len(w.Types) > 50:
		return Invalidf("events", "must be at most 50")
	case len(w.Flows) > 50:
		return Invalidf("flow_ids", "must be at most 50")
	}
	if err := refuseSecretAddress("url", u); err != nil {
		return err
	}
	for i, t := range w.Types {
		if err := RefuseSecret(fmt.Sprintf("events[%d]", i), t); err != nil {
			return err
		}
		if !eventType.MatchString(t) {
			return Invalidf(fmt.Sprintf("events[%d]", i), "is not the type of an event")
		}
	}
	return nil
}

// wants tells whether an event is for the webhook.
func (w Webhook) wants(e Event) bool {
	return w.Enabled && !e.At.Before(w.EnabledAt) &&
		(len(w.Types) == 0 || slices.Contains(w.Types, e.Type)) &&
		(len(w.Flows) == 0 || e.Flow != uuid.Nil && slices.Contains(w.Flows, e.Flow))
}

// sortedHeaders lists headers in a stable order.
func sortedHeaders(h map[string]string) []string { return slices.Sorted(maps.Keys(h)) }
