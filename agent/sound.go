package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"parley/media"
)

// An AudioSource fetches a sound file, as one channel.
type AudioSource func(ctx context.Context, url string) (rate int, pcm []int16, err error)

const (
	// audioPatience is how long a sound file may take to come; then its text is
	// said in its stead.
	audioPatience = 3 * time.Second
	// maxAudio is the longest sound file that is played; the rest is left out.
	maxAudio = 10 * time.Minute
	// keyPause is what "w" stands for in keys to press.
	keyPause = 500 * time.Millisecond

	beepTone  = 1000 // hertz
	beepTime  = 400 * time.Millisecond
	beepLevel = 0.25 // 12 dB below full scale
)

// sound is what a line without words is played as. play is false where the
// line's text is to be spoken: it has no sound, or its file does not come.
func (c *conductor) sound(ctx context.Context, l line) (pcm []int16, play bool, err error) {
	rate := c.info.Rate
	switch {
	case l.digits != "":
		pcm, err = keyTones(l.digits, rate)
		return pcm, true, err
	case l.beep:
		return beep(rate), true, nil
	case l.audio == "":
		return nil, false, nil
	}
	if pcm, err = c.fetchAudio(ctx, l.audio, rate); err == nil {
		return pcm, true, nil
	}
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	c.log.Warn("a sound file is not played", "node", l.node, "err", err)
	return nil, Speakable(l.text) == "", nil // with nothing to say instead, nothing is played
}

var errNoAudio = errors.New("this host plays no files")

func (c *conductor) fetchAudio(ctx context.Context, url string, rate int) ([]int16, error) {
	if c.spec.Audio == nil {
		return nil, errNoAudio
	}
	ctx, cancel := context.WithTimeout(ctx, audioPatience)
	defer cancel()
	from, pcm, err := c.spec.Audio(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("fetch audio: %w", err)
	}
	if most := int(media.Samples(maxAudio, from)); len(pcm) > most {
		pcm = pcm[:most]
	}
	if from != rate {
		r, err := media.NewResampler(from, rate)
		if err != nil {
			return nil, fmt.Errorf("audio at %d Hz: %w", from, err)
		}
		pcm = r.Process(nil, pcm)
	}
	return pcm, nil
}

// emitAll gives sound piece by piece: the player takes a bounded amount.
func emitAll(pcm []int16, rate int, emit func(spoken) error) error {
	piece := int(media.Samples(time.Second, rate))
	for len(pcm) > piece {
		if err := emit(spoken{pcm: pcm[:piece]}); err != nil {
			return err
		}
		pcm = pcm[piece:]
	}
	return emit(spoken{pcm: pcm, whole: true})
}

// keyTones are keys as tones; each w is a pause of half a second.
func keyTones(keys string, rate int) ([]int16, error) {
	var pcm []int16
	for i, part := range strings.Split(strings.ToLower(keys), "w") {
		if i > 0 {
			pcm = append(pcm, make([]int16, media.Samples(keyPause, rate))...)
		}
		tones, err := media.Tones(part, rate)
		if err != nil {
			return nil, err
		}
		pcm = append(pcm, tones...)
	}
	return pcm, nil
}

// beep is the tone after which a message is recorded.
func beep(rate int) []int16 {
	pcm := make([]int16, media.Samples(beepTime, rate))
	for i := range pcm {
		pcm[i] = int16(beepLevel * math.MaxInt16 * math.Sin(2*math.Pi*beepTone*float64(i)/float64(rate)))
	}
	fade := int(media.Samples(5*time.Millisecond, rate))
	media.Fade(pcm, fade, true)
	media.Fade(pcm, fade, false)
	return pcm
}
