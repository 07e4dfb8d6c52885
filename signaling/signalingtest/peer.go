package signalingtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"parley/media"
)

// PeerOptions describe a browser's call without a browser. URL and Agent must
// be set.
type PeerOptions struct {
	URL    string // of the gateway: "http://127.0.0.1:8080"
	Agent  string
	Bearer string
	Origin string
	Resume string // token of a session before

	Codec    string // "opus" (default), "PCMU" or "PCMA": the only one offered
	Trickle  bool   // offer no candidates, and PATCH them
	Loopback bool   // use 127.0.0.1 too
	NoPlayed bool   // never report what is played

	// Up and Down are the network from the caller to the gateway, and back: all
	// of it, with the data channel. Faulty allows Stall, Deafen and Silence
	// though they are perfect.
	Up, Down Line
	Faulty   bool

	// Packets is the socket of all media, which the peer closes. Nil: UDP.
	Packets net.PacketConn

	// Echo and Noise are added to Audio.
	Echo  Echo
	Noise Noise

	Client *http.Client // default http.DefaultClient

	// Audio gives the caller's next frame, 20 ms at 16 kHz, each tick of the
	// peer's clock; false sends nothing for it. Nil sends silence never.
	Audio func(pcm []int16) bool

	// Heard takes each frame of the agent's voice, 20 ms at 16 kHz, as it is
	// played. It may not keep pcm.
	Heard func(pcm []int16)
}

// A Peer is a caller over WebRTC.
type Peer struct {
	o       PeerOptions
	pc      *webrtc.PeerConnection
	dc      *webrtc.DataChannel
	track   *webrtc.TrackLocalStaticRTP
	opus    media.OpusPool
	events  chan json.RawMessage
	up      chan struct{}
	hello   chan struct{}
	done    chan struct{}
	stop    context.CancelFunc
	stopped context.Context // ends with the peer: a stream's own
	tasks   sync.WaitGroup
	faults  *datagrams     // nil: none can be made
	mux     io.Closer      // nil: the library's own sockets
	packets net.PacketConn // under mux

	mu       sync.Mutex // guards what follows
	ear      []int16    // the frame that is heard now
	closed   bool
	location string
	etag     string
	links    []string
	session  PeerSession
	in       *media.Jitter
	decoder  media.PacketDecoder
	playing  rtp.Header // of the newest packet
	anchor   time.Time  // when it came
	lastErr  error
}

// PeerSession is the first message of the data channel.
type PeerSession struct {
	ID        string `json:"id"`
	Secret    string `json:"secret"`
	Resume    string `json:"resume"`
	ResumeFor int    `json:"resume_for_s"`
}

// A StatusError is an HTTP answer that was not the one hoped for.
type StatusError struct {
	Status int
	Body   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Body) }

// Dial calls an agent and returns once audio can flow and the data channel is
// open, or ctx has ended. Close it in the end.
func Dial(ctx context.Context, o PeerOptions) (*Peer, error) {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	p := &Peer{
		o: o, events: make(chan json.RawMessage, 1024),
		up: make(chan struct{}), hello: make(chan struct{}), done: make(chan struct{}),
		ear: make([]int16, media.OpusRate/50),
	}
	p.stopped, p.stop = context.WithCancel(context.Background())
	if err := p.dial(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("call %s: %w", o.Agent, err), p.Close())
	}
	return p, nil
}

func (p *Peer) dial(ctx context.Context) error {
	if err := p.prepare(); err != nil {
		return err
	}
	if err := p.offer(ctx); err != nil {
		return err
	}
	for _, wait := range []chan struct{}{p.up, p.hello} {
		select {
		case <-wait:
		case <-p.done:
			return errors.New("the line was closed")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	err := p.lastErr
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("read the session message: %w", err)
	}
	p.task(p.speak)
	p.task(p.listen)
	if !p.o.NoPlayed {
		p.task(p.report)
	}
	return nil
}

// task runs f, and Close waits for it.
func (p *Peer) task(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.tasks.Add(1)
	go func() {
		defer p.tasks.Done()
		f()
	}()
}

// discard reads until there is no more.
func discard(read func([]byte) (int, interceptor.Attributes, error)) {
	buf := make([]byte, 1600)
	for {
		if _, _, err := read(buf); err != nil {
			return
		}
	}
}

// codec returns what the peer speaks.
func (p *Peer) codec() webrtc.RTPCodecCapability {
	switch p.o.Codec {
	case "PCMU":
		return webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}
	case "PCMA":
		return webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMA, ClockRate: 8000}
	}
	return webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
	}
}

