package main

import (
	"context"
	"time"

	"github.com/pion/webrtc/v4"
)

// browsers is how many of them call in S10: each costs the load more than a
// telephone, and a gateway takes sixty offers a minute from one of them.
const browsers = 40

// browserCalls is S10: the pion echo before and after, calls with G.711, and
// with Opus.
func (s *suite) browserCalls(ctx context.Context) error {
	plain, err := rtcVoices(webrtc.MimeTypePCMU)
	if err != nil {
		return err
	}
	opus, err := rtcVoices(webrtc.MimeTypeOpus)
	if err != nil {
		return err
	}
	before, err := s.rtcEcho(ctx, plain)
	if err != nil {
		return err
	}
	h, err := s.rtcGateway(ctx, webrtc.MimeTypePCMU, plain)
	if err != nil {
		return err
	}
	coded, err := s.rtcGateway(ctx, webrtc.MimeTypeOpus, opus)
	if err != nil {
		return err
	}
	after, err := s.rtcEcho(ctx, plain)
	if err == nil {
		s.report.browsers(before, h, coded, after)
	}
	return err
}

func (s *suite) rtcEcho(ctx context.Context, said *voices) (held, error) {
	t, err := s.floor(ctx, roleRTC)
	if err != nil {
		return held{}, err
	}
	defer func() { _ = t.end() }()
	t.place = func(ctx context.Context, _ script) (*caller, error) {
		return s.fleet.dialRTC(ctx, t.url, "", webrtc.MimeTypePCMU, said, streaming)
	}
	return s.hold(ctx, t, browsers, streaming, 4*time.Second, s.o.measure/2)
}

func (s *suite) rtcGateway(ctx context.Context, mime string, said *voices) (held, error) {
	t, err := s.gateway(ctx, noLimit, "PARLEY_MAX_LATE=0")
	if err != nil {
		return held{}, err
	}
	defer func() { _ = t.end() }()
	t.place = func(ctx context.Context, sc script) (*caller, error) {
		return s.fleet.dialRTC(ctx, t.url+"/webrtc/"+benchAgent, t.key, mime, said, sc)
	}
	return s.hold(ctx, t, browsers, talk, 8*time.Second, s.o.measure/2)
}
