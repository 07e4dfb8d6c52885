package console_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

// A peer stands in for the gateway: it answers offers, opens no door of its
// own, plays a tone and says over "events" what a test tells it to.
type peer struct {
	t   testing.TB
	api *webrtc.API

	mu       sync.Mutex
	status   int // if not 0, what POST answers
	conn     *webrtc.PeerConnection
	events   *webrtc.DataChannel
	received []message
	posts    []http.Header
	patches  []string
	deletes  []http.Header
	stop     chan struct{}
	playing  sync.WaitGroup
}

// A message is what the page sends over the data channel.
type message struct {
	Type  string `json:"type"`
	RTP   uint32 `json:"rtp"`
	Text  string `json:"text"`
	Digit string `json:"digit"`
}

func newPeer(t testing.TB) *peer {
	t.Helper()
	var codecs webrtc.MediaEngine
	pcmu := webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000},
		PayloadType:        0,
	}
	if err := codecs.RegisterCodec(pcmu, webrtc.RTPCodecTypeAudio); err != nil {
		t.Fatal(err)
	}
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	p := &peer{t: t, api: webrtc.NewAPI(webrtc.WithMediaEngine(&codecs), webrtc.WithSettingEngine(settings))}
	t.Cleanup(p.drop)
	return p
}

// routes adds the signaling of one agent.
func (p *peer) routes(mux *http.ServeMux) {
	mux.HandleFunc("POST /webrtc/{agent}", p.post)
	mux.HandleFunc("PATCH /webrtc/{agent}/{call}", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.patches = append(p.patches, r.Header.Get("If-Match")+"\n"+string(body))
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /webrtc/{agent}/{call}", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.deletes = append(p.deletes, r.Header.Clone())
		p.mu.Unlock()
		p.drop()
	})
}

func (p *peer) post(w http.ResponseWriter, r *http.Request) {
	offer, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.posts = append(p.posts, r.Header.Clone())
	status, n := p.status, len(p.posts)
	p.mu.Unlock()
	if status != 0 {
		http.Error(w, "refused by the test", status)
		return
	}
	answer, err := p.answer(string(offer))
	if err != nil {
		p.t.Errorf("answer the page: %v", err)
		http.Error(w, "broken test", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/sdp")
	w.Header().Set("Location", "/webrtc/demo/call-"+strconv.Itoa(n))
	w.Header().Set("ETag", `"first"`)
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, answer)
}

func (p *peer) answer(offer string) (string, error) {
	conn, err := p.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", err
	}
	track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}, "audio", "agent")
	if err != nil {
		return "", err
	}
	if _, err := conn.AddTrack(track); err != nil {
		return "", err
	}
	stop := make(chan struct{})
	p.mu.Lock()
	p.conn, p.stop, p.events = conn, stop, nil
	p.mu.Unlock()
	conn.OnDataChannel(p.opened)
	if err := conn.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	answer, err := conn.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(conn)
	if err := conn.SetLocalDescription(answer); err != nil {
		return "", err
	}
	<-gathered
	p.playing.Add(1)
	go func() {
		defer p.playing.Done()
		playTone(track, stop)
	}()
	return conn.LocalDescription().SDP, nil
}

// playTone plays a square wave of 500 Hz: 8 samples up, 8 down.
func playTone(track *webrtc.TrackLocalStaticSample, stop <-chan struct{}) {
	frame := make([]byte, 160)
	for i := range frame {
		frame[i] = 0x20 // µ-law, about -12 dBFS
		if i/8%2 == 1 {
			frame[i] = 0xa0
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			_ = track.WriteSample(media.Sample{Data: frame, Duration: 20 * time.Millisecond}) // ends by stop
		}
	}
}

func (p *peer) opened(channel *webrtc.DataChannel) {
	if channel.Label() != "events" {
		p.t.Errorf("the page opened data channel %q", channel.Label())
		return
	}
	channel.OnOpen(func() {
		p.mu.Lock()
		p.events = channel
		p.mu.Unlock()
		p.say(`{"type":"session","id":"s1","secret":"secret-1","resume":"resume-1","resume_for_s":60}`)
	})
	channel.OnMessage(func(m webrtc.DataChannelMessage) {
		var got message
		if err := json.Unmarshal(m.Data, &got); err != nil {
			p.t.Errorf("the page sent %q: %v", m.Data, err)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.received = append(p.received, got)
	})
}

// say sends events to the page, in order.
func (p *peer) say(events ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range events {
		if err := p.events.SendText(e); err != nil {
			p.t.Errorf("say %s: %v", e, err)
		}
	}
}

// of returns what the page sent of a type so far.
func (p *peer) of(kind string) []message {
	p.mu.Lock()
	defer p.mu.Unlock()
	var got []message
	for _, m := range p.received {
		if m.Type == kind {
			got = append(got, m)
		}
	}
	return got
}

func (p *peer) counts() (posts, deletes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.posts), len(p.deletes)
}

// isOpen tells whether the running connection has its data channel.
func (p *peer) isOpen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.events != nil && p.conn != nil
}

func (p *peer) setStatus(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}

// drop ends the running connection without a word, as a dying node would.
func (p *peer) drop() {
	p.mu.Lock()
	conn, stop := p.conn, p.stop
	p.conn, p.stop, p.events = nil, nil, nil
	p.mu.Unlock()
	if conn == nil {
		return
	}
	close(stop)
	p.playing.Wait()
	if err := conn.Close(); err != nil && !strings.Contains(err.Error(), "closed") {
		p.t.Errorf("close peer: %v", err)
	}
}