func (p *Peer) api() (*webrtc.API, error) {
	se := webrtc.SettingEngine{}
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetIncludeLoopbackCandidate(p.o.Loopback)
	if err := p.socket(&se); err != nil {
		return nil, err
	}
	log := logging.NewDefaultLoggerFactory()
	log.DefaultLogLevel = logging.LogLevelDisabled
	se.LoggerFactory = log
	me := &webrtc.MediaEngine{}
	pt := map[string]webrtc.PayloadType{"PCMU": 0, "PCMA": 8}[p.o.Codec]
	if p.codec().MimeType == webrtc.MimeTypeOpus {
		pt = 111
	}
	for _, c := range []webrtc.RTPCodecParameters{
		{RTPCodecCapability: p.codec(), PayloadType: pt},
		{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: 8000}, PayloadType: 126},
	} {
		if err := me.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, fmt.Errorf("register codec: %w", err)
		}
	}
	reg := &interceptor.Registry{}
	rr, err := report.NewReceiverInterceptor(report.ReceiverInterval(500 * time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("receiver reports: %w", err)
	}
	reg.Add(rr)
	return webrtc.NewAPI(webrtc.WithSettingEngine(se), webrtc.WithMediaEngine(me), webrtc.WithInterceptorRegistry(reg)), nil
}

// socket makes a socket of the peer's own where the options ask for one.
func (p *Peer) socket(se *webrtc.SettingEngine) error {
	p.packets = p.o.Packets
	p.o.Faulty = p.o.Faulty || p.o.Up != Line{} || p.o.Down != Line{}
	if p.packets == nil && !p.o.Faulty {
		return nil
	}
	if p.packets == nil {
		udp, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return fmt.Errorf("open media port: %w", err)
		}
		p.packets = udp
	}
	if p.o.Faulty {
		p.faults = newDatagrams(p.packets, p.o.Up, p.o.Down)
		p.packets = p.faults
	}
	mux := webrtc.NewICEUDPMux(nil, p.packets)
	se.SetICEUDPMux(mux)
	p.mux = mux
	return nil
}

func (p *Peer) prepare() error {
	api, err := p.api()
	if err != nil {
		return err
	}
	if p.pc, err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return fmt.Errorf("new peer connection: %w", err)
	}
	if p.track, err = webrtc.NewTrackLocalStaticRTP(p.codec(), "audio", "caller"); err != nil {
		return fmt.Errorf("new track: %w", err)
	}
	sender, err := p.pc.AddTrack(p.track)
	if err != nil {
		return fmt.Errorf("add track: %w", err)
	}
	p.task(func() { discard(sender.Read) })
	if err := p.decode(); err != nil {
		return err
	}
	p.pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		p.task(func() { p.receive(t) })
		p.task(func() { discard(r.Read) }) // reports pass on the way to the interceptor
	})
	var once sync.Once
	p.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			once.Do(func() { close(p.up) })
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			p.finish()
		}
	})
	if p.dc, err = p.pc.CreateDataChannel("events", nil); err != nil {
		return fmt.Errorf("create data channel: %w", err)
	}
	var first sync.Once
	p.dc.OnMessage(func(m webrtc.DataChannelMessage) {
		first.Do(func() { p.meet(m.Data) })
		select {
		case p.events <- bytes.Clone(m.Data):
		default: // nobody reads them
		}
	})
	return nil
}

func (p *Peer) meet(msg []byte) {
	p.mu.Lock()
	p.lastErr = json.Unmarshal(msg, &p.session)
	p.mu.Unlock()
	close(p.hello)
}

