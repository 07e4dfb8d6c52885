package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// callCommand calls an agent from the terminal.
type callCommand struct {
	Agent string `arg:"" optional:"" help:"The agent's name or id; none with the address of a webhook or of a media socket."`

	Via  string `default:"webrtc" enum:"webrtc,twilio" help:"How to call: webrtc, as a browser does, or twilio, as a telephone does."`
	URL  string `name:"url" help:"Address of the gateway; or of a voice webhook, or (ws, wss) of a media socket, of any gateway that speaks Twilio's protocol. Default: from DATA/dev.json, else http://127.0.0.1:8080."`
	Data string `default:".parley" help:"Folder where parley dev keeps dev.json."`

	WAV    string `name:"wav" xor:"caller" help:"Play this file as the caller's voice, any channels."`
	Script string `xor:"caller" help:"Do what this file says, a line at a time; - reads it from the terminal."`
	Text   bool   `xor:"caller" help:"Send each line typed here as text, over webrtc."`
	Record string `help:"Write what both sides heard to this WAV file: caller left, agent right."`
	JSON   bool   `name:"json" help:"Print one JSON object a line instead of text."`

	From     string        `default:"+15550100" help:"The caller's number, over twilio."`
	To       string        `default:"+15550199" help:"The number called, over twilio."`
	Transfer string        `default:"completed" enum:"completed,busy,no-answer,failed" help:"What becomes of a transfer, over twilio."`
	Voice    string        `default:"slt" help:"Voice of a script's say lines: slt, rms or awb."`
	Limit    time.Duration `default:"10m" help:"Hang up after this long."`

	APIKey          string `name:"api-key" env:"PARLEY_API_KEY" help:"API key: opens a webrtc call, and reads a telephone call's transcript. Default: from DATA/dev.json."`
	TwilioAuthToken string `env:"TWILIO_AUTH_TOKEN" help:"Sign webhooks as Twilio does; empty: unsigned, which parley dev takes from this machine."`

	webhook string     // path of a webhook that --url names
	stream  string     // media socket that --url names
	on      conditions // of the line
}

// Help shows examples and a script.
func (callCommand) Help() string {
	return `Examples:
  parley call front-desk --text
  parley call front-desk --via twilio --wav caller.wav --record both.wav
  parley call front-desk --via twilio --script order.call
  parley call --url https://other.example/voice --script interrupt.call
  parley call --url wss://other.example/media --script interrupt.call --json

A script has one act a line:
` + scriptHelp + `
Exit status: 0 the call was held, 1 it was not or an expectation failed, 2 called wrongly.`
}

// Run calls, and returns when the call is over.
func (c callCommand) Run(ctx context.Context, io stdio) error {
	if c.Text && c.Via != "webrtc" {
		return usageError{errors.New("text is typed over webrtc: leave out --via twilio, or use a script with press and say")}
	}
	if err := c.find(); err != nil {
		return err
	}
	acts, err := c.prepare(ctx, io)
	if err != nil {
		return err
	}
	if c.on, acts, err = conditionsOf(acts); err != nil {
		return usageError{fmt.Errorf("%s, %w", c.Script, err)}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	return c.hold(ctx, acts, io)
}

// find fills address and key from dev.json where the command line has none.
func (c *callCommand) find() error {
	f, err := readDevFile(c.Data)
	if err != nil {
		return err
	}
	if c.URL == "" || f.URL != "" && strings.HasPrefix(c.URL+"/", f.URL+"/") {
		c.APIKey = cmp.Or(c.APIKey, f.APIKey) // of that gateway only
	}
	c.URL = strings.TrimRight(cmp.Or(c.URL, f.URL, "http://127.0.0.1:8080"), "/")
	if err := c.address(); err != nil {
		return usageError{err}
	}
	if c.Agent == "" && c.webhook == "" && c.stream == "" {
		return usageError{errors.New("name the <agent> to call, or a webhook or media socket by --url")}
	}
	if c.Via == "webrtc" && c.APIKey == "" {
		return usageError{errors.New("a webrtc call needs an API key: give --api-key or PARLEY_API_KEY, or --data with the folder of parley dev")}
	}
	return nil
}

// address tells apart what --url may name: a gateway of ours, a webhook, or a
// media socket. The last two are called as a telephone does.
func (c *callCommand) address() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil, u.Host == "":
		return fmt.Errorf("--url %q is not an address: write it as http://127.0.0.1:8080", c.URL)
	case u.Scheme == "ws", u.Scheme == "wss":
		c.stream, c.URL, c.Via, c.APIKey = c.URL, "", "twilio", ""
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("--url %q is not an address: write it as http://127.0.0.1:8080", c.URL)
	case u.Path != "":
		c.webhook, c.URL, c.Via = u.RequestURI(), u.Scheme+"://"+u.Host, "twilio"
	}
	return nil
}

