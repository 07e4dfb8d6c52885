package signaling_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"parley/signaling"
)

const goodOffer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" +
	"a=group:BUNDLE 0 1\r\na=fingerprint:sha-256 " + testPrint + "\r\n" +
	goodAudio +
	"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=setup:actpass\r\na=sctp-port:5000\r\n" + iceWords

const (
	testPrint = "0F:74:31:25:CB:A2:13:EC:28:6F:6D:2C:61:FF:5D:C2:BC:B9:DB:3D:98:14:8D:1A:BB:EA:33:0C:A4:60:A8:8E"
	iceWords  = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
	goodAudio = "m=audio 9 UDP/TLS/RTP/SAVPF 111 0 126\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=setup:actpass\r\n" +
		"a=rtpmap:111 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:126 telephone-event/8000\r\n" + iceWords
)

type offerAnswer struct {
	*http.Response
	body string
}

func postOffer(t testing.TB, url, offer string, header map[string]string) offerAnswer {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url+"/webrtc/demo", strings.NewReader(offer))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/sdp")
	req.Header.Set("Authorization", "Bearer "+rtcBearer)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return offerAnswer{res, string(b)}
}

func candidates(n int) (s string) {
	for i := range n {
		s += fmt.Sprintf("a=candidate:%d 1 udp 2130706431 127.0.0.1 %d typ host\r\n", i, 1000+i)
	}
	return s
}

func TestWebRTCRefusals(t *testing.T) {
	url, _ := rtcGateway(t, newRTCDesk(), nil)
	video := strings.ReplaceAll(strings.ReplaceAll(goodAudio, "m=audio", "m=video"), "opus/48000/2", "VP8/90000")
	session := goodOffer[:strings.Index(goodOffer, "m=")]
	for _, tc := range []struct {
		name, offer string
		header      map[string]string
		want        int
	}{
		{"garbage", "hello", nil, 400},
		{"empty", "", nil, 400},
		{"binary", "v=0\r\n\x00\xff\xfe", nil, 400},
		{"two-offers", goodOffer + goodOffer, nil, 400},
		{"no-ice", strings.ReplaceAll(goodOffer, "a=ice-ufrag:abcd\r\n", ""), nil, 400},
		{"no-fingerprint", strings.ReplaceAll(goodOffer, "a=fingerprint", "a=finger"), nil, 400},
		{"no-media", session, nil, 406},
		{"video-only", session + video, nil, 406},
		{"video-too", goodOffer + video, nil, 406},
		{"two-audio", goodOffer + goodAudio, nil, 406},
		{"no-codec", strings.NewReplacer("opus", "speex", "PCMU", "iLBC", " 0 126", " 126").Replace(goodOffer), nil, 406},
		{"inactive", strings.ReplaceAll(goodOffer, "a=sendrecv", "a=inactive"), nil, 406},
		{"no-mux", strings.ReplaceAll(goodOffer, "a=rtcp-mux\r\n", ""), nil, 406},
		{"no-bundle", strings.ReplaceAll(goodOffer, "a=group:BUNDLE 0 1\r\n", ""), nil, 406},
		{"candidates-200", goodOffer + candidates(200), nil, 422},
		{"wrong-type", goodOffer, map[string]string{"Content-Type": "application/json"}, 415},
		{"too-large", goodOffer + strings.Repeat("a=x\r\n", 20000), nil, 413},
		{"no-token", goodOffer, map[string]string{"Authorization": ""}, 401},
		{"wrong-token", goodOffer, map[string]string{"Authorization": "Bearer wrong"}, 403},
		{"too-often", goodOffer, map[string]string{"Authorization": "Bearer often"}, 429},
		{"unknown-resume", goodOffer, map[string]string{"Parley-Resume": "nope"}, 410},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := postOffer(t, url, tc.offer, tc.header)
			if res.StatusCode != tc.want {
				t.Errorf("status %d (%s), want %d", res.StatusCode, res.body, tc.want)
			}
			if !strings.Contains(res.body, `"detail":"`) || res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("no reason given: %s", res.body)
			}
			if tc.want == 401 && res.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Error("no WWW-Authenticate")
			}
		})
	}
}

