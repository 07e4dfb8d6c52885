package signaling

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

const (
	carrierWebRTC = "webrtc"
	rtcTeardown   = 2 * time.Second
	rtcGather     = 3 * time.Second
)

// An rtcSession is one browser's call, from its offer to its end.
type rtcSession struct {
	w     *WebRTC
	id    string // not secret: in Location
	agent string
	call  Admitted
	pc    *webrtc.PeerConnection
	leg   *rtcLeg

	secret                     string
	secretDigest, bearerDigest digest
	hasBearer                  bool

	mu      sync.Mutex // guards what follows, and a renegotiation
	offer   rtcOffer
	version int
}

func (w *WebRTC) reserve() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down || len(w.live)+w.coming >= w.o.MaxSessions {
		return ErrBusy
	}
	w.coming++
	w.sessions.Add(1) // Shutdown waits for offers being answered too
	return nil
}

func (w *WebRTC) release() {
	w.mu.Lock()
	w.coming--
	w.mu.Unlock()
	w.sessions.Done()
}

func (w *WebRTC) newSession(offer rtcOffer, agent, bearer string) (*rtcSession, error) {
	pc, err := w.api.NewPeerConnection(webrtc.Configuration{Certificates: w.certs})
	if err != nil {
		return nil, fmt.Errorf("new peer connection: %w", err)
	}
	s := &rtcSession{w: w, id: rtcSecret()[:22], agent: agent, pc: pc, offer: offer, version: 1, secret: rtcSecret()}
	s.secretDigest = digestOf(s.secret)
	if bearer != "" {
		s.bearerDigest, s.hasBearer = digestOf(bearer), true
	}
	s.leg, err = newRTCLeg(w, pc, offer.codec)
	if err != nil {
		_ = pc.Close() // never used
		return nil, err
	}
	return s, nil
}

// answer puts the offer in and returns the answer with all our candidates.
func (s *rtcSession) answer(ctx context.Context, offer rtcOffer) (string, error) {
	err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer.sdp})
	if err != nil {
		s.w.o.Logger.Debug("webrtc offer", "err", err)
		return "", refuse(http.StatusBadRequest, "the offer cannot be used")
	}
	answer, err := s.pc.CreateAnswer(nil)
	if err != nil {
		s.w.o.Logger.Debug("webrtc answer", "err", err)
		return "", refuse(http.StatusNotAcceptable, "the offer cannot be answered")
	}
	gathered := webrtc.GatheringCompletePromise(s.pc)
	if err := s.pc.SetLocalDescription(answer); err != nil {
		return "", fmt.Errorf("set local description: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, rtcGather)
	defer cancel()
	select {
	case <-gathered:
	case <-s.leg.done:
	case <-ctx.Done():
		return "", fmt.Errorf("gather candidates: %w", ctx.Err())
	}
	d := s.pc.LocalDescription()
	if d == nil {
		return "", ErrEnded
	}
	return d.SDP, nil
}

// etag changes with every ICE generation.
func (s *rtcSession) etag() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tag()
}

func (s *rtcSession) tag() string { return strconv.Quote(s.id[:8] + "-" + strconv.Itoa(s.version)) }

// trickle adds a fragment's candidates to the generation that match names.
func (s *rtcSession) trickle(match string, f fragment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if match != s.tag() {
		return refuse(http.StatusPreconditionFailed, "If-Match names another ICE generation")
	}
	if f.ufrag != "" && f.ufrag != s.offer.ufrag {
		return refuse(http.StatusUnprocessableEntity, "an ICE restart needs If-Match: *")
	}
	if s.offer.candidates+len(f.candidates) > rtcMaxCandidates {
		return refuse(http.StatusUnprocessableEntity, "over %d candidates", rtcMaxCandidates)
	}
	s.offer.candidates += len(f.candidates)
	zero := uint16(0)
	for _, c := range f.candidates {
		// One the library does not know (another family, a name) is no fault of
		// the caller's: others will do.
		if err := s.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c, SDPMLineIndex: &zero}); err != nil {
			s.w.o.Logger.Debug("webrtc candidate", "err", err)
		}
	}
	return nil
}

