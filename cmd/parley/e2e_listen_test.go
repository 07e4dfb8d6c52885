package main

import (
	"context"
	"io"
	"math"
	"net/http"
	"testing"
	"time"

	"parley/media"
)

// testListening listens in on a call by browser: both sides are heard, each in its
// own channel.
func testListening(t *testing.T, e *endToEnd) {
	e.localDesk(t, "desk-listened")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	type outcome struct {
		call heldCall
		err  error
	}
	held := make(chan outcome, 1)
	dir := t.TempDir()
	go func() {
		h, err := e.place(ctx, dir, "desk-listened", `
wait-speech 20s
wait 2s
say I would like to book a table for today please
wait 3s
say I would like to book a table for today please
wait 3s
hangup
`, "--via", "webrtc")
		held <- outcome{h, err}
	}()
	var active struct {
		Items []struct{ ID, Carrier string }
	}
	e.until(t, "the call is answered", func() bool {
		e.request(t, "GET", "/v1/calls?status=active&carrier=webrtc", nil, &active)
		return len(active.Items) == 1
	})
	req, err := http.NewRequestWithContext(ctx, "GET", e.URL+"/v1/calls/"+active.Items[0].ID+"/listen", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+e.APIKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	rate, channels, pcm, err := media.ReadWAV(res.Body) // until the call ends
	_ = res.Body.Close()
	if err != nil && err != io.ErrUnexpectedEOF || rate != 16000 || channels != 2 {
		t.Fatalf("listen: %s, %d Hz, %d channels, %v", res.Status, rate, channels, err)
	}
	if h := <-held; h.err != nil || h.call.status != exitOK {
		t.Errorf("the call: %v\n%s", h.err, h.call.log())
	}
	var loudest [2]float64
	for i := 0; i+3200 <= len(pcm); i += 3200 { // a tenth of a second of both
		var sum [2]float64
		for j, v := range pcm[i : i+3200] {
			sum[j%2] += float64(v) * float64(v)
		}
		for side := range sum {
			loudest[side] = max(loudest[side], math.Sqrt(sum[side]/1600))
		}
	}
	if loudest[0] < 500 || loudest[1] < 500 {
		t.Errorf("in %d samples the caller's side has a level of %.0f, the agent's of %.0f", len(pcm), loudest[0], loudest[1])
	}
}
