package consoletest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A Page is one tab. Its methods fail the test that opened it.
type Page struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	problems []string
}

// Open opens a tab at url and closes it with the test.
func (b *Browser) Open(t testing.TB, url string) *Page {
	t.Helper()
	return b.open(t, url)
}

// open does prepare in the new tab before it goes to url.
func (b *Browser) open(t testing.TB, url string, prepare ...chromedp.Action[chromedp.Void]) *Page {
	t.Helper()
	p := &Page{t: t}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithListener(p.listen))
	p.ctx = ctx
	t.Cleanup(cancel)
	actions := append([]chromedp.Action[chromedp.Void]{chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, log.Enable, cdp.Empty{})
		return err
	})}, prepare...)
	p.do("open "+url, append(actions, chromedp.Navigate(url))...)
	return p
}

// listen collects what a developer would see in red in the console.
func (p *Page) listen(event any) {
	var text string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type != "error" {
			return
		}
		for _, arg := range e.Args {
			text += fmt.Sprintf("%s%s ", arg.Value, arg.Description)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level != "error" {
			return
		}
		text = e.Entry.Text + " " + e.Entry.URL
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, strings.TrimSpace(text))
}

// Problems returns the errors on the page's console so far: exceptions,
// console.error, failed loads, violations of the content security policy.
func (p *Page) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.problems...)
}

func (p *Page) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := p.bounded()
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

// bounded limits one action. The tab's first action must run in the tab's own
// context, which chromedp ties the tab's life to.
func (p *Page) bounded() (context.Context, context.CancelFunc) {
	if chromedp.FromContext(p.ctx).Target == nil {
		return p.ctx, func() {}
	}
	return context.WithTimeout(p.ctx, actWithin)
}

// Eval runs a JavaScript expression, awaits it if it is a promise, and stores
// its JSON value in out, unless out is nil.
func (p *Page) Eval(expression string, out any) {
	p.t.Helper()
	if err := p.eval(expression, out); err != nil {
		p.t.Fatalf("eval %.120s: %v", expression, err)
	}
}

func (p *Page) eval(expression string, out any) error {
	ctx, cancel := p.bounded()
	defer cancel()
	wrapped := "(async () => JSON.stringify((await (" + expression + ")) ?? null))()"
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](wrapped, chromedp.EvalAwaitPromise))
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}

// A Node is an element as assistive technology sees it.
type Node struct {
	Role string
	Name string

	id cdp.BackendNodeID
}

// Nodes returns the page's accessibility tree, flat and in its order, without
// what is hidden from it.
func (p *Page) Nodes() []Node {
	p.t.Helper()
	nodes, err := p.nodes()
	if err != nil {
		p.t.Fatalf("read accessibility tree: %v", err)
	}
	return nodes
}

func (p *Page) nodes() ([]Node, error) {
	ctx, cancel := p.bounded()
	defer cancel()
	tree, err := chromedp.Run(ctx, func(ctx context.Context, t *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
		return cdp.Call(ctx, t, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	})
	if err != nil {
		return nil, err
	}
	var nodes []Node
	for _, n := range tree.Nodes {
		if !n.Ignored {
			nodes = append(nodes, Node{Role: text(n.Role), Name: text(n.Name), id: n.BackendDOMNodeID})
		}
	}
	return nodes, nil
}

func text(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	var s string
	if json.Unmarshal(v.Value, &s) != nil {
		return ""
	}
	return s
}

// find waits for the element of that role and name.
func (p *Page) find(role, name string) Node {
	p.t.Helper()
	var found Node
	p.Wait(fmt.Sprintf("%s named %q", role, name), actWithin, func() bool {
		nodes, err := p.nodes()
		if err != nil {
			return false
		}
		for _, n := range nodes {
			if n.Role == role && n.Name == name {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// Click clicks the button of that accessible name, where it is on the screen.
func (p *Page) Click(name string) {
	p.t.Helper()
	node := p.find("button", name)
	p.do("click "+name, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		if _, err := cdp.Call(ctx, t, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{BackendNodeID: node.id}); err != nil {
			return err
		}
		res, err := cdp.Call(ctx, t, dom.GetContentQuads, dom.GetContentQuadsParams{BackendNodeID: node.id})
		if err != nil {
			return err
		}
		if len(res.Quads) == 0 {
			return fmt.Errorf("button %q is not on the screen", name)
		}
		q := res.Quads[0] // four corners, clockwise
		_, err = chromedp.MouseClickXY((q[0]+q[4])/2, (q[1]+q[5])/2)(ctx, t)
		return err
	}))
}

// Fill puts text into the text box of that accessible name, by keys.
func (p *Page) Fill(name, text string) {
	p.t.Helper()
	node := p.find("textbox", name)
	p.do("fill "+name, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, dom.Focus, dom.FocusParams{BackendNodeID: node.id})
		return err
	}), chromedp.KeyEvent(text))
}

// Press types keys into whatever has the focus; "\t" moves it, "\r" is Enter.
func (p *Page) Press(keys string) {
	p.t.Helper()
	p.do("press keys", chromedp.KeyEvent(keys))
}

// Wait polls until met holds, and fails the test after the limit with what was
// waited for and how the page looks then.
func (p *Page) Wait(what string, limit time.Duration, met func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(limit)
	for !met() {
		if time.Now().After(deadline) {
			var body string
			_ = p.eval("document.body.innerText", &body)
			p.t.Fatalf("waited %v for %s\nconsole: %q\npage:\n%s", limit, what, p.Problems(), body)
		}
		time.Sleep(pollEvery)
	}
}

// Emulate sets the window's size in CSS pixels and the color scheme.
func (p *Page) Emulate(width, height int, dark bool) {
	p.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	p.do("emulate", chromedp.EmulateViewport(int64(width), int64(height)),
		chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
			_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
			return err
		}))
}

// Screenshot writes what the window shows to a PNG file.
func (p *Page) Screenshot(file string) {
	p.t.Helper()
	ctx, cancel := p.bounded()
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(file, png, 0o644)
	}
	if err != nil {
		p.t.Fatalf("screenshot: %v", err)
	}
}
