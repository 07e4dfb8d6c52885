package signaling

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	startTimeout = 5 * time.Second
	startTries   = 20  // messages that may come before start
	waitingMax   = 128 // sockets of one address before their start: a carrier's arrive within milliseconds of it
	lingerMax    = 200 // messages read after a refusal
)

// media answers GET /twilio/media/{token}: the call's audio. It returns after
// the call's session and socket are gone.
func (t *Twilio) media(w http.ResponseWriter, r *http.Request) {
	if err := t.socketAuthentic(r); err != nil {
		t.forbid(w, r, "media", "signature", err)
		return
	}
	if !websocket.IsWebSocketUpgrade(r) { // lest a stray GET uses the token up
		t.refused("media", "request")
		http.Error(w, "want a websocket", http.StatusUpgradeRequired)
		return
	}
	client := peerAddress(r)
	if !t.waiting.enter(client, waitingMax) { // before the token is used up
		t.refused("media", "crowded")
		t.Logger.Warn("media socket refused: too many of this address have not begun", "peer", r.RemoteAddr)
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many sockets that have not begun: begin those first", http.StatusTooManyRequests)
		return
	}
	conn, claim, streamSID, ok := t.begin(w, r)
	t.waiting.leave(client)
	if !ok {
		return
	}
	log := t.Logger.With("call_id", claim.CallID)
	leg := newTwilioLeg(conn, streamSID, &t.Metrics)
	go leg.read() // leg.Close waits for it
	defer leg.Close("served")
	if err := t.Desk.Serve(r.Context(), claim.CallID, leg); err != nil {
		log.Warn("session ended", "error", err)
	}
	if cut := leg.cut.Load(); cut != nil && *cut == tooMany {
		log.Warn("media socket closed: it sent more than a call needs", "reason", tooMany)
	}
}

// begin opens a socket and waits for its start. Where it is not good it
// answers, counts and logs, and returns false.
func (t *Twilio) begin(w http.ResponseWriter, r *http.Request) (conn *websocket.Conn, claim MediaClaim, streamSID string, ok bool) {
	claim, err := t.Tokens.Redeem(r.Context(), r.PathValue("token"))
	if err != nil {
		t.forbid(w, r, "media", "token", err)
		return nil, claim, "", false
	}
	// No sizes: the buffers of the HTTP server are taken over, 4 KiB each way.
	// A pool of write buffers would cost an allocation a message.
	upgrader := websocket.Upgrader{HandshakeTimeout: writeTimeout}
	if conn, err = upgrader.Upgrade(w, r, nil); err != nil {
		t.refused("media", "request")
		return nil, claim, "", false
	}
	if streamSID, err = t.awaitStart(conn, claim); err != nil {
		t.refused("media", "start")
		t.Logger.Warn("media socket refused", "call_id", claim.CallID, "error", err)
		refuseSocket(conn, "")
		return nil, claim, "", false
	}
	return conn, claim, streamSID, true
}

// peerAddress names who a request comes from.
func peerAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// startMessage opens a stream.
type startMessage struct {
	Event     string `json:"event"`
	StreamSID string `json:"streamSid"`
	Start     struct {
		StreamSID string `json:"streamSid"`
		CallSID   string `json:"callSid"`
		Format    struct {
			Encoding string `json:"encoding"`
			Rate     int    `json:"sampleRate"`
			Channels int    `json:"channels"`
		} `json:"mediaFormat"`
	} `json:"start"`
}

// awaitStart reads until the stream's start and checks it against the token.
func (t *Twilio) awaitStart(conn *websocket.Conn, claim MediaClaim) (streamSID string, err error) {
	conn.SetReadLimit(readLimit)
	_ = conn.SetReadDeadline(time.Now().Add(startTimeout))
	for range startTries {
		kind, b, err := conn.ReadMessage()
		if err != nil {
			return "", fmt.Errorf("await start: %w", err)
		}
		var m startMessage
		if kind != websocket.TextMessage || json.Unmarshal(b, &m) != nil || m.Event != "start" {
			if m.Event != "connected" && t.Metrics.Dropped != nil {
				t.Metrics.Dropped("order")
			}
			continue
		}
		if m.StreamSID == "" {
			m.StreamSID = m.Start.StreamSID
		}
		f := m.Start.Format
		switch {
		case !claim.For(m.Start.CallSID):
			return "", errors.New("start: the token is for another call")
		case m.StreamSID == "" || len(m.StreamSID) > maxField:
			return "", errors.New("start: no stream id")
		case f.Encoding != "" && !strings.EqualFold(f.Encoding, "audio/x-mulaw"),
			f.Rate != 0 && f.Rate != rate, f.Channels > 1:
			return "", fmt.Errorf("start: %.40q at %d Hz, %d channels; want audio/x-mulaw at 8000 Hz, 1 channel", f.Encoding, f.Rate, f.Channels)
		}
		return m.StreamSID, nil
	}
	return "", errors.New("await start: other messages came instead")
}

// refuseSocket closes with 1008 (policy violation, RFC 6455 §7.4.1), and reads
// a little on: closing over unread bytes would reset the connection, and the
// far side might never see the close.
func refuseSocket(conn *websocket.Conn, reason string) {
	defer conn.Close()
	bye := websocket.FormatCloseMessage(websocket.ClosePolicyViolation, reason)
	if conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(closeTimeout)) != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(closeTimeout))
	for range lingerMax {
		if _, _, err := conn.NextReader(); err != nil {
			return
		}
	}
}
