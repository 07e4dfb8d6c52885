package signaling

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/webrtc/v4"

	"parley/media"
)

// Errors that [WebRTC.Authorize] answers with. Any other is our fault, 500.
var (
	ErrUnauthorized = errors.New("signaling: credentials needed")       // 401
	ErrForbidden    = errors.New("signaling: not allowed")              // 403
	ErrTooMany      = errors.New("signaling: too many attempts, later") // 429
)

// WebRTCOptions are set before [ListenWebRTC] and not changed after. Desk and
// Authorize must be set.
type WebRTCOptions struct {
	Desk Desk

	// Authorize decides whether r may call agent, before anything is spent on
	// it. It answers nil, ErrUnauthorized, ErrForbidden or ErrTooMany. A valid
	// resume token stands for it.
	//
	// Who is a name of the caller for Flooded, of at most 24 bytes. The page gets to
	// see it in its resume token.
	Authorize func(r *http.Request, agent string) (who string, err error)

	// Flooded is told who had a session ended for sending too much, that the next
	// one may be refused: a session's own limits begin anew with each. It is
	// called by the session's goroutines and must not block for long. Nil: nobody
	// is told.
	Flooded func(who string)

	Port       int    // UDP port of all media; 0 takes a free one
	TCPPort    int    // ICE-TCP port for networks without UDP; 0: none
	Bind       net.IP // local address of both; nil: all
	PublicAddr string // our public IPv4 address; then we are ICE-lite. Empty: full ICE on the machine's own
	Loopback   bool   // offer 127.0.0.1 too: development and tests

	// Packets is the socket of all media in place of Port, and is closed by
	// Shutdown: a network in memory, for tests. Nil: UDP.
	Packets net.PacketConn

	ICEURLs []string // stun: and turn: addresses given to browsers
	// TURNSecret returns what is shared with the TURN server, whose credentials
	// expire after an hour. Nil or "": none is.
	TURNSecret func(context.Context) (string, error)

	MaxSessions  int           // default 500; more are 503
	ConnectWait  time.Duration // from the offer to DTLS up; default 15 s
	Disconnected time.Duration // of silence until [media.Away]; default 5 s
	Failed       time.Duration // of being away until the call ends; default 15 s
	ResumeFor    time.Duration // told to the page: how long after its session Desk takes a call up again; default 60 s

	// Resume makes the tokens by which a page goes on with a call whose session
	// was lost, on any process with the same key. They are bound to the agent as
	// the address names it. Default: one with a key of this process alone.
	Resume *MediaTokens

	Logger  *slog.Logger
	Metrics WebRTCMetrics
}

// WebRTCMetrics are called as things happen; nil ones are not. Their words are
// few and fixed, fit for labels.
type WebRTCMetrics struct {
	Refused func(status int)              // an offer was turned away
	Ended   func(reason string)           // a session ended
	Jitter  func(total media.JitterStats) // a session's totals, when it ends
	Dropped func(what string)             // "notify", "malformed", "oversized", "send", "flood" (audio faster than it can be spoken)
	Flooded func(what string)             // a page sent too many messages: "warned" once a session, "closed"
}

