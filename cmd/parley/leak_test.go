package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/agent"
	"parley/agent/providertest"
	"parley/media"
	"parley/signaling/signalingtest"
)

const (
	stormAtOnce = 48
	stormLife   = 400 * time.Millisecond // longest of most calls, but for those that nobody ends
	stormTalk   = 6 * time.Second        // longest of every fifth, which hears and answers
	stormLimit  = 20 * time.Second       // what the agents allow a call
	deafFor     = 15 * time.Second       // longer than a socket that is not read stays open
)

// stormCalls is how many calls storm: `make storm` has ten thousand.
func stormCalls(t *testing.T) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("PARLEY_STORM"), "1000"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStorm begins 1,000 calls and drops them at random moments in every way
// that a call can go, while vendors fail at random. Nothing of them may be left:
// no goroutine, descriptor, process, memory, open row, or half a recording; and
// none may last longer than it was allowed to.
func TestStorm(t *testing.T) {
	calls := stormCalls(t)
	vendors := providertest.NewOpenAI(providertest.OpenAIScript{Replies: []providertest.Reply{
		{Text: "Of course. Which day would you like, and for how many people? We are open from Tuesday to Sunday."},
		{Text: "Goodbye.", Calls: []agent.ToolCall{{ID: "1", Name: "end_call", Arguments: "{}"}}},
		{Text: "One moment, please, while I look into the book of this week."}}})
	defer vendors.Close()
	ears := providertest.NewDeepgram(providertest.DeepgramScript{Utterances: []string{"I would like to book a table", "on Friday please"}})
	defer ears.Close()
	voices, fickleVoices := beFickle(t, vendors.URL)
	hearing, fickleEars := beFickle(t, ears.URL)
	g := startGateway(t, "--log-level", "error", "--openai-api-key", providertest.Canary, "--openai-base-url", voices,
		"--deepgram-api-key", providertest.Canary, "--deepgram-base-url", hearing)
	s := &storm{gatewayRun: g, speech: spoken(t, "I would like to book a table for Friday evening, please")}
	s.agents(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s.random = rand.New(rand.NewPCG(seed, 0))

	s.run(calls/10, 0) // fills the pools and caches that stay
	s.calm(t)
	before := countLeft(t)
	began := time.Now()
	s.run(calls, calls/2)
	t.Logf("%d calls in %v: %v", calls, time.Since(began).Round(time.Millisecond), s.tally)
	t.Logf("of requests to vendors failed: voice and model %d, passed %d; recognizer %d, passed %d",
		fickleVoices.failed.Load(), fickleVoices.passed.Load(), fickleEars.failed.Load(), fickleEars.passed.Load())
	s.calm(t)
	s.compare(t, before)
	s.ended(t)
	if s.failed > calls/50 {
		t.Errorf("%d calls could not be placed; the first: %v", s.failed, s.firstErr)
	}
}

// A storm places calls from many addresses, since each may only place a few.
type storm struct {
	*gatewayRun
	speech []int16

	mu       sync.Mutex // guards what follows
	random   *rand.Rand
	placed   int
	tally    map[string]int
	failed   int
	firstErr error
}

// agents makes a fast one, with stand-ins for vendors, and a local one.
func (s *storm) agents(t *testing.T) {
	t.Helper()
	var out struct{}
	for name, set := range map[string]settings{
		"fast": {"kind": "prompt", "prompt": "You take bookings.", "greeting": "Hello, this is the front desk. How can I help you?",
			"record": true, "max_seconds": int(stormLimit.Seconds()), "tools": []string{"end_call"}, "stt": []settings{{"vendor": "deepgram"}},
			"llm": []settings{{"vendor": "openai", "model": "m"}}, "tts": []settings{{"vendor": "openai"}}},
		"local": {"kind": "flow", "flow_id": s.flowID(t), "record": true, "max_seconds": int(stormLimit.Seconds()),
			"stt": []settings{{"vendor": "pocketsphinx"}}, "tts": []settings{{"vendor": "flite"}}},
	} {
		s.request(t, "POST", "/v1/agents", map[string]any{"name": name, "public": true, "settings": set}, &out)
	}
}

// A drop is how a call goes.
type drop struct {
	name  string
	share int  // of 100 calls
	slow  bool // the gateway finds out by a time limit, of 5 to 30 s
	phone func(*storm, *signalingtest.CarrierCall)
	peer  func(*storm, *signalingtest.Peer)
}

// drops are the ways; each must leave as little as the next.
var drops = []drop{
	{"phone hangs up", 40, false, func(_ *storm, c *signalingtest.CarrierCall) { _ = c.HangUp() }, nil},
	{"phone's socket is cut", 25, false, func(s *storm, c *signalingtest.CarrierCall) {
		c.Break() // and comes back by /twilio/next
		s.wait()
		_ = c.HangUp()
	}, nil},
	{"phone gives up while dialling", 15, false, nil, nil},
	{"phone falls silent", 1, true, func(_ *storm, c *signalingtest.CarrierCall) { c.Mute(true); _ = c.Wait() }, nil},
	{"phone stops reading", 1, true, func(_ *storm, c *signalingtest.CarrierCall) {
		c.Deafen() // and so does not see that the gateway cuts it
		select {
		case <-c.Done():
		case <-time.After(deafFor):
		}
		_ = c.HangUp()
	}, nil},
	{"browser sends DELETE", 5, false, nil, func(_ *storm, p *signalingtest.Peer) { _ = p.Hangup(context.Background()) }},
	{"browser hangs up by message", 4, false, nil, func(_ *storm, p *signalingtest.Peer) { _ = p.Send(map[string]string{"type": "hangup"}) }},
	{"browser closes", 4, false, nil, func(*storm, *signalingtest.Peer) {}},
	{"browser vanishes", 2, true, nil, func(_ *storm, p *signalingtest.Peer) { _ = p.Vanish() }},
	{"browser gives up while dialling", 3, false, nil, nil},
}

// run places n calls and waits for them. Only the first slow of them may end slowly.
func (s *storm) run(n, slow int) {
	s.mu.Lock()
	s.tally = map[string]int{}
	s.mu.Unlock()
	var calls sync.WaitGroup
	defer calls.Wait()
	slots := make(chan struct{}, stormAtOnce)
	for i := range n {
		d := pickDrop(i)
		if d.slow && i >= slow {
			d = drops[0]
		}
		agent := "fast"
		if i%40 == 7 {
			agent = "local"
		}
		s.mu.Lock()
		s.tally[d.name]++
		s.mu.Unlock()
		if d.slow {
			calls.Go(func() { s.call(d, agent) })
			continue
		}
		slots <- struct{}{}
		calls.Go(func() {
			defer func() { <-slots }()
			s.call(d, agent)
		})
	}
}

// pickDrop deals the drops out evenly by their shares.
func pickDrop(i int) drop {
	at := i * 37 % 100 // 37 and 100 have no common divisor: every share comes
	for _, d := range drops {
		if at -= d.share; at < 0 {
			return d
		}
	}
	return drops[0]
}

// wait lets a random part of a call's life go by.
func (s *storm) wait() {
	s.mu.Lock()
	longest := stormLife
	if s.random.IntN(5) == 0 {
		longest = stormTalk
	}
	d := time.Duration(s.random.Int64N(int64(longest)))
	s.mu.Unlock()
	<-time.After(d)
}

// call places one call and drops it.
func (s *storm) call(d drop, agent string) {
	s.mu.Lock()
	s.placed++
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+s.placed/200), byte(1+s.placed%200))}}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if strings.HasSuffix(d.name, "dialling") {
		go func() { s.wait(); cancel() }()
	}
	var err error
	if strings.HasPrefix(d.name, "phone") {
		err = s.phone(ctx, d, agent, from)
	} else {
		err = s.browse(ctx, d, agent, from)
	}
	if err != nil && ctx.Err() == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed++
		if s.firstErr == nil {
			s.firstErr = fmt.Errorf("%s: %w", d.name, err)
		}
	}
}

