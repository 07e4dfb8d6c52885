package signaling

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	startTimeout = 5 * time.Second
	startTries   = 20 // messages that may come before start
)

// media answers GET /twilio/media/{token}: the call's audio. It returns after
// the call's session and socket are gone.
func (t *Twilio) media(w http.ResponseWriter, r *http.Request) {
	if err := t.authentic(r, socketScheme(t.mediaBase(r)), nil, false); err != nil {
		t.forbid(w, r, "media", "signature", err)
		return
	}
	if !websocket.IsWebSocketUpgrade(r) { // lest a stray GET uses the token up
		t.refused("media", "request")
		http.Error(w, "want a websocket", http.StatusUpgradeRequired)
		return
	}
	claim, err := t.Tokens.Redeem(r.Context(), r.PathValue("token"))
	if err != nil {
		t.forbid(w, r, "media", "token", err)
		return
	}
	// No sizes: the buffers of the HTTP server are taken over, 4 KiB each way.
	// A pool of write buffers would cost an allocation a message.
	upgrader := websocket.Upgrader{HandshakeTimeout: writeTimeout}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		t.refused("media", "request")
		return
	}
	log := t.Logger.With("call_id", claim.CallID)
	streamSID, err := t.awaitStart(conn, claim)
	if err != nil {
		t.refused("media", "start")
		log.Warn("media socket refused", "error", err)
		refuseSocket(conn)
		return
	}
	leg := newTwilioLeg(conn, streamSID, &t.Metrics)
	go leg.read() // leg.Close waits for it
	defer leg.Close("served")
	if err := t.Desk.Serve(r.Context(), claim.CallID, leg); err != nil {
		log.Warn("session ended", "error", err)
	}
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
func refuseSocket(conn *websocket.Conn) {
	defer conn.Close()
	bye := websocket.FormatCloseMessage(websocket.ClosePolicyViolation, "")
	if conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(closeTimeout)) != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(closeTimeout))
	for range startTries {
		if _, _, err := conn.NextReader(); err != nil {
			return
		}
	}
}
