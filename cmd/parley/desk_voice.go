package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/agent/effect"
	"parley/agent/flow"
	"parley/agent/tts"
	"parley/control"
	"parley/control/egress"
	"parley/media"
)

// What calls keep and play besides speech: messages, sound files, and speech
// that was made beforehand.

// messageBox keeps the messages of one call among the recordings.
type messageBox struct {
	blobs control.Blobs
	call  control.Call
	log   *slog.Logger
}

// Take implements [agent.Mailbox].
func (m messageBox) Take(ctx context.Context, name string, rate int) (agent.Memo, error) {
	id := uuid.NewSHA1(m.call.ID, []byte(name))
	key := control.MessageKey(m.call.Tenant, m.call.ID, id)
	blob, err := m.blobs.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	seek, ok := blob.(io.WriteSeeker)
	if !ok {
		_ = blob.Close()
		return nil, errors.New("the blob store cannot seek")
	}
	wav, err := media.NewMessageRecorder(seek, rate)
	if err != nil {
		_ = blob.Close()
		return nil, err
	}
	return &memo{box: m, id: id, key: key, blob: blob, wav: wav}, nil
}

// A memo implements [agent.Memo].
type memo struct {
	box  messageBox
	id   uuid.UUID
	key  string
	blob io.WriteCloser
	wav  *media.Recorder
}

func (m *memo) Write(pcm []int16) error { return m.wav.WriteOne(pcm) }

func (m *memo) Keep() (id, url string, err error) {
	if err := errors.Join(m.wav.Close(), m.blob.Close()); err != nil {
		m.box.log.Error("a caller's message is lost", "err", err)
		return "", "", err
	}
	return m.id.String(), "/v1/calls/" + m.box.call.ID.String() + "/messages/" + m.id.String(), nil
}

func (m *memo) Drop() {
	_ = m.blob.Close()
	if err := m.box.blobs.Delete(context.Background(), m.key); err != nil {
		m.box.log.Warn("an empty message stays", "err", err)
	}
}

// soundFiles fetches what flows play, by the one way out.
// They are paid from the budgets of the call's party.
func soundFiles(o *outside, party control.Party) agent.AudioSource {
	if o == nil {
		return nil
	}
	return func(ctx context.Context, address string) (int, []int16, error) {
		u, err := url.Parse(address)
		if err != nil {
			return 0, nil, errors.New("the address of a sound file cannot be read")
		}
		ctx = control.WithParty(ctx, party)
		ctx = egress.WithBudgets(control.WithTenant(ctx, party.Tenant), o.bounds.budgets(ctx, party.Tenant)...)
		res, err := o.sender().Send(ctx, effect.Request{Method: http.MethodGet, URL: u, Header: http.Header{}})
		if err != nil {
			return 0, nil, err
		}
		if res.Status != http.StatusOK {
			return 0, nil, fmt.Errorf("status %d", res.Status)
		}
		rate, channels, pcm, err := media.ReadWAV(bytes.NewReader(res.Body))
		return rate, mono(pcm, channels), err
	}
}

// mono mixes channels into one.
func mono(pcm []int16, channels int) []int16 {
	if channels < 2 {
		return pcm
	}
	out := pcm[:0:len(pcm)]
	for ; len(pcm) >= channels; pcm = pcm[channels:] {
		sum := 0
		for _, s := range pcm[:channels] {
			sum += int(s)
		}
		out = append(out, int16(sum/channels))
	}
	return out
}

// speechStore keeps speech among the recordings, for all tenants: the same
// words in the same voice sound the same. It implements [agent.SpeechStore].
type speechStore struct{ blobs control.Blobs }

// speechBlob is the key of a line's speech. Its 64 digits are a SHA-256, of which
// half suffices.
func speechBlob(key string) (string, error) {
	b, err := hex.DecodeString(key)
	if err != nil || len(b) < 16 {
		return "", errors.New("malformed key of speech")
	}
	id, err := uuid.FromBytes(b[:16])
	return uuid.Nil.String() + "/" + id.String() + ".speech", err
}

func (s speechStore) LoadSpeech(ctx context.Context, key string) ([]byte, error) {
	name, err := speechBlob(key)
	if err != nil {
		return nil, err
	}
	b, err := s.blobs.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(io.LimitReader(b, 16<<20))
}

func (s speechStore) SaveSpeech(ctx context.Context, key string, data []byte) error {
	name, err := speechBlob(key)
	if err != nil {
		return err
	}
	w, err := s.blobs.Create(ctx, name)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	return err
}

