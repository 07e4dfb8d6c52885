package main

import (
	"context"
	"fmt"
	"path/filepath"

	"parley/agent"
	"parley/agent/tts"
)

// voice makes the speech of a script's acts.
func (c callCommand) voice(ctx context.Context, acts []act) error {
	var flite agent.TTS
	for i := range acts {
		a := &acts[i]
		var err error
		switch a.do {
		case "wav":
			path := a.text
			if !filepath.IsAbs(path) && c.Script != "-" {
				path = filepath.Join(filepath.Dir(c.Script), path)
			}
			a.pcm, err = readVoice(path, lineRate(c.Via))
		case "say":
			if flite == nil {
				if flite, err = tts.Vendors["flite"].Dial(ctx, tts.Options{Voice: c.Voice}); err != nil {
					return usageError{fmt.Errorf("line %d: nothing speaks the script: %w", a.line, err)}
				}
				defer flite.Close()
			}
			a.pcm, err = speech(ctx, flite, a.text, lineRate(c.Via))
		}
		if err != nil {
			return usageError{fmt.Errorf("%s, line %d: %w", c.Script, a.line, err)}
		}
	}
	return nil
}

// speech returns text as said by voice, without the silence at its end.
func speech(ctx context.Context, voice agent.TTS, text string, rate int) ([]int16, error) {
	var pcm []int16
	for s, err := range voice.Say(ctx, agent.Clause{Text: text}) {
		if err != nil {
			return nil, err
		}
		pcm = append(pcm, s.PCM...)
	}
	end := len(pcm)
	for frame := voice.Rate() / 50; end >= frame && !loud(pcm[end-frame:end]); {
		end -= frame
	}
	return resample(pcm[:end], voice.Rate(), rate)
}
