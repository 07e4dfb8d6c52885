package signaling

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twilio/twilio-go/client"
)

func TestRefusalOf(t *testing.T) {
	answer := func(status, code int) error {
		return fmt.Errorf("create call: %w", restError(&client.TwilioRestError{Status: status, Code: code, Message: "no"}))
	}
	tests := []struct {
		name string
		err  error
		kind string // "": nobody knows whether there is a call
	}{
		{"none", nil, ""},
		{"wrong-number", answer(400, 21211), RefusedForGood},
		{"unknown-code", answer(400, 99999), RefusedForGood},
		{"too-many", answer(429, 20429), RefusedBusy},
		{"too-many-by-code", answer(400, 20429), RefusedBusy},
		{"wrong-token", answer(401, 20003), RefusedCredentials},
		{"account-suspended", answer(403, 10001), RefusedCredentials},
		{"fault-of-theirs", answer(500, 20500), ""},
		{"gateway", answer(503, 0), ""},
		{"request-timeout", answer(408, 0), ""},
		{"no-secret", fmt.Errorf("create call: %w", errCredentials), RefusedCredentials},
		{"no-connection", &net.OpError{Op: "dial", Err: errors.New("refused")}, RefusedUnreachable},
		{"no-name", &net.DNSError{}, RefusedUnreachable},
		{"cut-off", io.ErrUnexpectedEOF, ""},
		{"read", &net.OpError{Op: "read", Err: errors.New("reset")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, ok := RefusalOf(tt.err)
			if ok != (tt.kind != "") || r.Kind != tt.kind || ok && r.Reason == "" {
				t.Errorf("%+v, %v; want %q", r, ok, tt.kind)
			}
		})
	}
}

func TestFindAndFetchCalls(t *testing.T) {
	r, got := restPeer(t, 200, `{"calls":[{"sid":"CA1","status":"completed","direction":"outbound-api","date_created":"Thu, 15 Jan 2026 12:00:00 +0000","duration":"61","answered_by":"human"},
		{"sid":"CA2","status":"completed","direction":"inbound"}]}`)
	list, err := r.FindCalls(t.Context(), "+15550100", "+15550101")
	want := CallRecord{SID: "CA1", Status: "completed", AnsweredBy: "human", Created: time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC), Duration: 61 * time.Second}
	if err != nil || len(list) != 1 || !list[0].Created.Equal(want.Created) {
		t.Fatalf("found %+v, %v", list, err)
	}
	if list[0].Created = want.Created; list[0] != want {
		t.Errorf("found %+v, want %+v", list[0], want)
	}
	req, _ := got()
	if q := req.URL.Query(); q.Get("From") != "+15550100" || q.Get("To") != "+15550101" || q.Get("PageSize") != "50" {
		t.Errorf("asked for %v", q)
	}
	r, _ = restPeer(t, 404, `{"code":20404,"message":"no","status":404}`)
	if _, err := r.FetchCall(t.Context(), "CA1"); !errors.Is(err, ErrEnded) {
		t.Errorf("a call that there is not: %v", err)
	}
	if _, err := r.FetchCall(t.Context(), "../Accounts"); err == nil {
		t.Error("a sid that is a path is asked for")
	}
}
