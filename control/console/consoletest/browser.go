// Package consoletest drives our pages in a real browser, headless Chromium,
// as a person would: by accessible names, with sound going in and coming out.
//
// A [Browser] is one process, a [Page] one tab. Share a browser between
// subtests, for a start takes about a second. Every wait has a deadline and
// fails the test with what was waited for.
package consoletest

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	startWithin = 30 * time.Second
	stopWithin  = 10 * time.Second
	actWithin   = 15 * time.Second // one action on a page
	pollEvery   = 25 * time.Millisecond
)

// Options of a browser. The zero value has a microphone that beeps, and grants
// it without asking.
type Options struct {
	// Wav is the file that the microphone plays, from the moment it is opened,
	// over and over: 16-bit PCM. Empty: Chromium's own beeps.
	Wav string
	// WavOnce plays Wav once, then silence.
	WavOnce bool
	// RefuseMicrophone answers every request for the microphone with no.
	RefuseMicrophone bool
	// NoMicrophone leaves the machine without one.
	NoMicrophone bool
	// BlockAutoplay keeps pages silent until a click, as browsers do for people.
	BlockAutoplay bool
	// Width and Height of the window in CSS pixels. Default 1280 by 800.
	Width, Height int
}

// A Browser is a Chromium process with a fresh profile. It resolves every name
// under .test to 127.0.0.1, so a test can be a visitor of another host.
type Browser struct {
	ctx    context.Context
	output *lockedBuffer
}

// Start starts a browser, and ends it with the test. It fails the test if
// Chromium is missing.
func Start(t testing.TB, o Options) *Browser {
	t.Helper()
	path, err := findChromium()
	if err != nil {
		t.Fatal(err)
	}
	b := &Browser{output: &lockedBuffer{}}
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(), append(flags(o),
		chromedp.ExecPath(path), chromedp.CombinedOutput(b.output))...)
	ctx, cancel := chromedp.NewContext(alloc)
	b.ctx = ctx
	t.Cleanup(func() {
		stop, done := context.WithTimeout(ctx, stopWithin)
		defer done()
		if err := chromedp.Cancel(stop); err != nil {
			t.Logf("close browser: %v", err)
		}
		cancel()
		cancelAlloc() // kills what is left, and waits
	})
	// The first run starts the process, and its context must not end before
	// the process does: a timer cancels only a start that hangs.
	timer := time.AfterFunc(startWithin, cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v\n%s", path, err, b.output)
	}
	timer.Stop()
	return b
}

func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no Chromium found: apt-get install chromium")
}

func flags(o Options) []chromedp.ExecAllocatorOption {
	width, height := o.Width, o.Height
	if width == 0 || height == 0 {
		width, height = 1280, 800
	}
	all := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.WindowSize(width, height),
		chromedp.Flag("headless", "new"),
		chromedp.Flag("no-sandbox", true), // tests run in containers, and as root
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-pings", true),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"),
		// Candidates with plain addresses: there is no mDNS where tests run.
		chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter,WebRtcHideLocalIpsWithMdns"),
	)
	if !o.BlockAutoplay {
		all = append(all, chromedp.Flag("autoplay-policy", "no-user-gesture-required"))
	}
	if o.NoMicrophone {
		all = append(all, chromedp.Flag("use-fake-device-for-media-stream", "device-count=0"))
	} else {
		all = append(all, chromedp.Flag("use-fake-device-for-media-stream", true))
	}
	if o.RefuseMicrophone {
		all = append(all, chromedp.Flag("use-fake-ui-for-media-stream", "deny"))
	} else {
		all = append(all, chromedp.Flag("use-fake-ui-for-media-stream", true))
	}
	if o.Wav != "" {
		file := o.Wav
		if o.WavOnce {
			file += "%noloop"
		}
		all = append(all, chromedp.Flag("use-file-for-fake-audio-capture", file))
	}
	return all
}

// lockedBuffer keeps what the browser prints, for the failure of a start.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buf.Len() > 64<<10 {
		return len(p), nil
	}
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
