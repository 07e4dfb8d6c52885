package signaling

import (
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// What a media socket brings, and how it stands at the end.
func TestFlood(t *testing.T) {
	type burst struct {
		from, every time.Duration
		n           int // messages
		bytes       int
		audio       float64 // seconds each
	}
	ms, s := time.Millisecond, time.Second
	call := func(from time.Duration, n int) burst { return burst{from, 20 * ms, n, 400, 0.02} }
	tests := []struct {
		name   string
		bursts []burst
		warned bool
		out    bool
	}{
		{"an-hour", []burst{call(0, 180000)}, false, false},
		{"burst-at-start", []burst{{0, 0, 200, 400, 0.02}, call(0, 3000)}, false, false},
		{"stall-of-3-s", []burst{call(0, 500), {13 * s, 0, 150, 400, 0.02}, call(13*s, 500), {26 * s, 0, 150, 400, 0.02}}, false, false},
		{"stall-of-9-s", []burst{call(0, 500), {19 * s, 0, 450, 400, 0.02}, call(19*s, 500)}, true, false},
		{"a-clock-3-percent-fast", []burst{{0, 19400 * time.Microsecond, 18000, 400, 0.02}}, false, false},
		{"twice-real-time", []burst{{0, 10 * ms, 6000, 400, 0.02}}, true, true},
		{"many-small", []burst{{0, 0, 1201, 30, 0}}, true, true},
		{"few-large", []burst{{0, 0, 17, 64 << 10, 0}}, true, true},
		{"much-audio", []burst{{0, 0, 11, 11000, 1}}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, start := twilioFlood(), time.Unix(0, 0)
			warnings, isOut := 0, false
			for _, b := range tt.bursts {
				for i := range b.n {
					switch f.charge(start.Add(b.from+time.Duration(i)*b.every), b.bytes, b.audio) {
					case beyond:
						warnings++
					case out:
						isOut = true
					}
				}
			}
			if (warnings == 1) != tt.warned || warnings > 1 || isOut != tt.out {
				t.Errorf("%d warnings, out %t; want warned %t, out %t", warnings, isOut, tt.warned, tt.out)
			}
		})
	}
}

// What is too much is refused and not charged: the rest comes at its rate.
func TestAllowanceTake(t *testing.T) {
	a, start := audioAllowance(), time.Unix(0, 0)
	taken := 0
	for i := range 10000 { // 100 s at twice real time
		if a.take(start.Add(time.Duration(i)*10*time.Millisecond), 0.02) {
			taken++
		}
	}
	if want := (5 + 1.5*100) / 0.02; math.Abs(float64(taken)-want) > 2 {
		t.Errorf("took %d packets, want %.0f", taken, want)
	}
}

// Packets by RFC 6716 §3.1, table 2.
func TestOpusSeconds(t *testing.T) {
	for _, tt := range []struct {
		packet string
		want   float64
	}{
		{"", 0}, {"\x08", 0.02}, {"\x18", 0.06}, {"\x61", 0.02}, {"\xfc", 0.02}, {"\xe0", 0.0025},
		{"\xfb\x03", 0.06}, {"\xfb\x3f", 0.12}, {"\x1a", 0.12}, {"\xfb", 0.02},
	} {
		if got := opusSeconds([]byte(tt.packet)); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("opusSeconds(%x) = %v, want %v", tt.packet, got, tt.want)
		}
	}
}

// Sockets of one address that have not begun are bounded, and no other's.
func TestWaitingSockets(t *testing.T) {
	f := newFixture()
	dial := func(addr string) int {
		token, _ := f.Tokens.Mint("CA1", "call-1")
		r := httptest.NewRequest(http.MethodGet, "/twilio/media/"+token, nil)
		r.RemoteAddr = addr
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		w := httptest.NewRecorder()
		f.mux.ServeHTTP(w, r)
		return w.Code
	}
	for i := range waitingMax {
		if !f.waiting.enter("192.0.2.1", waitingMax) {
			t.Fatalf("socket %d is refused", i)
		}
	}
	if got := dial("192.0.2.1:5"); got != http.StatusTooManyRequests || f.refused["media crowded"] != 1 {
		t.Errorf("one more: %d, %v; want 429", got, f.refused)
	}
	// The handshake lacks its key: whoever gets that far had a place.
	if got := dial("192.0.2.2:5"); got != http.StatusBadRequest {
		t.Errorf("another address: %d, want 400", got)
	}
	for range waitingMax {
		f.waiting.leave("192.0.2.1")
	}
	if got := dial("192.0.2.1:5"); got != http.StatusBadRequest || len(f.waiting.at) != 0 {
		t.Errorf("after the rest began: %d, %d addresses held; want 400 and none", got, len(f.waiting.at))
	}
}