// restart begins another ICE generation.
func (s *rtcSession) restart(ctx context.Context, f fragment) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.ufrag == "" || f.pwd == "" || f.ufrag == s.offer.ufrag {
		return "", refuse(http.StatusUnprocessableEntity, "an ICE restart needs a new ice-ufrag and ice-pwd")
	}
	offer := s.offer.restarted(f)
	answer, err := s.answer(ctx, offer)
	if err != nil {
		return "", err
	}
	s.offer = offer
	s.version++
	return answerFragment(answer), nil
}

// hello puts the session's first message before all others. Until the offer is
// answered there is no channel that could open.
func (s *rtcSession) hello() error {
	resume, err := s.w.o.Resume.Mint(s.agent, s.call.CallID+" "+s.leg.who)
	if err != nil {
		return err
	}
	first, err := json.Marshal(rtcHello{"session", s.id, s.secret, resume, int(s.w.o.ResumeFor / time.Second)})
	if err != nil {
		return fmt.Errorf("encode hello: %w", err)
	}
	s.secret = ""
	s.leg.data.send(first)
	return nil
}

// admit begins the session's own goroutine.
func (w *WebRTC) admit(s *rtcSession) error {
	if err := s.hello(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return ErrBusy
	}
	w.live[s.id] = s
	w.sessions.Add(1)
	go func() {
		defer w.sessions.Done()
		s.run()
	}()
	return nil
}

// redeem uses a resume token up and returns the call it goes on with, and who began
// it. A session of it here is ended first; one elsewhere ends as Desk serves the
// call anew.
func (w *WebRTC) redeem(ctx context.Context, token, agent string) (callID, who string, err error) {
	claim, err := w.o.Resume.Redeem(ctx, token)
	switch {
	case err != nil:
		return "", "", refuse(http.StatusGone, "the resume token is unknown, used or expired")
	case !claim.For(agent):
		return "", "", ErrForbidden
	}
	callID, who, _ = strings.Cut(claim.CallID, " ")
	w.mu.Lock()
	var before *rtcSession
	for _, s := range w.live {
		if s.call.CallID == callID {
			before = s
		}
	}
	w.mu.Unlock()
	if before == nil {
		return callID, who, nil
	}
	before.leg.end("network") // to the call it is a line that broke, not a hang-up
	ctx, cancel := context.WithTimeout(ctx, 2*rtcTeardown)
	defer cancel()
	select {
	case <-before.leg.gone:
		return callID, who, nil
	case <-ctx.Done():
		return "", "", ErrBusy
	}
}

// run waits for the media, has the call served, and leaves nothing behind.
func (s *rtcSession) run() {
	w := s.w
	defer s.finish()
	log := w.o.Logger.With("call_id", s.call.CallID, "session", s.id)
	wait := time.NewTimer(w.o.ConnectWait)
	defer wait.Stop()
	select {
	case <-s.leg.up:
	case <-s.leg.done:
	case <-wait.C:
		s.leg.end("never-connected")
	}
	select {
	case <-s.leg.up:
	default:
		log.Info("webrtc call never connected")
		s.leg.events.discard()
		if err := s.leg.teardown(); err != nil {
			log.Warn("webrtc call never connected", "err", err)
		}
		w.tellFailed(s)
		return
	}
	// The call outlives the request; it ends by the leg.
	if err := w.o.Desk.Serve(context.Background(), s.call.CallID, s.leg); err != nil {
		log.Error("webrtc call", "err", err)
	}
	if err := s.leg.Close("served"); err != nil {
		log.Warn("webrtc call", "err", err)
	}
}

func (s *rtcSession) finish() {
	w := s.w
	w.mu.Lock()
	delete(w.live, s.id)
	w.mu.Unlock()
	if w.o.Metrics.Ended != nil {
		w.o.Metrics.Ended(s.leg.reason())
	}
	if w.o.Metrics.Jitter != nil {
		w.o.Metrics.Jitter(s.leg.in.stats())
	}
	close(s.leg.gone)
}

// abandon undoes a session that was never admitted.
func (s *rtcSession) abandon() {
	s.leg.end("refused")
	s.leg.events.discard()
	_ = s.leg.teardown() // logged nowhere: the refusal is what matters
}

// tellFailed closes a call that arrived and was never served.
func (w *WebRTC) tellFailed(s *rtcSession) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := w.o.Desk.Status(ctx, CarrierStatus{Carrier: carrierWebRTC, CarrierCallID: s.id, Kind: "call", Status: "failed"})
	if err != nil {
		w.o.Logger.Warn("webrtc call failed, and so did closing it", "call_id", s.call.CallID, "err", err)
	}
}
