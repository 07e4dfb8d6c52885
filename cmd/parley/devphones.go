package main

import (
	"context"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"parley/control/outbound"
	"parley/media"
	"parley/signaling"
	"parley/signaling/signalingtest"
)

// devPhones are the telephones that ring where parley dev has no carrier: none
// is anybody's. By the end of its number one is busy (41), is not answered (42)
// or has an answering machine (43); at any other somebody picks up, presses 1
// whenever the agent waits for an answer, and leaves it to the agent to hang up.
type devPhones struct {
	rest *signalingtest.REST
	base string // of the gateway
}

// devAccount is whose they are.
var devAccount = "AC" + strings.Repeat("0", 32)

const (
	devRings  = 500 * time.Millisecond
	devQuiet  = 1500 * time.Millisecond // after which the agent waits for an answer
	devKeys   = 5                       // pressed at most
	devVoice  = 400                     // of 32,768: it is heard from here on
	devDetect = time.Second
)

// startDevPhones connects telephones until stop is called, which ends their calls.
func startDevPhones(base string) (p *devPhones, stop func()) {
	p = &devPhones{rest: &signalingtest.REST{AccountSID: devAccount}, base: base}
	ctx, cancel := context.WithCancel(context.Background())
	wait := p.rest.Phones(ctx, p.phone)
	return p, func() { cancel(); wait() }
}

// carrier places calls to them, as Twilio does to others.
func (p *devPhones) carrier() outbound.Carrier {
	none := func(context.Context) (string, error) { return "", nil } // nobody checks it
	return dialCarrier{base: p.base, rest: &signaling.REST{AccountSID: devAccount, Secret: none, Transport: p.rest, Timeout: restPatience}}
}

func (p *devPhones) phone(form url.Values) (signalingtest.CarrierOptions, func(*signalingtest.CarrierCall), error) {
	var heard atomic.Int64 // when the agent was last heard
	var pcm []int16
	o := signalingtest.CarrierOptions{URL: p.base, Rings: devRings, AnsweredBy: "human", DetectAfter: devDetect,
		Heard: func(at time.Time, frame []byte, _ int) {
			pcm = media.DecodePCMU(pcm[:0], frame)
			for _, v := range pcm {
				if v > devVoice {
					heard.Store(at.UnixNano())
					return
				}
			}
		}}
	switch to := form.Get("To"); {
	case strings.HasSuffix(to, "41"):
		o.Unanswered = "busy"
	case strings.HasSuffix(to, "42"):
		o.RingsOut = devRings
	case strings.HasSuffix(to, "43"):
		o.AnsweredBy = "machine_end_beep"
		return o, nil, nil
	}
	return o, func(c *signalingtest.CarrierCall) { answerByKeys(c, &heard) }, nil
}

// answerByKeys presses 1 whenever the agent has spoken and waits.
func answerByKeys(c *signalingtest.CarrierCall, heard *atomic.Int64) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	pressed := int64(0)
	for n := 0; n < devKeys; {
		select {
		case <-c.Done():
			return
		case now := <-tick.C:
			if last := heard.Load(); last > pressed && now.UnixNano()-last > int64(devQuiet) {
				c.Digits("1")
				pressed = now.UnixNano()
				n++
			}
		}
	}
}
