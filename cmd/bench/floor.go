package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"parley/media"
)

// The floors: what carrying a call costs at the least, written plainly with
// the usual libraries. The codec echo decodes and encodes each message and
// sends it back; the relay passes the audio to a recognizer's socket as well.
const (
	roleEcho  = "echo"
	roleRelay = "relay"
)

// serveFloor is a floor's process.
func serveFloor(ctx context.Context, role string, args []string) error {
	f := flag.NewFlagSet(role, flag.ContinueOnError)
	listen := f.String("listen", "", "host:port")
	recognizer := f.String("recognizer", "", "the recognizer's websocket address")
	if err := f.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	if role == roleEcho {
		*recognizer = ""
	}
	s := &http.Server{Handler: floor{*recognizer}, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// A floor takes media sockets.
type floor struct{ recognizer string }

// floorMessage is what a relay reads and writes of Twilio's messages.
type floorMessage struct {
	Event     string      `json:"event"`
	StreamSID string      `json:"streamSid,omitempty"`
	Media     *floorMedia `json:"media,omitempty"`
}

type floorMedia struct {
	Payload string `json:"payload"`
}

// ServeHTTP relays one call until its socket closes.
func (f floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	var stt *websocket.Conn
	if f.recognizer != "" {
		stt, _, err = websocket.DefaultDialer.DialContext(r.Context(), f.recognizer, nil)
		if err != nil {
			return
		}
		defer stt.Close()
	}
	_ = relay(conn, stt) // the caller hangs up: how, does not matter
}

func relay(conn, stt *websocket.Conn) error {
	var pcm []int16
	var audio, ulaw []byte
	for {
		_, b, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		var m floorMessage
		if err := json.Unmarshal(b, &m); err != nil || m.Media == nil {
			continue
		}
		if ulaw, err = base64.StdEncoding.AppendDecode(ulaw[:0], []byte(m.Media.Payload)); err != nil {
			return err
		}
		pcm = media.DecodePCMU(pcm[:0], ulaw)
		if stt != nil {
			audio = audio[:0]
			for _, v := range pcm {
				audio = append(audio, byte(v), byte(v>>8))
			}
			if err := stt.WriteMessage(websocket.BinaryMessage, audio); err != nil {
				return err
			}
		}
		ulaw = media.EncodePCMU(ulaw[:0], pcm)
		m = floorMessage{Event: "media", StreamSID: m.StreamSID, Media: &floorMedia{base64.StdEncoding.EncodeToString(ulaw)}}
		if b, err = json.Marshal(m); err != nil {
			return err
		}
		if err := conn.WriteMessage(websocket.TextMessage, b); err != nil {
			return err
		}
	}
}
