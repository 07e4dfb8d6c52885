package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A tally is what a fleet has measured since it was last taken.
type tally struct {
	overhead    series // voice to voice, less what the vendors kept waiting
	lead        series // audio ahead of real time, within a reply
	jitter      series // change of it from message to message
	fromInterim series // the recognizer's event to clear
	fromOnset   series // the caller's first sample of speech to clear
	aborts      series // clear to the end of a request that nobody needs
	echo        series // script streaming: a frame's way to the floor and back
	late        series // of the fleet's own clock

	turns, missed, short, underruns, stale, unaborted, unheeded, falsePauses, lost atomic.Int64
}

// A fleet is many callers in one process, driven by one clock.
type fleet struct {
	voices *voices
	client *http.Client

	mu      sync.Mutex
	callers map[int]*caller
	slots   [20][]*caller // a millisecond of the frame's time each
	nextID  int
	tally   *tally
	readers sync.WaitGroup
}

func newFleet() *fleet {
	return &fleet{
		voices: makeVoices(), callers: map[int]*caller{}, tally: &tally{},
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 5 * time.Second}},
	}
}

func (f *fleet) find(id int) *caller {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.callers[id]
}

// take returns the tally, and begins a new one for calls from now on and for
// those in progress.
func (f *fleet) take() *tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.tally
	f.tally = &tally{}
	for _, c := range f.callers {
		c.mu.Lock()
		c.tally = f.tally
		c.mu.Unlock()
	}
	return old
}

func (f *fleet) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.callers)
}

// run is the fleet's clock: each millisecond a twentieth of the callers send a
// frame. It measures how late it is itself.
func (f *fleet) run(ctx context.Context) {
	const step = time.Millisecond
	start := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		due := start.Add(time.Duration(n) * step)
		if d := time.Until(due); d > 0 {
			_ = pause(ctx, d) // the loop asks ctx itself
		}
		f.mu.Lock()
		slot, t := f.slots[n%len(f.slots)], f.tally
		f.mu.Unlock()
		now := time.Now()
		for _, c := range slot {
			c.tick(now)
		}
		if len(slot) > 0 {
			t.late.add(now.Sub(due))
		}
	}
}

// errRefused says that the gateway takes no more calls.
var errRefused = errors.New("refused as busy")

// call places a call by the webhook, as Twilio does.
func (f *fleet) call(ctx context.Context, gateway string, s script) (*caller, error) {
	sid := "CA" + strings.ToLower(rand.Text())
	form := url.Values{"CallSid": {sid}, "From": {"+15550100000"}, "To": {"+15550100001"}, "Direction": {"inbound"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, gateway+"/twilio/voice/"+benchAgent, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("webhook: status %d: %w", res.StatusCode, err)
	}
	if bytes.Contains(body, []byte("<Reject")) {
		return nil, errRefused
	}
	m := streamURL.FindSubmatch(body)
	if m == nil {
		return nil, fmt.Errorf("webhook: no stream in %q", body)
	}
	u, err := url.Parse(string(m[1]))
	if err != nil {
		return nil, err
	}
	return f.dial(ctx, u.Host, u.Path, sid, s)
}

var streamURL = regexp.MustCompile(`<Stream url="([^"]+)"`)

// dial opens a media socket and puts its caller on the clock.
func (f *fleet) dial(ctx context.Context, host, path, sid string, s script) (*caller, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	key := make([]byte, 16)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
		path, host, base64.StdEncoding.EncodeToString(key))
	in := bufio.NewReaderSize(conn, 4096)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, statusError(res)))
	}
	start := fmt.Sprintf(`{"event":"start","sequenceNumber":"1","streamSid":"%s","start":{"accountSid":"AC0","streamSid":"%s","callSid":"%s","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}`, streamSID, streamSID, sid)
	for _, m := range []string{`{"event":"connected","protocol":"Call","version":"1.0.0"}`, start} {
		if _, err := conn.Write(textFrame([]byte(m))); err != nil {
			conn.Close()
			return nil, err
		}
	}
	_ = conn.SetDeadline(time.Time{})
	c := f.newCaller(conn, s)
	f.join(c, func() { c.read(in) })
	return c, nil
}

