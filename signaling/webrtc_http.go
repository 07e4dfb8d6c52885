package signaling

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	rtcMaxBody   = 64 << 10
	resumeHeader = "Parley-Resume"
)

// Types of the bodies that the routes of [WebRTC] take (RFC 9725 §4.1, RFC 8840 §9).
const (
	TypeOffer    = "application/sdp"
	TypeFragment = "application/trickle-ice-sdpfrag"
)

// endpoint answers /webrtc/{agent}. From which origins pages may call is for who
// mounts it to say; nothing here is allowed by a cookie.
func (w *WebRTC) endpoint(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Cache-Control", "no-store")
	switch r.Method {
	case http.MethodOptions:
		rw.Header().Set("Accept-Post", TypeOffer)
		rw.WriteHeader(http.StatusOK)
	case http.MethodPost:
		w.post(rw, r)
	default:
		rw.Header().Set("Allow", "OPTIONS, POST")
		w.fail(rw, refuse(http.StatusMethodNotAllowed, "only POST is taken here"))
	}
}

// session answers /webrtc/session/{id}.
func (w *WebRTC) session(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Cache-Control", "no-store")
	switch r.Method {
	case http.MethodOptions:
		rw.Header().Set("Accept-Patch", TypeFragment)
		rw.WriteHeader(http.StatusOK)
		return
	case http.MethodPatch, http.MethodDelete:
	default:
		rw.Header().Set("Allow", "DELETE, OPTIONS, PATCH")
		w.fail(rw, refuse(http.StatusMethodNotAllowed, "only PATCH and DELETE are taken here"))
		return
	}
	s, err := w.find(r)
	if err != nil {
		w.fail(rw, err)
		return
	}
	if r.Method == http.MethodDelete {
		s.leg.end("caller")
		rw.WriteHeader(http.StatusOK)
		return
	}
	if err := w.patch(rw, r, s); err != nil {
		w.fail(rw, err)
	}
}

// post takes an offer in.
func (w *WebRTC) post(rw http.ResponseWriter, r *http.Request) {
	s, answer, err := w.accept(r)
	if err != nil {
		w.fail(rw, err)
		return
	}
	h := rw.Header()
	h.Set("Content-Type", TypeOffer)
	h.Set("Location", "/webrtc/session/"+s.id)
	h.Set("ETag", s.etag())
	for _, l := range w.ICELinks(r.Context(), s.id, time.Now()) {
		h.Add("Link", l)
	}
	rw.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(rw, answer) // a caller gone meanwhile is found by ConnectWait
}

// accept makes a session of a POST.
func (w *WebRTC) accept(r *http.Request) (*rtcSession, string, error) {
	agent := r.PathValue("agent")
	callID, who, err := w.entitled(r, agent)
	if err != nil {
		return nil, "", err
	}
	body, err := readBody(r, TypeOffer)
	if err != nil {
		return nil, "", err
	}
	offer, err := parseOffer(body)
	if err != nil {
		return nil, "", err
	}
	if err := w.reserve(); err != nil {
		return nil, "", err
	}
	defer w.release()
	s, err := w.newSession(offer, agent, bearer(r))
	if err != nil {
		return nil, "", err
	}
	s.leg.who = who
	answer, err := s.answer(r.Context(), offer)
	if err != nil {
		s.abandon()
		return nil, "", err
	}
	// Not by the request's own context: whether a caller who gives up is in the
	// books must not hang on the moment.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 2*time.Second)
	defer cancel()
	s.call, err = w.o.Desk.Arrive(ctx, Arrival{
		Carrier: carrierWebRTC, CarrierCallID: s.id, Agent: agent, Direction: "inbound", Resume: callID,
	})
	if err != nil {
		s.abandon()
		if ctx.Err() != nil { // it may be in the books all the same
			w.tellFailed(s)
		}
		return nil, "", err
	}
	if err := w.admit(s); err != nil {
		s.abandon()
		w.tellFailed(s)
		return nil, "", err
	}
	return s, answer, nil
}

