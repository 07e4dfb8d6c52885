package signaling_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// Every address that is offered answers checks from itself: a browser throws
// an answer from another address away (RFC 8445 §7.2.5.2.1).
func TestWebRTCAnswersFromTheAddressAsked(t *testing.T) {
	url, _ := rtcGateway(t, newRTCDesk(), nil)
	res := postOffer(t, url, goodOffer, nil)
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("status %d: %s", res.StatusCode, res.body)
	}
	var ufrag, pwd string
	var at []string
	for line := range strings.Lines(res.body) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "a=ice-ufrag:"); ok {
			ufrag = v
		}
		if v, ok := strings.CutPrefix(line, "a=ice-pwd:"); ok {
			pwd = v
		}
		if f := strings.Fields(line); strings.HasPrefix(line, "a=candidate:") && f[1] == "1" {
			at = append(at, net.JoinHostPort(f[4], f[5]))
		}
	}
	if len(at) == 0 {
		t.Fatalf("no candidates in\n%s", res.body)
	}
	check := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(ufrag+":abcd"),
		stun.RawAttribute{Type: stun.AttrPriority, Value: []byte{0x6e, 0, 0, 0xff}},
		stun.RawAttribute{Type: stun.AttrICEControlling, Value: make([]byte, 8)},
		stun.NewShortTermIntegrity(pwd), stun.Fingerprint)
	for _, addr := range at {
		if !answers(t, addr, check.Raw) {
			t.Errorf("%s does not answer from itself; offered: %v", addr, at)
		}
	}
}

// answers reports whether addr answers the packet, sent from 127.0.0.1. The
// socket is connected: the kernel drops what comes from elsewhere.
func answers(t *testing.T, addr string, packet []byte) bool {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, Timeout: time.Second}
	c, err := d.Dial("udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 1500)
	for range 20 { // the first may come before ICE has begun
		if _, err := c.Write(packet); err != nil {
			continue // refused: nobody is there
		}
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, err := c.Read(buf); err == nil && stun.IsMessage(buf[:n]) {
			return true
		}
	}
	return false
}
