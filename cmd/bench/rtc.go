package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"parley/media"
)

// An rtcLine is a browser's line: what a caller writes goes out as RTP.
type rtcLine struct {
	pc    *webrtc.PeerConnection
	track *webrtc.TrackLocalStaticRTP
	head  rtp.Header
	step  uint32
}

// Write sends a frame's payload.
func (l *rtcLine) Write(payload []byte) (int, error) {
	err := l.track.WriteRTP(&rtp.Packet{Header: l.head, Payload: payload})
	l.head.SequenceNumber++
	l.head.Timestamp += l.step
	return len(payload), err
}

// Close hangs up.
func (l *rtcLine) Close() error { return l.pc.Close() }

// rtcVoices are what a browser's callers say, as payloads of its codec.
func rtcVoices(mime string) (*voices, error) {
	if mime == webrtc.MimeTypePCMU {
		pcm := vowels(phoneRate, 0.25)
		v := &voices{silence: ulawSilence()}
		for i := 0; i+frameBytes <= len(pcm); i += frameBytes {
			v.speech = append(v.speech, media.EncodePCMU(nil, pcm[i:i+frameBytes]))
		}
		return v, nil
	}
	var pool media.OpusPool
	enc, err := pool.Encoder()
	if err != nil {
		return nil, err
	}
	defer pool.PutEncoder(enc)
	pcm := vowels(media.OpusRate, 0.25)
	const frame = media.OpusRate / 50
	v := &voices{}
	for i := 0; i+frame <= len(pcm); i += frame {
		b, err := enc.Encode(nil, pcm[i:i+frame])
		if err != nil {
			return nil, err
		}
		v.speech = append(v.speech, b)
	}
	for range 10 { // until it has forgotten the speech
		if v.silence, err = enc.Encode(nil, make([]int16, frame)); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// dialRTC places a browser's call.
func (f *fleet) dialRTC(ctx context.Context, address, bearer, mime string, said *voices, s script) (*caller, error) {
	api, err := loopbackAPI(mime)
	if err != nil {
		return nil, err
	}
	codec := codecOf(mime).RTPCodecCapability
	l := &rtcLine{head: rtp.Header{Version: 2}, step: codec.ClockRate / 50}
	if l.pc, err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return nil, err
	}
	if l.track, err = webrtc.NewTrackLocalStaticRTP(codec, "audio", "caller"); err != nil {
		return nil, err
	}
	c, err := f.connectRTC(ctx, l, address, bearer, said, s)
	if err != nil {
		_ = l.Close()
	}
	return c, err
}

func (f *fleet) connectRTC(ctx context.Context, l *rtcLine, address, bearer string, said *voices, s script) (*caller, error) {
	if _, err := l.pc.AddTrack(l.track); err != nil {
		return nil, err
	}
	if _, err := l.pc.CreateDataChannel("events", nil); err != nil {
		return nil, err
	}
	up, heard := make(chan struct{}), make(chan *webrtc.TrackRemote, 1)
	l.pc.OnConnectionStateChange(func(st webrtc.PeerConnectionState) {
		if st == webrtc.PeerConnectionStateConnected {
			close(up)
		}
	})
	l.pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { heard <- t })
	if err := f.negotiate(ctx, l, address, bearer); err != nil {
		return nil, err
	}
	select {
	case <-up:
	case <-time.After(10 * time.Second):
		return nil, errors.New("webrtc: no connection in 10 s")
	}
	c := f.newCaller(l, s)
	c.voices, c.label = said, said.silence
	f.join(c, func() {
		ended := make(chan struct{})
		l.pc.OnConnectionStateChange(func(st webrtc.PeerConnectionState) {
			if st == webrtc.PeerConnectionStateClosed || st == webrtc.PeerConnectionStateFailed {
				close(ended)
			}
		})
		select {
		case t := <-heard:
			buf := make([]byte, 1600)
			for {
				if _, _, err := t.Read(buf); err != nil {
					return
				}
				c.media(ptime, time.Now())
			}
		case <-ended:
		}
	})
	return c, nil
}

// negotiate exchanges descriptions, all candidates in them.
func (f *fleet) negotiate(ctx context.Context, l *rtcLine, address, bearer string) error {
	offer, err := l.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(l.pc)
	if err := l.pc.SetLocalDescription(offer); err != nil {
		return err
	}
	<-gathered
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(l.pc.LocalDescription().SDP))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/sdp")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusCreated {
		return fmt.Errorf("offer: status %d: %.200s: %w", res.StatusCode, answer, err)
	}
	return l.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)})
}
