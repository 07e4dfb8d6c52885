package signaling

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// rtcMaxCandidates bounds the candidates of one session, in the offer and
// trickled: each costs a check against every address of ours.
const rtcMaxCandidates = 64

// A refusal is what is wrong with a request, for the one who sent it.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// An rtcOffer is an offer found good.
type rtcOffer struct {
	sdp        string
	codec      webrtc.RTPCodecCapability
	ufrag, pwd string
	candidates int
}

// parseOffer checks an offer before anything is built for it: one audio part
// with a codec of ours, at most one data channel part, bundled.
func parseOffer(body string) (rtcOffer, error) {
	o := rtcOffer{sdp: body}
	if n := strings.Count("\n"+body, "\nv="); n != 1 {
		return o, refuse(http.StatusBadRequest, "the body holds %d session descriptions, not one", n)
	}
	var d sdp.SessionDescription
	if err := d.UnmarshalString(body); err != nil {
		return o, refuse(http.StatusBadRequest, "the body is not a session description")
	}
	var audio *sdp.MediaDescription
	data := 0
	for _, m := range d.MediaDescriptions {
		switch {
		case m.MediaName.Media == "audio" && audio == nil:
			audio = m
		case m.MediaName.Media == "application" && data == 0:
			data++
		default:
			return o, refuse(http.StatusNotAcceptable, "only one audio and one data channel part are taken, not %q", clip(m.MediaName.Media))
		}
		o.candidates += count(m.Attributes, "candidate")
	}
	if audio == nil {
		return o, refuse(http.StatusNotAcceptable, "the offer holds no audio")
	}
	o.candidates += count(d.Attributes, "candidate")
	if o.candidates > rtcMaxCandidates {
		return o, refuse(http.StatusUnprocessableEntity, "%d candidates, at most %d are taken", o.candidates, rtcMaxCandidates)
	}
	return o, o.check(&d, audio)
}

func (o *rtcOffer) check(d *sdp.SessionDescription, audio *sdp.MediaDescription) error {
	attr := func(key string) string {
		if v, ok := audio.Attribute(key); ok {
			return v
		}
		v, _ := d.Attribute(key)
		return v
	}
	o.ufrag, o.pwd = attr("ice-ufrag"), attr("ice-pwd")
	if !iceWord(o.ufrag, 4) || !iceWord(o.pwd, 22) || attr("fingerprint") == "" {
		return refuse(http.StatusBadRequest, "ice-ufrag, ice-pwd or fingerprint is missing")
	}
	if _, inactive := audio.Attribute("inactive"); inactive || audio.MediaName.Port.Value == 0 {
		return refuse(http.StatusNotAcceptable, "the audio is inactive")
	}
	if len(d.MediaDescriptions) > 1 && !strings.HasPrefix(attr("group"), "BUNDLE") {
		return refuse(http.StatusNotAcceptable, "the parts are not bundled")
	}
	if _, ok := audio.Attribute("rtcp-mux"); !ok {
		return refuse(http.StatusNotAcceptable, "rtcp-mux is missing")
	}
	codec, ok := pickCodec(audio)
	if !ok {
		return refuse(http.StatusNotAcceptable, "none of opus, PCMU and PCMA is offered")
	}
	o.codec = codec
	return nil
}

// pickCodec returns the best of our codecs that the part offers. PCMU and PCMA
// need no rtpmap (RFC 3551 §6).
func pickCodec(audio *sdp.MediaDescription) (webrtc.RTPCodecCapability, bool) {
	has := map[string]bool{}
	formats := map[string]bool{}
	for _, f := range audio.MediaName.Formats {
		formats[f] = true
	}
	has["pcmu/8000"], has["pcma/8000"] = formats["0"], formats["8"]
	for _, a := range audio.Attributes {
		if a.Key != "rtpmap" {
			continue
		}
		if pt, codec, ok := strings.Cut(a.Value, " "); ok && formats[pt] {
			has[strings.ToLower(strings.TrimSpace(codec))] = true
		}
	}
	switch {
	case has["opus/48000/2"]:
		return rtcOpus, true
	case has["pcmu/8000"], has["pcmu/8000/1"]:
		return rtcPCMU, true
	case has["pcma/8000"], has["pcma/8000/1"]:
		return rtcPCMA, true
	}
	return webrtc.RTPCodecCapability{}, false
}

