package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
)

// roleRTC is the floor of browsers' calls: pion with its defaults sends back
// what comes, without a codec.
const roleRTC = "rtc"

// serveRTCFloor is its process.
func serveRTCFloor(ctx context.Context, args []string) error {
	f := flag.NewFlagSet(roleRTC, flag.ContinueOnError)
	listen := f.String("listen", "", "host:port of the offers")
	f.String("recognizer", "", "not used")
	if err := f.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(answerEcho), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// codecOf is a codec as browsers name it.
func codecOf(mime string) webrtc.RTPCodecParameters {
	if mime == webrtc.MimeTypeOpus {
		return webrtc.RTPCodecParameters{PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: mime, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}}
	}
	return webrtc.RTPCodecParameters{PayloadType: 0, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: mime, ClockRate: phoneRate}}
}

// loopbackAPI is pion with one codec and its usual interceptors, on the
// loopback interface.
func loopbackAPI(mime string) (*webrtc.API, error) {
	se := webrtc.SettingEngine{}
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetIncludeLoopbackCandidate(true)
	se.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	me := &webrtc.MediaEngine{}
	if err := me.RegisterCodec(codecOf(mime), webrtc.RTPCodecTypeAudio); err != nil {
		return nil, err
	}
	reg := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(me, reg); err != nil {
		return nil, err
	}
	return webrtc.NewAPI(webrtc.WithSettingEngine(se), webrtc.WithMediaEngine(me), webrtc.WithInterceptorRegistry(reg)), nil
}

// answerEcho answers an offer with an echo, until the party has gone.
func answerEcho(w http.ResponseWriter, r *http.Request) {
	offer, err := io.ReadAll(r.Body)
	if err != nil || len(offer) == 0 {
		return // somebody asks whether we are up
	}
	answer, err := echo(string(offer))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, answer)
}

func echo(offer string) (answer string, err error) {
	api, err := loopbackAPI(webrtc.MimeTypePCMU)
	if err != nil {
		return "", err
	}
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", err
	}
	back, err := webrtc.NewTrackLocalStaticRTP(codecOf(webrtc.MimeTypePCMU).RTPCodecCapability, "audio", "echo")
	if err != nil {
		return "", err
	}
	if _, err := pc.AddTrack(back); err != nil {
		return "", err
	}
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := t.ReadRTP()
			if err != nil || back.WriteRTP(p) != nil {
				return
			}
		}
	})
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateFailed || s == webrtc.PeerConnectionStateDisconnected {
			_ = pc.Close() // it is gone already
		}
	})
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	local, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(local); err != nil {
		return "", err
	}
	<-gathered
	return pc.LocalDescription().SDP, nil
}
