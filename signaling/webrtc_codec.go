package signaling

import (
	"fmt"
	"strings"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"
)

// The codecs taken, best first. Opus is asked to carry FEC (RFC 7587 §6.1);
// key presses come as RFC 4733 events at either clock.
var (
	rtcOpus = webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
	}
	rtcPCMU    = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}
	rtcPCMA    = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMA, ClockRate: 8000}
	rtcDigits  = webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: 8000, SDPFmtpLine: "0-15"}
	rtcDigits2 = webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: 48000, SDPFmtpLine: "0-15"}
)

var rtcPayloads = []webrtc.RTPCodecParameters{
	{RTPCodecCapability: rtcOpus, PayloadType: 111},
	{RTPCodecCapability: rtcPCMU, PayloadType: 0},
	{RTPCodecCapability: rtcPCMA, PayloadType: 8},
	{RTPCodecCapability: rtcDigits, PayloadType: 126},
	{RTPCodecCapability: rtcDigits2, PayloadType: 110},
}

func rtcCodecs() (*webrtc.MediaEngine, error) {
	me := &webrtc.MediaEngine{}
	for _, c := range rtcPayloads {
		if err := me.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, fmt.Errorf("register %s: %w", c.MimeType, err)
		}
	}
	return me, nil
}

// rtcPrefer returns the codecs to answer with when audio is spoken by codec.
func rtcPrefer(codec webrtc.RTPCodecCapability) []webrtc.RTPCodecParameters {
	var out []webrtc.RTPCodecParameters
	for _, c := range rtcPayloads {
		if c.MimeType == codec.MimeType || rtcIsDigits(c.MimeType) {
			out = append(out, c)
		}
	}
	return out
}

func rtcIsDigits(mime string) bool { return strings.EqualFold(mime, rtcDigits.MimeType) }

// rtcQuiet switches off names for local addresses, which we could not resolve,
// and the library's own log, which would print addresses of callers.
func rtcQuiet(se *webrtc.SettingEngine) {
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	log := logging.NewDefaultLoggerFactory()
	log.DefaultLogLevel = logging.LogLevelDisabled
	se.LoggerFactory = log
}
