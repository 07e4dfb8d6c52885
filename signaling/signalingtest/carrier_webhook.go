package signalingtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"parley/signaling"
)

// Overrides of a webhook's connection, from the fragment of its address.
// https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
type overrides struct {
	connect time.Duration // ct: to connect
	read    time.Duration // rt: for the answer
	total   time.Duration // tt: for all tries
	retries int           // rc
	policy  string        // rp: what is tried again: ct, rt, 4xx, 5xx, all
}

const totalWait = 15 * time.Second // Twilio's own, and the most that it allows

// parseOverrides reads a fragment. What Twilio would not take keeps its default.
func parseOverrides(fragment string) overrides {
	o := overrides{connect: 5 * time.Second, read: totalWait, total: totalWait, retries: 1, policy: "ct"}
	set, err := url.ParseQuery(fragment)
	if err != nil {
		return o
	}
	within := func(key string, least, most int) (int, bool) {
		n, err := strconv.Atoi(set.Get(key))
		return n, err == nil && n >= least && n <= most
	}
	if ms, ok := within("ct", 100, 10_000); ok {
		o.connect = time.Duration(ms) * time.Millisecond
	}
	if ms, ok := within("rt", 100, 15_000); ok {
		o.read = time.Duration(ms) * time.Millisecond
	}
	if ms, ok := within("tt", 100, 15_000); ok {
		o.total = time.Duration(ms) * time.Millisecond
	}
	if n, ok := within("rc", 0, 5); ok {
		o.retries = n
	}
	if set.Has("rp") {
		o.policy = set.Get("rp")
	}
	return o
}

// again tells whether a failure is worth a retry.
func (o overrides) again(e *webhookError) bool {
	for _, p := range strings.Split(o.policy, ",") {
		if p = strings.TrimSpace(p); p == "all" || p == e.class {
			return true
		}
	}
	return false
}

// A webhookError is a webhook that gave no usable answer.
type webhookError struct {
	class string // ct, rt, 4xx, 5xx, or twiml
	err   error
}

func (e *webhookError) Error() string { return "carrier: " + e.err.Error() }
func (e *webhookError) Unwrap() error { return e.err }

// code is Twilio's number for it: https://www.twilio.com/docs/api/errors
func (e *webhookError) code() string {
	switch e.class {
	case "ct":
		return "11205"
	case "twiml":
		return "12100"
	}
	return "11200"
}

// A dialError tells a failed connection from an answer that did not come.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

type connectWithin struct{} // context key: how long a connection may take

// webhookClient makes each request on a connection of its own.
func webhookClient(dial func(context.Context, string, string) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if d, ok := ctx.Value(connectWithin{}).(time.Duration); ok {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, d)
				defer cancel()
			}
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, dialError{err}
			}
			return conn, nil
		},
	}}
}

// post sends a webhook to an address, signed, and again as its overrides say.
// The address is a path of the gateway, or one that it gave.
func (c *CarrierCall) post(ctx context.Context, address string, form url.Values) ([]byte, error) {
	address, fragment, _ := strings.Cut(address, "#")
	o := parseOverrides(fragment)
	call, cancel := context.WithTimeout(ctx, o.total)
	defer cancel()
	c.fill(form)
	for try := 0; ; try++ {
		body, err := c.postOnce(call, address, form, o)
		var failed *webhookError
		if !errors.As(err, &failed) || call.Err() != nil || try == o.retries || !o.again(failed) {
			return body, err
		}
		c.note("retry", err.Error())
		if !pause(call, c.o.RetryPause) {
			return nil, err
		}
	}
}

// pause waits for d; false: not to its end.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fill puts into form what every webhook has.
func (c *CarrierCall) fill(form url.Values) {
	for k, v := range map[string]string{
		"CallSid": c.SID, "AccountSid": c.o.AccountSID, "From": c.o.From, "To": c.o.To,
		"Direction": c.o.Direction, "ApiVersion": "2010-04-01",
	} {
		form.Set(k, v)
	}
	if !form.Has("CallStatus") {
		form.Set("CallStatus", c.Status())
	}
}

func (c *CarrierCall) postOnce(ctx context.Context, address string, form url.Values, o overrides) ([]byte, error) {
	uri := strings.TrimPrefix(strings.TrimPrefix(address, c.o.PublicURL), c.o.URL)
	target, public := uri, uri
	if strings.HasPrefix(uri, "/") {
		target, public = c.o.URL+uri, c.o.PublicURL+uri
	}
	ctx, cancel := context.WithTimeout(ctx, o.connect+o.read)
	defer cancel()
	ctx = context.WithValue(ctx, connectWithin{}, o.connect)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("carrier: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.o.AuthToken != "" {
		req.Header.Set("X-Twilio-Signature", signaling.TwilioSignature(c.o.AuthToken, public, form))
	}
	res, err := c.client.Do(req)
	if err != nil {
		class := "rt"
		if errors.As(err, new(dialError)) {
			class = "ct"
		}
		return nil, &webhookError{class, fmt.Errorf("post %s: %w", route(uri), unwrapURL(err))}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	switch {
	case err != nil:
		return nil, &webhookError{"rt", fmt.Errorf("post %s: %w", route(uri), err)}
	case res.StatusCode >= 300:
		return nil, &webhookError{fmt.Sprintf("%dxx", res.StatusCode/100), fmt.Errorf("post %s: %s: %.100s", route(uri), res.Status, body)}
	}
	return body, nil
}

// unwrapURL drops the address that net/http puts before an error: it may hold a
// secret.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// route returns an address without what may be secret in it.
func route(address string) string {
	if i := strings.Index(address, "/media/"); i >= 0 {
		return address[:i+len("/media/")] + "…"
	}
	return address
}
