package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/media"
)

// A Spec is all that a session needs to start. Prompt or Flow is set, not both.
type Spec struct {
	CallID   string // in every log line
	Language string // BCP 47; default "en-US"

	Prompt *PromptSpec
	Flow   *FlowSpec

	Recognizers  []Recognizer  // tried in order
	Synthesizers []Synthesizer // tried in order

	Endpointing  Endpointing
	Interruption Interruption
	Speculation  Speculation

	Idle        time.Duration // quiet after which the caller is asked; default 8 s
	MaxDuration time.Duration // default 30 min
	InBandDTMF  bool          // listen for keys as tones

	VADWeights *media.VADWeights // nil: speech is told from noise without a network

	Journal   Journal     // nil: nothing is kept
	Recording Recording   // nil: not recorded
	Observe   func(Event) // nil: nobody looks on; called by the conductor, must not block
	Cache     *SpeechCache
	Audio     AudioSource // nil: no sound files are played
	Mailbox   Mailbox     // nil: callers leave no messages
	Apology   string      // said when no vendor is left; made beforehand
	Log       *slog.Logger

	// Returned is the outcome of a transfer that brought the caller back:
	// busy, no_answer, failed, declined. Empty: a fresh call, or one that lost
	// its line.
	Returned string

	// Turns and Elapsed are what the call had before this session, if its line
	// was lost or a transfer came back: indices and offsets of turns count on.
	Turns   int
	Elapsed time.Duration

	// AwaitHello is how long the agent waits for whoever picked up to say hello, in
	// a call that it has placed. 0: it speaks first.
	AwaitHello time.Duration

	// Commands are an operator's wishes. Nil: none.
	Commands <-chan Command
}

const (
	defaultApology = "Sorry, something went wrong on our side. Please call again later. Goodbye."
	limitNotice    = "I'm sorry, we have reached the time limit for this call. Goodbye."
	drainNotice    = "I'm sorry, I have to end this call. Please call again in a minute. Goodbye."

	// teardown bounds how long a session takes to be gone.
	teardown = 2 * time.Second
)

func (s Spec) withDefaults() Spec {
	s.Language = cmp.Or(s.Language, "en-US")
	s.Idle = cmp.Or(s.Idle, 8*time.Second)
	s.MaxDuration = cmp.Or(s.MaxDuration, 30*time.Minute)
	s.Apology = cmp.Or(s.Apology, defaultApology)
	s.Endpointing = s.Endpointing.withDefaults()
	s.Interruption = s.Interruption.withDefaults()
	s.Speculation = s.Speculation.withDefaults()
	s.Recognizers = slices.Clone(s.Recognizers)
	for i := range s.Recognizers {
		if s.Recognizers[i].Lag == nil {
			s.Recognizers[i].Lag = &Lag{}
		}
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Journal == nil {
		s.Journal = noJournal{}
	}
	if s.Cache == nil {
		s.Cache = &SpeechCache{}
	}
	return s
}

type noJournal struct{}

func (noJournal) Turn(context.Context, Turn)     {}
func (noJournal) Commit(context.Context, Commit) {}

// Run holds a conversation on leg until it has ended, and closes leg. It
// returns how it ended. Every goroutine and stream it starts lives within the
// call: when Run returns, none is left.
func Run(ctx context.Context, leg media.Leg, spec Spec) Ending {
	spec = spec.withDefaults()
	info := leg.Info()
	sessionsActive.WithLabelValues(info.Carrier).Inc()
	defer sessionsActive.WithLabelValues(info.Carrier).Dec()

	end, err := run(ctx, leg, spec)
	if end.Reason == "" {
		end.Reason = "network"
	}
	if err != nil && end.Err == nil && !errors.Is(err, context.Canceled) {
		end.Err = err
	}
	sessionsEnded.WithLabelValues(info.Carrier, end.Reason).Inc()
	return end
}

func run(ctx context.Context, leg media.Leg, spec Spec) (end Ending, err error) {
	defer func() { _ = leg.Close(end.Reason) }()
	info := leg.Info()
	vad, err := newDetector(spec.VADWeights, info.Rate)
	if err != nil {
		return Ending{Reason: "protocol"}, fmt.Errorf("leg at %d Hz: %w", info.Rate, err)
	}
	counted := &meter{}
	m, err := newMind(spec, counted)
	if err != nil {
		return Ending{Reason: "vendor"}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)

	player := media.NewPlayer(leg)
	c := newConductor(leg, player, m, spec)
	c.meter, c.voice.meter = counted, counted
	if f, ok := m.(*flowMind); ok {
		f.happened = c.happened
	}
	defer c.voice.close() // where run ends early
	c.voice.ready(ctx)    // before the greeting is over
	rec := newRecognizer(spec.Recognizers, info.Rate, c.post(ctx), spec.Log)
	rec.meter = counted
	rec.hearing = Hearing{Language: spec.Language}
	c.rec = rec
	ears := &ears{leg: leg, player: player, vad: vad, rec: rec, post: c.post(ctx),
		record: &tap{to: spec.Recording, fail: func(err error) {
			spec.Log.Error("recording stopped", "err", err)
		}}}
	if spec.InBandDTMF {
		ears.tones = media.NewToneDetector(info.Rate)
	}
	c.ears = ears

	g.Go(func() error {
		if err := player.Run(ctx); !errors.Is(err, media.ErrClosed) {
			return err
		}
		return nil // why it was closed, the leg tells
	})
	g.Go(ears.run)
	if len(spec.Recognizers) > 0 {
		g.Go(func() error {
			if err := rec.run(ctx); err != nil {
				c.post(ctx)(deaf{err})
			}
			return nil
		})
	}
	end = c.run(ctx)
	err = leg.Close(end.Reason)
	cancel() // everything else ends with the conductor
	if e := g.Wait(); e != nil {
		err = e
	}
	c.settle(end)
	c.voice.close() // after the clause that was being made
	end.Uses = counted.take()
	return end, err
}

func newMind(spec Spec, counted *meter) (mind, error) {
	switch {
	case spec.Flow != nil:
		if spec.Flow.Models != nil {
			spec.Flow.Models.countBy(counted)
		}
		return newFlowMind(spec)
	case spec.Prompt != nil:
		m := newPromptMind(*spec.Prompt, spec.Log)
		m.models.meter = counted
		return m, nil
	}
	return nil, errors.New("agent: neither a prompt nor a flow")
}
