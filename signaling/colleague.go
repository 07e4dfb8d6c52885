package signaling

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Colleagues are asked whether they take a caller. Its methods are safe for
// concurrent use and return within 2 s. Errors: [ErrNoAgent] for a request that
// nobody knows, [ErrEnded] where the caller waits no more. account is whose token
// has signed what the carrier says, as an [Arrival] names it: a request about a
// call of another account is one that nobody knows.
type Colleagues interface {
	// Offer returns what a colleague who has picked up is told; callSID is theirs.
	Offer(ctx context.Context, account, id, callSID string) (words string, err error)
	// Answer takes their word. Accepted, it returns the conference to join.
	Answer(ctx context.Context, account, id string, accepted bool) (room string, err error)
	// Gone reports that their call is over: "completed", "busy", "no-answer",
	// "failed", "canceled".
	Gone(ctx context.Context, account, id, outcome string) error
}

const (
	consultPath = "/twilio/consult/"
	consultRing = 30 * time.Second
	keyWait     = "10" // seconds for the key
	acceptKey   = "1"
	offerTail   = " Press 1 to take the call. Press any other key, or hang up, to decline."
)

// Consult rings a colleague for the request named id, and returns the CallSid. base
// is the address that Twilio calls us by. Errors are those of [REST].
func (r *REST) Consult(ctx context.Context, base, id, from, to string) (callSID string, err error) {
	address := strings.TrimRight(base, "/") + consultPath + url.PathEscape(id)
	return r.CreateCall(ctx, OutboundCall{From: from, To: to, Answer: address + overrides,
		Status: address + "/status" + overrides, Ring: consultRing})
}

// offer answers POST /twilio/consult/{id}: the colleague has picked up.
func (t *Twilio) offer(w http.ResponseWriter, r *http.Request) {
	form, account, ok := t.webhook(w, r, "consult")
	if !ok {
		return
	}
	id := r.PathValue("id")
	words, err := t.Colleagues.Offer(r.Context(), account, id, form.Get("CallSid"))
	if t.nobodyWaits(w, err) {
		return
	}
	answer := t.base(r) + consultPath + url.PathEscape(id) + "/answer" + overrides
	writeTwiML(w, twiml{
		Gather:   &twimlGather{Action: answer, NumDigits: "1", Timeout: keyWait, Say: words + offerTail},
		Redirect: &twimlRedirect{"POST", answer}, // no key
	})
}

// answer answers POST /twilio/consult/{id}/answer: they have pressed a key, or none.
func (t *Twilio) answer(w http.ResponseWriter, r *http.Request) {
	form, account, ok := t.webhook(w, r, "consult")
	if !ok {
		return
	}
	room, err := t.Colleagues.Answer(r.Context(), account, r.PathValue("id"), form.Get("Digits") == acceptKey)
	switch {
	case t.nobodyWaits(w, err):
	case room == "":
		writeTwiML(w, hangup)
	default:
		writeTwiML(w, twiml{Dial: &twimlDial{Conference: newConference(room)}})
	}
}

// nobodyWaits answers where a colleague cannot be offered the caller any more.
func (t *Twilio) nobodyWaits(w http.ResponseWriter, err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, ErrEnded), errors.Is(err, ErrNoAgent):
		writeTwiML(w, say("The caller is not waiting any more. Goodbye.", ""))
	default:
		t.fault(w, t.Logger, "ask a colleague", err)
	}
	return true
}

// gone takes POST /twilio/consult/{id}/status.
func (t *Twilio) gone(w http.ResponseWriter, r *http.Request) {
	form, account, ok := t.webhook(w, r, "consult")
	if !ok {
		return
	}
	switch status := form.Get("CallStatus"); status {
	case "completed", "busy", "failed", "no-answer", "canceled":
		err := t.Colleagues.Gone(r.Context(), account, r.PathValue("id"), status)
		if err != nil && !errors.Is(err, ErrNoAgent) && !errors.Is(err, ErrEnded) {
			t.fault(w, t.Logger, "take a colleague's status", err)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// A twimlConference is where a caller and a colleague meet. Whoever leaves ends it
// for the other, so that nobody is left in silence.
type twimlConference struct {
	Beep  string `xml:"beep,attr"`
	Start string `xml:"startConferenceOnEnter,attr"`
	End   string `xml:"endConferenceOnExit,attr"`
	Room  string `xml:",chardata"`
}

func newConference(room string) *twimlConference {
	return &twimlConference{Beep: "false", Start: "true", End: "true", Room: room}
}

type twimlGather struct {
	Action    string `xml:"action,attr"`
	NumDigits string `xml:"numDigits,attr"`
	Timeout   string `xml:"timeout,attr"`
	Say       string `xml:"Say"`
}
