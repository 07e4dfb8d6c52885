package media

import (
	"slices"
	"testing"
)

// A call may begin in noise, which is soon known for noise, also where
// packets are lost, and with speech, which is found from the first.
func TestVADStart(t *testing.T) {
	hits, all := 0, 0
	for _, rate := range []int{8000, 16000} {
		for _, kind := range []string{"white", "pink", "car"} {
			for _, level := range []float64{-55, -45, -35} {
				pcm := mix(make([]int16, 3*rate), noise(t, kind, rate, 3*rate), level)
				for _, holes := range []bool{false, true} {
					from := 45 // frames
					if holes {
						from = 85
					}
					for i := 13; holes && i < 150; i += 37 { // a frame in fifty or so
						clear(pcm[i*rate/50 : (i+1)*rate/50])
					}
					speech := detect(mustVAD(t, rate), pcm, rate)
					if alarms := share(speech[from:]); alarms > 3 {
						t.Errorf("%s %s %.0f dBFS, holes %v: %.1f %% is speech from frame %d", rateName(rate), kind, level, holes, alarms, from)
					}
				}
			}
			for _, voice := range []string{"slt", "rms"} {
				clean := conversation(t, voice, rate)
				clean = clean[slices.Index(speechLabels(clean, rate), 1)*rate/50:]
				labels := speechLabels(clean, rate)[:100]
				for _, level := range []float64{-90, -45, -35} {
					for i, speech := range detect(mustVAD(t, rate), mix(clean, noise(t, kind, rate, len(clean)), level), rate)[:100] {
						if labels[i] == 1 {
							all++
							if speech {
								hits++
							}
						}
					}
				}
			}
		}
	}
	if found := 100 * float64(hits) / float64(all); found < 98 {
		t.Errorf("%.1f %% of the speech that calls begin with is found, of %d frames", found, all)
	}
}