func (p *Peer) decode() (err error) {
	switch p.o.Codec {
	case "PCMU":
		p.decoder, err = media.NewPCMUDecoder()
	case "PCMA":
		p.decoder, err = media.NewPCMADecoder()
	default:
		p.decoder, err = p.opus.Decoder()
	}
	p.in = media.NewJitter(media.JitterOptions{
		Decoder: p.decoder, Clock: int(p.codec().ClockRate), Rate: media.OpusRate,
	})
	return err
}

// offer exchanges descriptions.
func (p *Peer) offer(ctx context.Context) error {
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		return fmt.Errorf("create offer: %w", err)
	}
	full, err := p.gather(ctx, offer)
	if err != nil {
		return err
	}
	send := full
	if p.o.Trickle {
		send = withoutCandidates(full)
	}
	res, body, err := p.do(ctx, http.MethodPost, p.o.URL+"/webrtc/"+url.PathEscape(p.o.Agent), "application/sdp", "", send)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusCreated {
		return &StatusError{res.StatusCode, body}
	}
	at, err := res.Location()
	if err != nil {
		return fmt.Errorf("read location: %w", err)
	}
	p.mu.Lock()
	p.location, p.etag, p.links = at.String(), res.Header.Get("ETag"), res.Header.Values("Link")
	p.mu.Unlock()
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: body}); err != nil {
		return fmt.Errorf("use answer: %w", err)
	}
	if !p.o.Trickle {
		return nil
	}
	res, body, err = p.Patch(ctx, p.etag, fragmentOf(full))
	if err == nil && res.StatusCode != http.StatusNoContent {
		err = &StatusError{res.StatusCode, body}
	}
	return err
}

func (p *Peer) gather(ctx context.Context, offer webrtc.SessionDescription) (string, error) {
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(offer); err != nil {
		return "", fmt.Errorf("use offer: %w", err)
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return "", fmt.Errorf("gather candidates: %w", ctx.Err())
	}
	return p.pc.LocalDescription().SDP, nil
}

// Restart takes a new network path (RFC 9725 §4.4.3).
func (p *Peer) Restart(ctx context.Context) error {
	offer, err := p.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		return fmt.Errorf("create offer: %w", err)
	}
	full, err := p.gather(ctx, offer)
	if err != nil {
		return err
	}
	res, body, err := p.Patch(ctx, "*", fragmentOf(full))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return &StatusError{res.StatusCode, body}
	}
	p.mu.Lock()
	p.etag = res.Header.Get("ETag")
	p.mu.Unlock()
	answer := merge(p.pc.CurrentRemoteDescription().SDP, body)
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return fmt.Errorf("use answer: %w", err)
	}
	return nil
}

// Patch sends an SDP fragment with If-Match, none if match is empty.
func (p *Peer) Patch(ctx context.Context, match, body string) (*http.Response, string, error) {
	return p.do(ctx, http.MethodPatch, p.Location(), "application/trickle-ice-sdpfrag", match, body)
}

func (p *Peer) do(ctx context.Context, method, to, kind, match, body string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(body))
	if err != nil {
		return nil, "", fmt.Errorf("make request: %w", err)
	}
	set := func(k, v string) {
		if v != "" {
			req.Header.Set(k, v)
		}
	}
	set("Content-Type", kind)
	set("If-Match", match)
	set("Origin", p.o.Origin)
	if method == http.MethodPost {
		set("Parley-Resume", p.o.Resume)
	}
	token := p.o.Bearer
	if token == "" {
		token = p.Session().Secret
	}
	if token != "" {
		set("Authorization", "Bearer "+token)
	}
	res, err := p.o.Client.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", method, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, "", fmt.Errorf("read answer: %w", err)
	}
	return res, string(b), nil
}

// Session returns what the gateway said first.
func (p *Peer) Session() PeerSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session
}

// Location returns the session's address, and Links the ICE servers offered.
func (p *Peer) Location() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.location
}

// Links returns the Link headers of the answer.
func (p *Peer) Links() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links
}

// ETag returns that of the ICE generation.
func (p *Peer) ETag() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.etag
}

// Events yields the gateway's messages, the session first. A reader that is 1,024
// behind misses the newest.
func (p *Peer) Events() <-chan json.RawMessage { return p.events }

// Done is closed when the line has.
func (p *Peer) Done() <-chan struct{} { return p.done }
