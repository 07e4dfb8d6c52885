package signaling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Twilio takes Twilio's calls: its webhooks and the websocket of its Media
// Streams (https://www.twilio.com/docs/voice/media-streams). Fill the fields,
// then mount Routes. It is safe for concurrent use.
type Twilio struct {
	Desk   Desk
	Tokens *MediaTokens

	// Colleagues may be nil: then nobody is asked to take a caller.
	Colleagues Colleagues

	// PublicURL is the address that Twilio calls us by ("https://gw.example"),
	// over which it signs. Forwarding headers are never asked. Empty: the
	// request's own Host, by https unless that is this machine.
	PublicURL string

	// MediaURL is the address of the media sockets, where they are not reached by
	// PublicURL ("https://media.example").
	MediaURL string

	// AccountSID, where not empty, is the only account whose webhooks are taken,
	// besides those of Signers.
	AccountSID string

	// Signers knows further accounts, each with tokens of its own. Nil: none.
	Signers Signers

	// AuthTokens gives the tokens that may sign: the current one, and the old
	// one while rotating. Nil or none: webhooks cannot be signed, and are taken
	// by the rules below only.
	AuthTokens func(context.Context) ([]string, error)

	// AllowUnsigned takes unsigned requests from this very machine: a loopback
	// peer with a loopback Host and no sign of a proxy or a web page. Only where
	// there is no auth token.
	AllowUnsigned bool

	// TunnelWithoutSignature takes unsigned requests from anybody. For a
	// developer's tunnel only; never without his asking.
	TunnelWithoutSignature bool

	Logger  *slog.Logger
	Metrics TwilioMetrics

	waiting waiting
}

// TwilioMetrics are called as things happen; nil ones are not. Their words are
// few and fixed, fit for labels.
type TwilioMetrics struct {
	// Refused counts what was turned away, by route ("voice", "media", "next",
	// "status", "consult") and reason ("signature", "account", "token", "request", "start",
	// "busy", "no-agent", "ended", "draining", "crowded").
	Refused func(route, reason string)

	// Flooded counts media sockets that sent more than a call needs: "warned"
	// once each, and "closed" where they went on.
	Flooded func(what string)

	// Dropped counts what came on a media socket and was not used: "malformed",
	// "binary", "order", "size", "overflow", "event", "mark".
	Dropped func(what string)

	// Concealed counts frames of silence given for audio that was late or lost.
	Concealed func()

	// Skipped counts quiet frames left out to make up for audio that came late,
	// or for the far clock running fast.
	Skipped func()
}

// A Route is a handler and the pattern (net/http) to mount it by. Logs must
// hold the pattern, never the path: the path of the media socket is a secret.
type Route struct {
	Pattern string
	Handler http.HandlerFunc
}

// Routes returns what to mount.
func (t *Twilio) Routes() []Route {
	routes := []Route{
		{"POST /twilio/voice", t.voice},
		{"POST /twilio/voice/{agent}", t.voice},
		{"GET /twilio/media/{token}", t.media},
		{"POST /twilio/next", t.next},
		{"POST /twilio/status", t.status},
	}
	if t.Colleagues != nil {
		routes = append(routes, Route{"POST /twilio/consult/{id}", t.offer}, Route{"POST /twilio/consult/{id}/answer", t.answer},
			Route{"POST /twilio/consult/{id}/status", t.gone})
	}
	return routes
}

const (
	carrierTwilio = "twilio"
	maxBody       = 64 << 10
	maxField      = 256 // bytes of an id or an address
	arriveWithin  = 5 * time.Second
)