// prepare reads all that will be said before the call: the line does not wait.
func (c callCommand) prepare(ctx context.Context, io stdio) ([]act, error) {
	switch {
	case c.WAV != "":
		pcm, err := readVoice(c.WAV, lineRate(c.Via))
		if err != nil {
			return nil, usageError{err}
		}
		return []act{{do: "play", pcm: pcm}, {do: "stay", wait: afterVoice}}, nil
	case c.Text:
		return []act{{do: "typing", from: io.in}, {do: "stay", wait: afterVoice}}, nil
	case c.Script == "":
		return []act{{do: "stay", wait: c.Limit}}, nil
	}
	text, err := readScript(c.Script, io.in)
	if err != nil {
		return nil, usageError{err}
	}
	acts, err := parseScript(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", c.Script, err)}
	}
	for _, a := range acts {
		if a.do == "type" && c.Via != "webrtc" {
			return nil, usageError{fmt.Errorf("%s, line %d: text is typed over webrtc alone", c.Script, a.line)}
		}
		if a.needsTranscript() && c.APIKey == "" {
			return nil, usageError{fmt.Errorf("%s, line %d: the transcript is read with an API key: give --api-key or PARLEY_API_KEY", c.Script, a.line)}
		}
	}
	return acts, c.voice(ctx, acts)
}

// afterVoice is the agent's silence after which a caller with nothing left to
// say hangs up.
const afterVoice = 5 * time.Second

// hold places the call and performs the acts.
func (c callCommand) hold(ctx context.Context, acts []act, io stdio) (err error) {
	p := newPhone(lineRate(c.Via))
	if c.Record != "" {
		f, err := os.Create(c.Record)
		if err != nil {
			return usageError{fmt.Errorf("--record: %w", err)}
		}
		// In memory until the end: the frame's road meets no disk.
		defer func() { err = errors.Join(err, p.writeRecording(f), f.Close()) }()
		p.keep()
	}
	paper := &printer{out: io.out, json: c.JSON, began: time.Now()}
	t := &transcript{show: paper.show}
	l, err := c.dial(ctx, p, t, paper)
	if err != nil {
		return c.explain(err)
	}
	var watch errgroup.Group
	watch.Go(func() error { return l.watch(ctx, t) })
	s := &scriptRun{phone: p, line: l, seen: t, show: paper.show}
	failed := s.perform(ctx, acts)
	l.hangUp()
	lost := errors.Join(l.wait(), watch.Wait())
	paper.report(t, p, l.stats(), failed)
	switch {
	case len(failed) > 0:
		return fmt.Errorf("%d of the script's expectations did not hold", len(failed))
	case lost != nil:
		return c.explain(lost)
	}
	return nil
}

// dial places the call.
func (c callCommand) dial(ctx context.Context, p *phone, t *transcript, paper *printer) (line, error) {
	rest := restClient{url: c.URL, key: c.APIKey}
	if c.Via == "twilio" {
		if c.APIKey == "" && c.stream == "" && c.webhook == "" {
			paper.note("no API key: the transcript cannot be shown. Give --api-key or PARLEY_API_KEY.")
		}
		return dialTwilio(ctx, c, p, rest, paper.show)
	}
	return dialWebRTC(ctx, c, p)
}

// explain says what to do about a call that was not held.
func (c callCommand) explain(err error) error {
	text := err.Error()
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case c.stream != "" || c.webhook != "":
		return fmt.Errorf("the call was not held: %w", err)
	case has("connection refused"), has("no such host"):
		return fmt.Errorf("nothing answers at %s: start the gateway with parley dev, or name its address with --url", c.URL)
	case has("status 404"), has("404 Not Found"), text == "reject ":
		return fmt.Errorf("there is no agent %q at %s: GET /v1/agents lists them", c.Agent, c.URL)
	case has("status 401"):
		return fmt.Errorf("%s does not take the API key: give another with --api-key or PARLEY_API_KEY", c.URL)
	case has("status 403") && c.Via == "webrtc":
		return fmt.Errorf("the API key may not call agent %q, or its tenant has no such agent", c.Agent)
	case has("403 Forbidden"):
		return fmt.Errorf("%s takes signed webhooks alone: give its token with --twilio-auth-token or TWILIO_AUTH_TOKEN", c.URL)
	case has("status 503"), has("reject busy"):
		return fmt.Errorf("%s takes no more calls at the moment: try again later", c.URL)
	}
	return fmt.Errorf("the call was not held: %w", err)
}

// A restClient reads the gateway's API.
type restClient struct{ url, key string }

// get reads what stands at path into v.
func (r restClient) get(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+r.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(http.MaxBytesReader(nil, res.Body, 4<<20)); err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: status %d: %.200s", path, res.StatusCode, b.String())
	}
	if err := json.Unmarshal(b.Bytes(), v); err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	return nil
}
