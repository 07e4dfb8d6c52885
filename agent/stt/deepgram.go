package stt

import "context"
import "parley/agent"

var deepgram = Vendor{Name: "deepgram", Rates: []int{16000}, Models: []string{"nova-3"}, Dial: func(context.Context, Options) (agent.STT, error) { return nil, nil }}