// voice answers POST /twilio/voice: a call has come in, or one of ours was
// answered.
func (t *Twilio) voice(w http.ResponseWriter, r *http.Request) {
	form, account, ok := t.webhook(w, r, "voice")
	if !ok {
		return
	}
	a := Arrival{
		Carrier:       carrierTwilio,
		Account:       account,
		CarrierCallID: form.Get("CallSid"),
		From:          form.Get("From"),
		To:            form.Get("To"),
		Agent:         r.PathValue("agent"),
		Direction:     "inbound",
		Dial:          r.URL.Query().Get(dialParam),
	}
	if strings.HasPrefix(form.Get("Direction"), "outbound") {
		a.Direction = "outbound"
	}
	log := t.Logger.With("call_sid", a.CarrierCallID)
	// Not by the request's own context: whether a call that is given up is in
	// the books must not hang on the moment.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), arriveWithin)
	defer cancel()
	admitted, err := t.Desk.Arrive(ctx, a)
	switch {
	case err == nil && admitted.Say != "":
		writeTwiML(w, say(admitted.Say, admitted.Language))
	case err == nil && admitted.Dial != "":
		writeTwiML(w, dial(t.base(r), Next{Dial: admitted.Dial}))
	case err == nil:
		t.connect(w, r, a.CarrierCallID, admitted.CallID)
	case errors.Is(err, ErrEnded):
		t.refused("voice", "ended")
		writeTwiML(w, hangup)
	case errors.Is(err, ErrBusy):
		t.refused("voice", "busy")
		log.Warn("call refused: no capacity left")
		writeTwiML(w, reject(a.Direction, "busy"))
	case errors.Is(err, ErrDraining):
		t.refused("voice", "draining")
		writeTwiML(w, elsewhere(t.base(r)+r.URL.RequestURI()))
	case errors.Is(err, ErrForbidden):
		t.forbid(w, r, "voice", "account", err)
	case errors.Is(err, ErrNoAgent):
		t.refused("voice", "no-agent")
		log.Warn("call refused: no agent answers here", "to", a.To, "agent", a.Agent)
		writeTwiML(w, reject(a.Direction, ""))
	default:
		t.fault(w, log, "take call in", err)
	}
}

// reject turns a call away: unbilled while it rings; one that we placed is
// answered already, and Twilio takes <Reject> only for those that come in.
func reject(direction, reason string) twiml {
	if direction == "outbound" {
		return hangup
	}
	return twiml{Reject: &twimlReject{Reason: reason}}
}

// connect answers with a fresh token for the media socket.
func (t *Twilio) connect(w http.ResponseWriter, r *http.Request, callSID, callID string) {
	token, err := t.Tokens.Mint(callSID, callID)
	if err != nil {
		t.fault(w, t.Logger.With("call_sid", callSID), "connect call", err)
		return
	}
	writeTwiML(w, connect(t.base(r), t.mediaBase(r), token))
}

// next answers POST /twilio/next: the stream or a transfer has ended.
func (t *Twilio) next(w http.ResponseWriter, r *http.Request) {
	form, _, ok := t.webhook(w, r, "next")
	if !ok {
		return
	}
	sid := form.Get("CallSid")
	ctx, cancel := context.WithTimeout(r.Context(), arriveWithin)
	defer cancel()
	var n Next
	var err error
	if outcome := form.Get("DialCallStatus"); outcome != "" {
		n, err = t.Desk.TransferEnded(ctx, carrierTwilio, sid, outcome)
	} else {
		n, err = t.Desk.Next(ctx, carrierTwilio, sid)
	}
	if errors.Is(err, ErrDraining) {
		t.refused("next", "draining")
		writeTwiML(w, elsewhere(NextWebhook(t.base(r))))
		return
	}
	if err != nil && !errors.Is(err, ErrEnded) && !errors.Is(err, ErrNoAgent) {
		t.fault(w, t.Logger.With("call_sid", sid), "decide what is next", err)
		return
	}
	switch {
	case err == nil && n.Do == "connect":
		t.connect(w, r, sid, n.CallID)
	case err == nil && n.Do == "dial" && n.Dial != "":
		writeTwiML(w, dial(t.base(r), n))
	default:
		writeTwiML(w, hangup)
	}
}