const (
	prerenderQueue = 256
	prerenderTime  = 5 * time.Minute // of one agent
	maxSeen        = 10_000
)

// A prerenderer makes the fixed lines of agents' flows beforehand: when a flow
// is published, and when an agent serves its first call here. One at a time, so
// that callers come first.
type prerenderer struct {
	agents  *control.Agents
	graphs  *control.Graphs
	vendors *vendors
	cache   *agent.SpeechCache
	log     *slog.Logger
	queue   chan prerender

	mu   sync.Mutex
	seen map[string]struct{} // agents and flows that have served a call here
}

// A prerender is an agent's flow, or all agents of a flow.
type prerender struct {
	tenant, flow uuid.UUID
	version      uuid.UUID              // that was published, for all agents with the flow
	settings     *control.AgentSettings // of one agent; nil: see version
	running      *flow.Flow             // with settings
}

func newPrerenderer(a *control.Agents, g *control.Graphs, v *vendors, c *agent.SpeechCache, log *slog.Logger) *prerenderer {
	return &prerenderer{agents: a, graphs: g, vendors: v, cache: c, log: log, queue: make(chan prerender, prerenderQueue), seen: map[string]struct{}{}}
}

// add asks for work. Where there is too much of it, it is left out: lines are
// made as they are needed.
func (p *prerenderer) add(w prerender) {
	select {
	case p.queue <- w:
	default:
	}
}

// published is told of each flow that is published.
func (p *prerenderer) published(ctx context.Context, v control.Version) {
	if tenant, ok := control.TenantOf(ctx); ok {
		p.add(prerender{tenant: tenant, flow: v.Of, version: v.ID})
	}
}

// serves is told of each call that an agent with a flow serves; the first of
// each version counts.
func (p *prerenderer) serves(v *control.Serving) {
	if p == nil || v.Flow == nil {
		return
	}
	p.mu.Lock()
	key := v.Agent.ID.String() + v.Flow.ID + v.Flow.Version + v.Agent.UpdatedAt.String()
	_, known := p.seen[key]
	if !known && len(p.seen) < maxSeen {
		p.seen[key] = struct{}{}
	}
	p.mu.Unlock()
	if !known {
		set := v.Agent.Settings
		p.add(prerender{tenant: v.Call.Tenant, flow: set.FlowID, settings: &set, running: v.Flow})
	}
}

// run works until ctx ends.
func (p *prerenderer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case w := <-p.queue:
			if err := p.do(control.WithTenant(ctx, w.tenant), w); err != nil && ctx.Err() == nil {
				p.log.Warn("fixed lines are made as they are needed", "flow", w.flow, "err", err)
			}
		}
	}
}

func (p *prerenderer) do(ctx context.Context, w prerender) error {
	if w.settings != nil {
		return p.render(ctx, w.tenant, *w.settings, w.running)
	}
	var page control.Page
	page.Limit = 200
	agents, err := p.agents.Store.Agents(ctx, page)
	if err != nil {
		return err
	}
	for _, a := range agents {
		if a.Settings.Kind != control.KindFlow || a.Settings.FlowID != w.flow {
			continue
		}
		f, _, err := p.graphs.Pin(ctx, w.version, control.Live)
		if err == nil {
			err = p.render(ctx, w.tenant, a.Settings, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *prerenderer) render(ctx context.Context, tenant uuid.UUID, set control.AgentSettings, f *flow.Flow) error {
	ctx, cancel := context.WithTimeout(ctx, prerenderTime)
	defer cancel()
	voices, err := p.vendors.synthesizers(tenant.String(), set.TTS, p.log)
	if err != nil {
		return err
	}
	// A voice of this machine is as quick as a file, and is never away.
	voices = slices.DeleteFunc(voices, func(s agent.Synthesizer) bool { return tts.Vendors[s.Vendor].Local })
	lines := append(agent.HouseLines(set.Language), agent.FixedLines(f)...)
	made, err := p.cache.Prerender(ctx, voices, lines, p.log)
	if made > 0 {
		p.log.Info("made fixed lines beforehand", "lines", made, "of", len(lines))
	}
	return err
}

// hears lets events from outside reach a session.
func hears(d *desk, v *control.Serving, commands chan agent.Command, log *slog.Logger) {
	d.calls.Hear(v, func(event string, data json.RawMessage) {
		select {
		case commands <- agent.Command{Do: "event", Event: event, Data: data}:
		default:
			log.Warn("an event is dropped: the session takes none", "event", event)
		}
	})
}