// A fragment is a body of type application/trickle-ice-sdpfrag (RFC 8840 §4.4).
type fragment struct {
	ufrag, pwd string
	candidates []string // without "a="
	end        bool     // a=end-of-candidates
}

// parseFragment reads a PATCH's body. Lines it does not know are passed over.
func parseFragment(body string) (fragment, error) {
	var f fragment
	lines := bufio.NewScanner(strings.NewReader(body))
	lines.Buffer(make([]byte, 0, 1024), rtcMaxBody)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		if len(line) < 2 || line[1] != '=' || strings.HasPrefix(line, "v=") {
			return f, refuse(http.StatusBadRequest, "the body is not an SDP fragment")
		}
		key, value, _ := strings.Cut(strings.TrimPrefix(line, "a="), ":")
		switch key {
		case "ice-ufrag":
			f.ufrag = value
		case "ice-pwd":
			f.pwd = value
		case "candidate":
			f.candidates = append(f.candidates, key+":"+value)
		case "end-of-candidates":
			f.end = true
		}
	}
	switch {
	case lines.Err() != nil:
		return f, refuse(http.StatusBadRequest, "the body is not an SDP fragment")
	case len(f.candidates) > rtcMaxCandidates:
		return f, refuse(http.StatusUnprocessableEntity, "%d candidates, at most %d are taken", len(f.candidates), rtcMaxCandidates)
	case f.ufrag != "" && !iceWord(f.ufrag, 4), f.pwd != "" && !iceWord(f.pwd, 22):
		return f, refuse(http.StatusBadRequest, "ice-ufrag or ice-pwd is malformed")
	case f.ufrag == "" && len(f.candidates) == 0 && !f.end:
		return f, refuse(http.StatusBadRequest, "the fragment holds nothing")
	}
	return f, nil
}

// restarted returns the offer with its ICE words and candidates replaced by the
// fragment's (RFC 9725 §4.4.3).
func (o rtcOffer) restarted(f fragment) rtcOffer {
	var b strings.Builder
	put := false
	for line := range strings.Lines(o.sdp) {
		text := strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(text, "a=ice-ufrag:"):
			text = "a=ice-ufrag:" + f.ufrag
		case strings.HasPrefix(text, "a=ice-pwd:"):
			text = "a=ice-pwd:" + f.pwd
		case strings.HasPrefix(text, "a=candidate:"), text == "a=end-of-candidates":
			continue
		}
		b.WriteString(text + "\r\n")
		if !put && strings.HasPrefix(text, "a=mid:") {
			put = true
			for _, c := range f.candidates {
				b.WriteString("a=" + c + "\r\n")
			}
		}
	}
	o.sdp, o.ufrag, o.pwd, o.candidates = b.String(), f.ufrag, f.pwd, len(f.candidates)
	return o
}

// answerFragment returns what an ICE restart is answered with: our ICE words and
// candidates out of the answer.
func answerFragment(answer string) string {
	var b strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(answer) {
		text := strings.TrimRight(line, "\r\n")
		for _, p := range []string{"a=ice-ufrag:", "a=ice-pwd:", "a=ice-lite", "a=candidate:", "a=end-of-candidates", "m=audio", "a=mid:"} {
			if strings.HasPrefix(text, p) && !seen[text] && (p != "a=mid:" || !seen["mid"]) {
				seen[text] = true
				seen["mid"] = seen["mid"] || p == "a=mid:"
				b.WriteString(text + "\r\n")
			}
		}
	}
	return b.String()
}

// iceWord reports whether s is an ice-char string (RFC 8839 §5.4) of at least n.
func iceWord(s string, n int) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/') {
			return false
		}
	}
	return len(s) >= n && len(s) <= 256
}

func count(attrs []sdp.Attribute, key string) (n int) {
	for _, a := range attrs {
		if a.Key == key {
			n++
		}
	}
	return n
}

func clip(s string) string { return s[:min(len(s), 20)] }
