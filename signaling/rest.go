package signaling

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/twilio/twilio-go/client"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"
)

// restTimeout bounds a request to Twilio's REST API where the context does not.
const restTimeout = 8 * time.Second

// REST asks things of Twilio by its REST API, for operators, calls that we
// place and sockets that were lost; a call in order needs none of it. It is
// safe for concurrent use, and keeps no goroutine but those of Transport's
// idle connections.
//
// Errors wrap [ErrEnded] for a call that Twilio does not know or that is over,
// [ErrBusy] for too many requests, and otherwise *client.TwilioRestError or the
// network's own.
type REST struct {
	AccountSID string

	// User is whose Secret is: an API key ("SK…"), or empty for the account
	// itself with its auth token.
	User   string
	Secret func(context.Context) (string, error)

	Region, Edge string // "ie1", "dublin": both or none
	BaseURL      string // in place of https://api.twilio.com, for tests
	Timeout      time.Duration
	Transport    http.RoundTripper // default: http.DefaultTransport
}

// An OutboundCall is a call to place.
type OutboundCall struct {
	From, To  string        // E.164, sip: or client:
	Answer    string        // our voice webhook, fetched when answered
	Status    string        // our status webhook; every stage is reported
	Ring      time.Duration // default 60 s, Twilio's own
	TimeLimit time.Duration // of the whole call; 0: Twilio's own, 4 h
	// DetectMachine tells a person from a machine while the call goes on; the
	// answer comes to Status.
	DetectMachine bool
	// AwaitMachine has it tell of a machine only once that may be spoken to: its
	// greeting is over, mostly by a beep.
	AwaitMachine bool
}

// CreateCall places a call and returns its CallSid. It is not retried: a
// second try could ring twice.
func (r *REST) CreateCall(ctx context.Context, c OutboundCall) (callSID string, err error) {
	err = r.do(ctx, "create call", func(api *openapi.ApiService) error {
		p := (&openapi.CreateCallParams{}).SetFrom(c.From).SetTo(c.To).SetUrl(c.Answer)
		if c.Status != "" {
			p.SetStatusCallback(c.Status)
			p.SetStatusCallbackEvent([]string{"initiated", "ringing", "answered", "completed"})
		}
		if c.Ring > 0 {
			p.SetTimeout(seconds(c.Ring))
		}
		if c.TimeLimit > 0 {
			p.SetTimeLimit(seconds(c.TimeLimit))
		}
		if c.DetectMachine {
			p.SetMachineDetection("Enable").SetAsyncAmd("true")
			if c.AwaitMachine {
				p.SetMachineDetection("DetectMessageEnd")
			}
			if c.Status != "" {
				p.SetAsyncAmdStatusCallback(c.Status)
			}
		}
		made, err := api.CreateCall(p)
		if err == nil && (made.Sid == nil || *made.Sid == "") {
			return errors.New("the answer has no sid")
		}
		if err == nil {
			callSID = *made.Sid
		}
		return err
	})
	return callSID, err
}

// HangUp ends a call. One that is over or unknown is no error.
func (r *REST) HangUp(ctx context.Context, callSID string) error {
	err := r.update(ctx, "hang up", callSID, (&openapi.UpdateCallParams{}).SetStatus("completed"))
	if errors.Is(err, ErrEnded) {
		return nil
	}
	return err
}

// Redirect sends a live call to fetch TwiML from one of our webhooks. It ends
// the call's media stream.
func (r *REST) Redirect(ctx context.Context, callSID, webhook string) error {
	return r.update(ctx, "redirect call", callSID, (&openapi.UpdateCallParams{}).SetUrl(webhook).SetMethod(http.MethodPost))
}

// Perform lets a live call do the TwiML given, at most 4,000 characters. It ends
// the call's media stream.
func (r *REST) Perform(ctx context.Context, callSID, twiml string) error {
	return r.update(ctx, "perform TwiML", callSID, (&openapi.UpdateCallParams{}).SetTwiml(twiml))
}

func (r *REST) update(ctx context.Context, what, callSID string, p *openapi.UpdateCallParams) error {
	if !plainSID(callSID) { // it becomes part of a path
		return fmt.Errorf("%s: %.40q is not a call's sid", what, callSID)
	}
	return r.do(ctx, what, func(api *openapi.ApiService) error {
		_, err := api.UpdateCall(callSID, p)
		return err
	})
}

// errCredentials says that nothing was asked, for want of credentials.
var errCredentials = errors.New("read credentials")

// do makes one request. The library takes no context, so that of the request is
// put in by its transport.
func (r *REST) do(ctx context.Context, what string, request func(*openapi.ApiService) error) error {
	if (r.Region == "") != (r.Edge == "") {
		return fmt.Errorf("%s: Twilio's region and edge are set both or not at all", what)
	}
	secret, err := r.Secret(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", what, errCredentials, err)
	}
	timeout := r.Timeout
	if timeout <= 0 {
		timeout = restTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	transport := restTransport{ctx: ctx, next: r.Transport}
	if transport.next == nil {
		transport.next = http.DefaultTransport
	}
	if r.BaseURL != "" {
		if transport.base, err = url.Parse(r.BaseURL); err != nil {
			return fmt.Errorf("%s: base address: %w", what, err)
		}
	}
	user := r.User
	if user == "" {
		user = r.AccountSID
	}
	c := &client.Client{
		Credentials: client.NewCredentials(user, secret),
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	c.SetAccountSid(r.AccountSID)
	handler := client.NewRequestHandler(c)
	handler.Region, handler.Edge = r.Region, r.Edge // not whatever the environment says
	if err := request(openapi.NewApiService(handler)); err != nil {
		return fmt.Errorf("%s: %w", what, restError(err))
	}
	return nil
}

// restError puts our sentinels to Twilio's answers.
// https://www.twilio.com/docs/api/errors
func restError(err error) error {
	var e *client.TwilioRestError
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Status == http.StatusNotFound, e.Code == 20404, e.Code == 21220: // 21220: the call is not in progress
		return fmt.Errorf("%w: %w", ErrEnded, err)
	case e.Status == http.StatusTooManyRequests, e.Code == 20429:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// restTransport gives requests a context and, for tests, another address.
type restTransport struct {
	ctx  context.Context // of this one request
	base *url.URL
	next http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t restTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(t.ctx)
	if t.base != nil {
		req.URL.Scheme, req.URL.Host = t.base.Scheme, t.base.Host
		req.Host = ""
	}
	return t.next.RoundTrip(req)
}

func plainSID(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// seconds rounds up, to a whole number of at least one.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