func (s *storm) phone(ctx context.Context, d drop, agent string, from *net.Dialer) error {
	line, at := media.EncodePCMU(nil, s.speech), 0
	c, err := signalingtest.Call(ctx, signalingtest.CarrierOptions{URL: s.URL, Agent: agent, To: "+15550001", From: "+15550002",
		StatusURL: s.URL + "/twilio/status", Dial: from.DialContext,
		Source: func(frame []byte) { at = (at + copy(frame, line[at:])) % (len(line) - len(frame)) }})
	if err != nil {
		return err
	}
	s.wait()
	if d.phone != nil {
		d.phone(s, c)
	}
	_ = c.Wait() // of calls that are dropped, faults are no news
	return nil
}

func (s *storm) browse(ctx context.Context, d drop, agent string, from *net.Dialer) error {
	transport := &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}
	client := &http.Client{Transport: transport}
	token, err := s.callToken(ctx, client, agent)
	if err != nil {
		return err
	}
	at := 0
	p, err := signalingtest.Dial(ctx, signalingtest.PeerOptions{URL: s.URL, Agent: agent, Bearer: token, Loopback: true, Client: client,
		Audio: func(frame []int16) bool {
			at = (at + copy(frame, s.speech[at:])) % (len(s.speech) - len(frame))
			return true
		}})
	if err != nil {
		return err
	}
	s.wait()
	if d.peer != nil {
		d.peer(s, p)
	}
	return p.Close()
}