// status takes POST /twilio/status: callbacks of calls, streams, recordings
// and answering machine detection.
func (t *Twilio) status(w http.ResponseWriter, r *http.Request) {
	form, _, ok := t.webhook(w, r, "status")
	if !ok {
		return
	}
	s := CarrierStatus{
		Carrier:       carrierTwilio,
		CarrierCallID: form.Get("CallSid"),
		Dial:          r.URL.Query().Get(dialParam),
		Detail:        make(map[string]string, len(form)),
	}
	for k := range form {
		s.Detail[k] = form.Get(k)
	}
	switch {
	case form.Has("StreamEvent"):
		s.Kind, s.Status = "stream", form.Get("StreamEvent")
	case form.Has("RecordingStatus"):
		s.Kind, s.Status = "recording", form.Get("RecordingStatus")
	case form.Has("AnsweredBy") && !form.Has("CallbackSource"): // a call's own callback may name it too
		s.Kind, s.Status = "amd", form.Get("AnsweredBy")
	default:
		s.Kind, s.Status = "call", form.Get("CallStatus")
	}
	if err := t.Desk.Status(r.Context(), s); err != nil && !errors.Is(err, ErrEnded) {
		t.fault(w, t.Logger.With("call_sid", s.CarrierCallID), "take status", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// webhook reads and checks a webhook. Where it is not good it answers, counts
// and logs, and returns false. account is whose it is, "" for the gateway's own.
func (t *Twilio) webhook(w http.ResponseWriter, r *http.Request, route string) (form url.Values, account string, ok bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.refused(route, "request")
		http.Error(w, "body is too large or broken", http.StatusRequestEntityTooLarge)
		return nil, "", false
	}
	form, isJSON, err := parseBody(r.Header.Get("Content-Type"), body)
	if err != nil {
		t.refused(route, "request")
		http.Error(w, err.Error(), http.StatusUnsupportedMediaType)
		return nil, "", false
	}
	signedForm := form
	if isJSON {
		signedForm = nil
	}
	account, err = t.sender(r, form, signedForm)
	var no *forbidden
	switch {
	case errors.As(err, &no):
		t.forbid(w, r, route, no.reason, no.err)
		return nil, "", false
	case err != nil:
		t.fault(w, t.Logger.With("call_sid", form.Get("CallSid")), "verify a webhook", err)
		return nil, "", false
	}
	if isJSON && r.Header.Get(signatureHeader) != "" && !bodySigned(r.URL.Query(), body) {
		t.forbid(w, r, route, "signature", errors.New("the body is not the one signed"))
		return nil, "", false
	}
	if sid := form.Get("CallSid"); sid == "" || len(sid) > maxField ||
		len(form.Get("To")) > maxField || len(form.Get("From")) > maxField {
		t.refused(route, "request")
		http.Error(w, "CallSid, From or To is missing or too long", http.StatusBadRequest)
		return nil, "", false
	}
	return form, account, true
}

// parseBody reads a form, or a flat JSON object as one.
func parseBody(contentType string, body []byte) (form url.Values, isJSON bool, err error) {
	kind, _, _ := mime.ParseMediaType(contentType)
	switch kind {
	case "application/x-www-form-urlencoded":
		form, err = url.ParseQuery(string(body))
		return form, false, err
	case "application/json":
		var object map[string]any
		if err := json.Unmarshal(body, &object); err != nil {
			return nil, true, errors.New("body is not a JSON object")
		}
		form = make(url.Values, len(object))
		for k, v := range object {
			switch v.(type) {
			case string, float64, bool:
				form.Set(k, fmt.Sprint(v))
			}
		}
		return form, true, nil
	}
	return nil, false, errors.New("want application/x-www-form-urlencoded or application/json")
}

const signatureHeader = "X-Twilio-Signature"

// authentic checks that a request comes from Twilio. Where a signature is not
// required (the websocket upgrade, which has its token), a missing one is good
// and a wrong one is not.
func (t *Twilio) authentic(r *http.Request, base string, form url.Values, required bool) error {
	var tokens []string
	if t.AuthTokens != nil {
		var err error
		if tokens, err = t.AuthTokens(r.Context()); err != nil {
			return fmt.Errorf("read auth token: %w", err)
		}
	}
	header := r.Header.Get(signatureHeader)
	switch {
	case len(tokens) > 0 && header != "":
		if signed(tokens, base, r.RequestURI, form, header) {
			return nil
		}
		return errors.New("wrong signature: auth token or public URL differs from Twilio's")
	case !required:
		return nil
	case len(tokens) > 0:
		return errors.New("no signature")
	case t.TunnelWithoutSignature, t.AllowUnsigned && fromThisMachine(r):
		return nil
	}
	return errors.New("no auth token is set, and the request is not from this machine")
}

// base returns the address that the far side knows us by, without a slash.
func (t *Twilio) base(r *http.Request) string {
	if t.PublicURL != "" {
		return strings.TrimRight(t.PublicURL, "/")
	}
	if r.TLS == nil && fromThisMachine(r) {
		return "http://" + r.Host
	}
	return "https://" + r.Host
}

// mediaBase is base of the media sockets.
func (t *Twilio) mediaBase(r *http.Request) string {
	if t.MediaURL != "" {
		return strings.TrimRight(t.MediaURL, "/")
	}
	return t.base(r)
}

func (t *Twilio) forbid(w http.ResponseWriter, r *http.Request, route, reason string, err error) {
	t.refused(route, reason)
	t.Logger.Warn("request refused", "route", "/twilio/"+route, "reason", reason, "error", err, "peer", r.RemoteAddr)
	http.Error(w, "forbidden", http.StatusForbidden)
}

// fault answers 503: by the overrides on our addresses, Twilio asks again.
func (t *Twilio) fault(w http.ResponseWriter, log *slog.Logger, what string, err error) {
	log.Error(what, "error", err)
	http.Error(w, "try again", http.StatusServiceUnavailable)
}

func (t *Twilio) refused(route, reason string) {
	if t.Metrics.Refused != nil {
		t.Metrics.Refused(route, reason)
	}
}
