package signaling

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/twilio/twilio-go/client"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"
)

// dialParam is the query parameter by which our webhooks know a call that we
// placed; Twilio signs it with the rest of the address.
const dialParam = "dial"

// VoiceWebhook returns the address that a call which we placed asks for its
// agent, for a gateway that is reached at base. ref comes back in Arrival.Dial.
func VoiceWebhook(base, agent, ref string) string {
	return strings.TrimRight(base, "/") + "/twilio/voice/" + url.PathEscape(agent) + "?" + dialParam + "=" + url.QueryEscape(ref) + overrides
}

// StatusWebhook returns the address that is told of a call which we placed. ref
// comes back in CarrierStatus.Dial.
func StatusWebhook(base, ref string) string {
	return strings.TrimRight(base, "/") + "/twilio/status?" + dialParam + "=" + url.QueryEscape(ref) + overrides
}

// A CallRecord is what Twilio keeps of a call.
type CallRecord struct {
	SID, Status, AnsweredBy string
	Created                 time.Time
	Duration                time.Duration // 0 for one that was not answered, or is not over
}

// FindCalls returns the newest calls between two numbers that were placed by
// REST, at most 50, whatever their state. Twilio's filter by time is none: it
// knows of no time before a call has rung.
func (r *REST) FindCalls(ctx context.Context, from, to string) ([]CallRecord, error) {
	var list []CallRecord
	err := r.do(ctx, "find calls", func(api *openapi.ApiService) error {
		page, err := api.PageCall((&openapi.ListCallParams{}).SetFrom(from).SetTo(to).SetPageSize(50), "", "")
		if err != nil {
			return err
		}
		for _, c := range page.Calls {
			if str(c.Direction) == "" || str(c.Direction) == "outbound-api" {
				list = append(list, newCallRecord(c))
			}
		}
		return nil
	})
	return list, err
}

// FetchCall returns what Twilio keeps of a call; ErrEnded if nothing.
func (r *REST) FetchCall(ctx context.Context, callSID string) (c CallRecord, err error) {
	if !plainSID(callSID) { // it becomes part of a path
		return c, fmt.Errorf("fetch call: %.40q is not a call's sid", callSID)
	}
	err = r.do(ctx, "fetch call", func(api *openapi.ApiService) error {
		got, err := api.FetchCall(callSID, nil)
		if err == nil {
			c = newCallRecord(*got)
		}
		return err
	})
	return c, err
}

func newCallRecord(c openapi.ApiV2010Call) CallRecord {
	r := CallRecord{SID: str(c.Sid), Status: str(c.Status), AnsweredBy: str(c.AnsweredBy)}
	if t, err := time.Parse(time.RFC1123Z, str(c.DateCreated)); err == nil {
		r.Created = t
	}
	if n, err := strconv.Atoi(str(c.Duration)); err == nil {
		r.Duration = time.Duration(n) * time.Second
	}
	return r
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Kinds of a [Refusal].
const (
	RefusedForGood     = "for good"    // the same request will be refused again
	RefusedBusy        = "busy"        // too many requests, or calls
	RefusedCredentials = "credentials" // the account does not let us in
	RefusedUnreachable = "unreachable" // the request never left
)

// A Refusal is a request that Twilio surely did not carry out.
type Refusal struct {
	Code    int // Twilio's; 0: it said none
	Kind    string
	Reason  string // for the operator
	Foreign bool   // the reason is in Twilio's own words
}

// refusals are those that an operator can do something about, by Twilio's code
// (https://www.twilio.com/docs/api/errors).
var refusals = map[int]string{
	10001: "the Twilio account is not active",
	13223: "the number called is not in a form that the carrier takes",
	13224: "the number called is not valid, or cannot be reached",
	13225: "the number called is forbidden by the carrier",
	13227: "the account may not call this country; allow it in Twilio's geographic permissions",
	20404: "Twilio does not find what was asked for; check the account's SID",
	20003: "Twilio does not know these credentials; check the account's SID and auth token",
	21201: "no number to call was given",
	21210: "the calling number is not verified for the account; buy or verify it in Twilio's console",
	21211: "the number called is not valid",
	21212: "the calling number is not valid",
	21213: "the calling number is missing",
	21214: "the number called cannot be reached",
	21215: "the account may not call this country; allow it in Twilio's geographic permissions",
	21216: "the account may not call this number",
	21219: "the number called is not verified; a trial account calls verified numbers only",
	21606: "the calling number is not one of the account's",
}

// RefusalOf tells whether an error of a request means that Twilio did nothing.
// false leaves it open: the answer is missing, or it is a fault of theirs.
func RefusalOf(err error) (Refusal, bool) {
	var e *client.TwilioRestError
	var dial *net.OpError
	var name *net.DNSError
	switch {
	case err == nil:
		return Refusal{}, false
	case errors.Is(err, errCredentials):
		return Refusal{Kind: RefusedCredentials, Reason: "the account's credentials cannot be read here"}, true
	case errors.As(err, &name), errors.As(err, &dial) && dial.Op == "dial":
		return Refusal{Kind: RefusedUnreachable, Reason: "Twilio's API cannot be reached"}, true
	case !errors.As(err, &e) || e.Status >= 500 || e.Status < 400:
		return Refusal{}, false
	}
	r := Refusal{Code: e.Code, Kind: RefusedForGood, Reason: cmp.Or(refusals[e.Code], e.Message, "Twilio refuses the request")}
	r.Foreign = refusals[e.Code] == "" && e.Message != ""
	switch {
	case e.Status == http.StatusTooManyRequests || e.Code == 20429:
		r.Kind, r.Reason = RefusedBusy, "Twilio takes no more requests at the moment"
	case e.Status == http.StatusUnauthorized || e.Code == 20003 || e.Code == 10001:
		r.Kind = RefusedCredentials
	case e.Status == http.StatusRequestTimeout:
		return Refusal{}, false
	}
	return r, true
}
