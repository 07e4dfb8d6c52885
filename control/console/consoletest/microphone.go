package consoletest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// micScript puts a microphone into a page that is silent until [Page.Say]. Its
// constant source keeps the stream flowing in between.
const micScript = `(() => {
  if (!navigator.mediaDevices) return;
  let context, out;
  const open = () => {
    context = new AudioContext({ sampleRate: 16000 });
    out = context.createMediaStreamDestination();
    const quiet = new ConstantSourceNode(context, { offset: 0 });
    quiet.connect(out);
    quiet.start();
  };
  navigator.mediaDevices.getUserMedia = async () => {
    if (!context) open();
    await context.resume();
    return out.stream.clone();
  };
  window.consoleTestSay = (text) => new Promise((done, fail) => {
    if (!context) return fail(new Error('nobody has opened the microphone'));
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const pcm = new Int16Array(bytes.buffer);
    const buffer = context.createBuffer(1, pcm.length, 16000);
    buffer.copyToChannel(Float32Array.from(pcm, (s) => s / 32768), 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.onended = () => done();
    source.connect(out);
    source.start();
  });
})()`

// OpenSpeaking opens a tab as [Browser.Open] does, with a microphone of its own
// that is silent until [Page.Say]. So a test speaks when it is its turn,
// however slow the machine is.
func (b *Browser) OpenSpeaking(t testing.TB, url string) *Page {
	t.Helper()
	return b.open(t, url, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: micScript})
		return err
	}))
}

// Say speaks into the microphone of a page of [Browser.OpenSpeaking]: mono
// samples at [RecordRate]. It returns when the last of them has sounded.
func (p *Page) Say(pcm []int16) {
	p.t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, pcm); err != nil {
		p.t.Fatalf("say: %v", err)
	}
	p.Eval("consoleTestSay('"+base64.StdEncoding.EncodeToString(b.Bytes())+"')", nil)
}