func (o WebRTCOptions) withDefaults() WebRTCOptions {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.ConnectWait, 15*time.Second)
	set(&o.Disconnected, 5*time.Second)
	set(&o.Failed, 15*time.Second)
	set(&o.ResumeFor, time.Minute)
	if o.Resume == nil {
		o.Resume = &MediaTokens{Key: []byte(rtcSecret()), Life: ResumeLife}
	}
	if o.MaxSessions <= 0 {
		o.MaxSessions = 500
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// WebRTC takes browsers' calls, by HTTP shaped after WHIP (RFC 9725) but with
// audio both ways:
//
//	POST   /webrtc/{agent}         an SDP offer → 201, answer, Location, ETag, Link
//	PATCH  /webrtc/session/{id}    trickle ICE, ICE restart
//	DELETE /webrtc/session/{id}    hangs up
//
// The session's Location is no credential: PATCH and DELETE want the bearer of
// the POST, or the secret that the first message of the data channel "events"
// brings. To go on after a lost session, POST again with the header
// Parley-Resume and the token of that same message.
//
// Mount Routes, and call Shutdown at the end. It is safe for concurrent use.
type WebRTC struct {
	o     WebRTCOptions
	api   *webrtc.API
	certs []webrtc.Certificate
	opus  media.OpusPool
	close func() error // the sockets
	port  int

	sessions sync.WaitGroup // a goroutine a session

	mu     sync.Mutex // guards what follows
	live   map[string]*rtcSession
	coming int // offers being answered
	down   bool
}

// ListenWebRTC opens the media port. The caller calls Shutdown.
func ListenWebRTC(o WebRTCOptions) (*WebRTC, error) {
	w := &WebRTC{o: o.withDefaults(), live: map[string]*rtcSession{}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make dtls key: %w", err)
	}
	cert, err := webrtc.GenerateCertificate(key) // one a process: making one costs more than a handshake
	if err != nil {
		return nil, fmt.Errorf("make dtls certificate: %w", err)
	}
	w.certs = []webrtc.Certificate{*cert}
	if err := w.listen(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *WebRTC) listen() error {
	udp, err := w.openPackets()
	if err != nil {
		return err
	}
	w.port = udp.port
	se := webrtc.SettingEngine{}
	se.SetICEUDPMux(udp.mux)
	closers := []func() error{udp.close}
	types := []webrtc.NetworkType{webrtc.NetworkTypeUDP4}
	if w.o.TCPPort != 0 {
		tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: w.o.Bind, Port: w.o.TCPPort})
		if err != nil {
			return errors.Join(fmt.Errorf("open ice-tcp port: %w", err), udp.close())
		}
		tmux := webrtc.NewICETCPMux(nil, tcp, 20)
		se.SetICETCPMux(tmux)
		closers = append(closers, tmux.Close)
		types = append(types, webrtc.NetworkTypeTCP4)
	}
	w.close = func() error {
		var errs []error
		for _, c := range closers {
			if err := c(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	se.SetNetworkTypes(types)
	if err := w.settings(&se); err != nil {
		return errors.Join(err, w.close())
	}
	return nil
}

// settings builds the API: see the fields of [WebRTCOptions] for the choices.
func (w *WebRTC) settings(se *webrtc.SettingEngine) error {
	rtcQuiet(se)
	se.SetIncludeLoopbackCandidate(w.o.Loopback)
	se.SetICETimeouts(w.o.Disconnected, w.o.Failed, 2*time.Second)
	se.SetReceiveMTU(1500)
	se.SetSCTPMaxReceiveBufferSize(64 << 10)
	if w.o.PublicAddr != "" {
		se.SetLite(true)
		err := se.SetICEAddressRewriteRules(webrtc.ICEAddressRewriteRule{
			External: []string{w.o.PublicAddr}, AsCandidateType: webrtc.ICECandidateTypeHost,
			Mode: webrtc.ICEAddressRewriteReplace,
		})
		if err != nil {
			return fmt.Errorf("public media address %q: %w", w.o.PublicAddr, err)
		}
	}
	me, err := rtcCodecs()
	if err != nil {
		return err
	}
	// Reports only: retransmission and congestion feedback are for video, and
	// cost a quarter of the CPU.
	reg := &interceptor.Registry{}
	rr, err := report.NewReceiverInterceptor(report.ReceiverInterval(time.Second))
	if err != nil {
		return fmt.Errorf("receiver reports: %w", err)
	}
	sr, err := report.NewSenderInterceptor(report.SenderInterval(time.Second))
	if err != nil {
		return fmt.Errorf("sender reports: %w", err)
	}
	reg.Add(rr)
	reg.Add(sr)
	w.api = webrtc.NewAPI(webrtc.WithSettingEngine(*se), webrtc.WithMediaEngine(me), webrtc.WithInterceptorRegistry(reg))
	return nil
}

// Port returns the UDP port of the media.
func (w *WebRTC) Port() int { return w.port }

// Routes returns what to mount.
func (w *WebRTC) Routes() []Route {
	return []Route{
		{"/webrtc/{agent}", w.endpoint},
		{"/webrtc/session/{id}", w.session},
	}
}

// Shutdown refuses new calls, ends those there are and waits for them, until
// ctx ends; then it closes the port.
func (w *WebRTC) Shutdown(ctx context.Context) error {
	w.mu.Lock()
	w.down = true
	for _, s := range w.live {
		s.leg.end("shutdown")
	}
	w.mu.Unlock()
	done := make(chan struct{})
	go func() {
		w.sessions.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("end webrtc calls: %w", ctx.Err())
	}
	return errors.Join(err, w.close())
}
