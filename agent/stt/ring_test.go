package stt

import (
	"slices"
	"testing"

	"parley/media"
)

// A message a frame while the caller speaks and for a second after, one in five
// frames where nobody speaks.
func TestRingWakesForBatchesInQuiet(t *testing.T) {
	r := newRing(8000)
	n := 0
	pcm := make([]int16, 1600)
	frames := func(count int) (woken int) {
		for range count {
			n++
			if err := r.write(media.Frame{Rate: 8000, PCM: slices.Repeat([]int16{int16(n)}, 160)}); err != nil {
				t.Fatal(err)
			}
			select {
			case <-r.wake:
				woken++
				for {
					if got, e, _, _ := r.take(pcm); got == 0 && e == nil {
						break
					}
				}
			default:
			}
		}
		return woken
	}
	if got := frames(50); got != 10 {
		t.Errorf("woken %d times by a second of quiet, want 10", got)
	}
	if err := r.put(event{speech: true}); err != nil {
		t.Fatal(err)
	}
	if got := frames(50); got != 50 {
		t.Errorf("woken %d times by a second of speech, want 50", got)
	}
	if err := r.put(event{speech: false}); err != nil {
		t.Fatal(err)
	}
	if got := frames(49); got != 49 {
		t.Errorf("woken %d times by the second after, want 49", got)
	}
	if got := frames(50); got != 10 {
		t.Errorf("woken %d times by the second after that, want 10", got)
	}
}

// It grows for a slow vendor up to 2 s, and keeps the order.
func TestRingGrows(t *testing.T) {
	r := newRing(8000)
	small := len(r.buf)
	pcm := make([]int16, 800)
	for i := range 5 { // so that what it holds goes over its end
		_ = r.write(media.Frame{Rate: 8000, PCM: slices.Repeat([]int16{int16(-i)}, 160)})
	}
	r.take(pcm)
	for i := range 150 {
		if err := r.write(media.Frame{Rate: 8000, PCM: slices.Repeat([]int16{int16(i)}, 160)}); err != nil {
			t.Fatal(err)
		}
	}
	if small > 2000 || len(r.buf) != 16000 {
		t.Errorf("held %d samples at first and %d at last, want few and 16000", small, len(r.buf))
	}
	if got := r.lost(); got != 50*160 {
		t.Errorf("lost %d samples, want %d", got, 50*160)
	}
	for i := 50; i < 150; i++ {
		if n, _, _, _ := r.take(pcm[:160]); n != 160 || pcm[0] != int16(i) || pcm[159] != int16(i) {
			t.Fatalf("took %d samples of frame %d, want 160 of frame %d", n, pcm[0], i)
		}
	}
}