// entitled finds out who may call, and with which call they go on, "" for none.
func (w *WebRTC) entitled(r *http.Request, agent string) (callID, who string, err error) {
	if token := r.Header.Get(resumeHeader); token != "" {
		return w.redeem(r.Context(), token, agent)
	}
	who, err = w.o.Authorize(r, agent)
	return "", who, err
}

// patch trickles candidates in, or restarts ICE.
func (w *WebRTC) patch(rw http.ResponseWriter, r *http.Request, s *rtcSession) error {
	match := r.Header.Get("If-Match")
	if match == "" {
		return refuse(http.StatusPreconditionRequired, "If-Match is missing")
	}
	body, err := readBody(r, TypeFragment)
	if err != nil {
		return err
	}
	f, err := parseFragment(body)
	if err != nil {
		return err
	}
	if match == "*" {
		answer, err := s.restart(r.Context(), f)
		if err != nil {
			return err
		}
		rw.Header().Set("Content-Type", TypeFragment)
		rw.Header().Set("ETag", s.etag())
		rw.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(rw, answer)
		return nil
	}
	if err := s.trickle(match, f); err != nil {
		return err
	}
	rw.WriteHeader(http.StatusNoContent)
	return nil
}

// find returns the session of a request that may change it. A foreign session
// and none are the same 404 only to who holds no credentials for it.
func (w *WebRTC) find(r *http.Request) (*rtcSession, error) {
	token := bearer(r)
	if token == "" {
		return nil, ErrUnauthorized
	}
	w.mu.Lock()
	s := w.live[r.PathValue("id")]
	w.mu.Unlock()
	given := digestOf(token)
	if s == nil || !(s.secretDigest.equal(given) || s.hasBearer && s.bearerDigest.equal(given)) {
		return nil, refuse(http.StatusNotFound, "no such session")
	}
	return s, nil
}

// readBody reads a body of the type wanted.
func readBody(r *http.Request, want string) (string, error) {
	if got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || got != want {
		return "", refuse(http.StatusUnsupportedMediaType, "the body's type must be %s", want)
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, rtcMaxBody+1))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) { // by the program's own limit
		return "", refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return "", refuse(http.StatusBadRequest, "the body could not be read")
	}
	if len(b) > rtcMaxBody {
		return "", refuse(http.StatusRequestEntityTooLarge, "the body is over %d bytes", rtcMaxBody)
	}
	return string(b), nil
}

// fail answers an error as a problem (RFC 9457).
func (w *WebRTC) fail(rw http.ResponseWriter, err error) {
	status, why := http.StatusInternalServerError, "internal error"
	var no *refusal
	switch {
	case errors.As(err, &no):
		status, why = no.status, no.why
	case errors.Is(err, ErrUnauthorized):
		rw.Header().Set("WWW-Authenticate", "Bearer")
		status, why = http.StatusUnauthorized, "a bearer token is needed"
	case errors.Is(err, ErrForbidden):
		status, why = http.StatusForbidden, "not allowed"
	case errors.Is(err, ErrTooMany):
		rw.Header().Set("Retry-After", "10")
		status, why = http.StatusTooManyRequests, "too many attempts, try later"
	case errors.Is(err, ErrNoAgent):
		status, why = http.StatusNotFound, "no such agent"
	case errors.Is(err, ErrEnded):
		status, why = http.StatusGone, "the call has ended"
	case errors.Is(err, ErrDraining), errors.Is(err, ErrUnavailable):
		rw.Header().Set("Retry-After", "2")
		status, why = http.StatusServiceUnavailable, "calls are not taken at the moment, try again"
	case errors.Is(err, ErrBusy):
		rw.Header().Set("Retry-After", "10")
		status, why = http.StatusServiceUnavailable, "no capacity left, try later"
	default:
		w.o.Logger.Error("webrtc request", "err", err)
	}
	if w.o.Metrics.Refused != nil {
		w.o.Metrics.Refused(status)
	}
	rw.Header().Set("Content-Type", "application/problem+json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}{http.StatusText(status), status, "webrtc_" + strconv.Itoa(status), strings.ToValidUTF8(why, "?")})
}