func TestWebRTCDeskRefusals(t *testing.T) {
	d := newRTCDesk()
	url, _ := rtcGateway(t, d, nil)
	for err, want := range map[error]int{
		signaling.ErrNoAgent: 404, signaling.ErrBusy: 503, signaling.ErrEnded: 410, io.ErrUnexpectedEOF: 500,
	} {
		d.mu.Lock()
		d.arrive = err
		d.mu.Unlock()
		if res := postOffer(t, url, goodOffer, nil); res.StatusCode != want {
			t.Errorf("%v: status %d, want %d", err, res.StatusCode, want)
		}
	}
}

func TestWebRTCCapacity(t *testing.T) {
	url, _ := rtcGateway(t, newRTCDesk(), func(o *signaling.WebRTCOptions) { o.MaxSessions = 1 })
	if res := postOffer(t, url, goodOffer, nil); res.StatusCode != 201 {
		t.Fatalf("status %d (%s)", res.StatusCode, res.body)
	}
	if res := postOffer(t, url, goodOffer, nil); res.StatusCode != 503 {
		t.Errorf("status %d, want 503", res.StatusCode)
	}
}

func TestWebRTCMethods(t *testing.T) {
	url, _ := rtcGateway(t, newRTCDesk(), nil)
	for _, tc := range []struct {
		method, path string
		want         int
		header       string
	}{
		{"OPTIONS", "/webrtc/demo", 200, "Accept-Post"},
		{"OPTIONS", "/webrtc/session/x", 200, "Accept-Patch"},
		{"GET", "/webrtc/demo", 405, "Allow"},
		{"PUT", "/webrtc/demo", 405, "Allow"},
		{"DELETE", "/webrtc/demo", 405, "Allow"},
		{"GET", "/webrtc/session/x", 405, "Allow"},
		{"POST", "/webrtc/session/x", 405, "Allow"},
		{"DELETE", "/webrtc/session/x", 401, "WWW-Authenticate"},
	} {
		req, _ := http.NewRequest(tc.method, url+tc.path, nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tc.want || res.Header.Get(tc.header) == "" {
			t.Errorf("%s %s: %d, %s %q; want %d", tc.method, tc.path, res.StatusCode, tc.header, res.Header.Get(tc.header), tc.want)
		}
		if got := res.Header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("%s %s lets pages of %q call", tc.method, tc.path, got)
		}
	}
}

// FuzzWebRTCOffer holds that no offer breaks the gateway: it is answered or
// refused with a reason.
func FuzzWebRTCOffer(f *testing.F) {
	f.Add(goodOffer)
	f.Add("v=0\r\nm=audio 9 RTP/AVP 0\r\n")
	f.Add(goodOffer + candidates(3))
	f.Add(strings.ReplaceAll(goodOffer, "a=mid:0", "a=mid:1"))
	f.Add(strings.ReplaceAll(goodOffer, "sha-256", "sha-999"))
	d := newRTCDesk()
	w, err := signaling.ListenWebRTC(signaling.WebRTCOptions{
		Desk: d, Loopback: true, Authorize: func(*http.Request, string) (string, error) { return "", nil }, ConnectWait: 1,
	})
	if err != nil {
		f.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, r := range w.Routes() {
		mux.Handle(r.Pattern, r.Handler)
	}
	f.Cleanup(func() {
		if err := w.Shutdown(f.Context()); err != nil {
			f.Log(err)
		}
	})
	f.Fuzz(func(t *testing.T, offer string) {
		rec := newAnswer()
		req, err := http.NewRequest(http.MethodPost, "/webrtc/demo", strings.NewReader(offer))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/sdp")
		mux.ServeHTTP(rec, req)
		switch rec.status {
		case 201, 400, 406, 413, 422:
		default:
			t.Errorf("status %d for %q", rec.status, offer)
		}
	})
}

type answer struct {
	status int
	header http.Header
}

func newAnswer() *answer                      { return &answer{header: http.Header{}} }
func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(b []byte) (int, error) { return len(b), nil }
func (a *answer) WriteHeader(status int)      { a.status = status }