func statusError(res *http.Response) error {
	if res == nil {
		return nil
	}
	return fmt.Errorf("status %d", res.StatusCode)
}

// newCaller makes a caller with a number of its own, its turns out of step with
// the others'.
func (f *fleet) newCaller(l line, s script) *caller {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nextID = f.nextID%(1<<nameBits-1) + 1
	id := f.nextID
	return &caller{id: id, name: callerName(id), script: s, conn: l, voices: f.voices, label: nameFrame(id), tally: f.tally,
		next: time.Now().Add(500*time.Millisecond + time.Duration(id*377%2000)*time.Millisecond)}
}

// join puts a caller on the clock, until read returns.
func (f *fleet) join(c *caller, read func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.callers[c.id] = c
	slot := &f.slots[c.id%len(f.slots)]
	*slot = append(append([]*caller(nil), *slot...), c) // the clock may be walking the old one
	f.readers.Go(func() {
		read()
		f.leave(c)
	})
}

func (f *fleet) leave(c *caller) {
	if !c.over.Swap(true) {
		c.mu.Lock()
		c.tally.lost.Add(1)
		c.mu.Unlock()
	}
	c.conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.callers, c.id)
	slot := &f.slots[c.id%len(f.slots)]
	var rest []*caller
	for _, other := range *slot {
		if other != c {
			rest = append(rest, other)
		}
	}
	*slot = rest
}

// hangUp ends a call as Twilio does.
func (c *caller) hangUp() {
	if c.over.Swap(true) {
		return
	}
	if phone, ok := c.conn.(net.Conn); ok {
		_ = phone.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = phone.Write(textFrame([]byte(`{"event":"stop","streamSid":"` + streamSID + `"}`)))
	}
	c.conn.Close()
}

// hangUpSome ends up to n calls and returns how many.
func (f *fleet) hangUpSome(n int) (gone int) {
	f.mu.Lock()
	var some []*caller
	for _, c := range f.callers {
		if len(some) == n {
			break
		}
		some = append(some, c)
	}
	f.mu.Unlock()
	for _, c := range some {
		c.hangUp()
	}
	return len(some)
}

// hangUpAll ends every call and waits until none is left.
func (f *fleet) hangUpAll() {
	f.mu.Lock()
	var all []*caller
	for _, c := range f.callers {
		all = append(all, c)
	}
	f.mu.Unlock()
	for _, c := range all {
		c.hangUp()
	}
	f.readers.Wait()
}

// read takes what the far side sends until the line ends.
func (c *caller) read(in *bufio.Reader) {
	var buf []byte
	for {
		h, err := in.Peek(2)
		if err != nil {
			return
		}
		op, n, head := h[0]&0xf, int(h[1]&0x7f), 2
		if n == 126 {
			if h, err = in.Peek(4); err != nil {
				return
			}
			n, head = int(binary.BigEndian.Uint16(h[2:])), 4
		}
		_, _ = in.Discard(head) // was peeked at
		if cap(buf) < n {
			buf = make([]byte, n+512)
		}
		if _, err := io.ReadFull(in, buf[:n]); err != nil {
			return
		}
		switch op {
		case 1:
			c.message(buf[:n], time.Now())
		case 8:
			return
		}
	}
}

// message takes one of the gateway's, as far as its own JSON goes.
func (c *caller) message(b []byte, now time.Time) {
	switch {
	case bytes.HasPrefix(b, []byte(`{"event":"media"`)):
		i := bytes.Index(b, []byte(`"payload":"`))
		if i < 0 {
			return
		}
		p := b[i+len(`"payload":"`):]
		p = p[:max(0, bytes.IndexByte(p, '"'))]
		n := base64.StdEncoding.DecodedLen(len(p)) - bytes.Count(p, []byte("="))
		c.media(time.Duration(n)*time.Second/phoneRate, now)
	case bytes.HasPrefix(b, []byte(`{"event":"mark"`)):
		c.mark(textFrame(b), now)
	case bytes.HasPrefix(b, []byte(`{"event":"clear"`)):
		c.clear(now)
	}
}