// callToken asks the call page's endpoint for leave to place one call.
func (s *storm) callToken(ctx context.Context, client *http.Client, agent string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/call/"+agent+"/token", nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var out struct{ Token string }
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("mint a token: %s", res.Status)
	}
	return out.Token, json.NewDecoder(res.Body).Decode(&out)
}

// --- what is left ---

type left struct {
	goroutines, descriptors, children int
	heap, resident                    int64 // MiB, of this whole process: gateway, callers, vendors
}

func countLeft(t *testing.T) left {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var total, resident int64
	b, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		_, err = fmt.Sscan(string(b), &total, &resident)
	}
	if err != nil {
		t.Fatal(err)
	}
	return left{runtime.NumGoroutine(), len(fds), children(t), int64(m.HeapAlloc) >> 20, resident * int64(os.Getpagesize()) >> 20}
}

// ended checks that no call lasted longer than it may, with the time to say
// goodbye and to be noticed.
func (s *storm) ended(t *testing.T) {
	t.Helper()
	longest, after := time.Duration(0), ""
	for {
		var page struct {
			Items []storedCall
			Next  string
		}
		s.request(t, "GET", "/v1/calls?limit=200&after="+after, nil, &page)
		for _, c := range page.Items {
			if c.AnsweredAt != nil && c.EndedAt != nil {
				longest = max(longest, c.EndedAt.Sub(*c.AnsweredAt))
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	t.Logf("the longest call took %v", longest.Round(time.Millisecond))
	if most := stormLimit + 40*time.Second; longest > most {
		t.Errorf("a call took %v, want %v at most", longest, most)
	}
}

// children counts this process's own, dead ones too if nobody waited for them.
func children(t *testing.T) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended meanwhile
		}
		var state string
		var parent int
		after := b[bytes.LastIndexByte(b, ')')+1:] // the name may hold anything
		if _, err := fmt.Sscan(string(after), &state, &parent); err == nil && parent == os.Getpid() {
			n++
		}
	}
	return n
}

// open returns the calls that are not closed. A caller's end may overtake the
// webhook that was still taking the call in; the carrier says it again.
func (s *storm) open(t *testing.T) (open []string) {
	t.Helper()
	for _, status := range []string{"arrived", "active", "transferring"} {
		var calls struct {
			Items []struct {
				Carrier string `json:"carrier"`
				SID     string `json:"carrier_call_id"`
			}
		}
		s.request(t, "GET", "/v1/calls?limit=200&status="+status, nil, &calls)
		for _, c := range calls.Items {
			open = append(open, status+" "+c.Carrier+" "+c.SID)
			if status == "arrived" && c.Carrier == "twilio" {
				res, err := http.PostForm(s.URL+"/twilio/status", url.Values{"CallSid": {c.SID}, "CallStatus": {"completed"}, "CallbackSource": {"call-progress-events"}})
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
			}
		}
	}
	return open
}

// calm waits until every call is closed, for as long as a page that vanished
// may take to come back.
func (s *storm) calm(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for open := s.open(t); len(open) > 0; open = s.open(t) {
		if time.Now().After(deadline) {
			t.Fatalf("still open: %q", open)
		}
		<-time.After(250 * time.Millisecond)
	}
}

// slack is what pools and servers may hold more than before: connections to
// the database and to vendors, with their goroutines.
const slack = 12

// heapSlack is what caches with a bound, of speech and of used tokens, may grow by.
const heapSlack = 32 // MiB

func (s *storm) compare(t *testing.T, before left) {
	t.Helper()
	now := countLeft(t)
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); now = countLeft(t) {
		http.DefaultClient.CloseIdleConnections()
		if now.goroutines <= before.goroutines+slack && now.descriptors <= before.descriptors+slack && now.children <= before.children {
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("before %+v, after %+v", before, now)
	if now.goroutines > before.goroutines+slack {
		stacks := make([]byte, 4<<20)
		t.Errorf("goroutines: %d, were %d:\n%s", now.goroutines, before.goroutines, stacks[:runtime.Stack(stacks, true)])
	}
	if now.descriptors > before.descriptors+slack {
		t.Errorf("descriptors: %d, were %d", now.descriptors, before.descriptors)
	}
	if now.children > before.children {
		t.Errorf("child processes: %d, were %d", now.children, before.children)
	}
	if now.heap > before.heap+heapSlack {
		t.Errorf("heap: %d MiB, was %d", now.heap, before.heap)
	}
	err := filepath.WalkDir(filepath.Join(s.data, "recordings"), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".part") {
			t.Errorf("half a recording: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
