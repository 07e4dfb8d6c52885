package main

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"parley/control/console/consoletest"
)

// testBrowserReload reloads the page amid a call: that ends it, at once.
func testBrowserReload(t *testing.T, s *browserSite) {
	p := s.open(t, "front-desk")
	p.Click("Call")
	asked(p, "or to speak to a person?")
	p.Eval("void setTimeout(() => location.reload())", nil)
	if got := s.endedCall(t, p).EndReason; got != "caller" {
		t.Errorf("reason: got %q, want caller", got)
	}
	p.WaitStatus("a fresh page", pageSoon, func(s consoletest.Status) bool { return s.State == "idle" })
	p.Click("Call")
	asked(p, "or to speak to a person?")
	p.Click("Hang up")
	ended(p)
}

// testBrowserResume loses the network in the midst of the flow, for long: the
// page takes the same call up again, at the same question.
func testBrowserResume(t *testing.T, s *browserSite) {
	p := s.open(t, "front-desk")
	n := newNetwork(t)
	n.carry(p)
	p.Click("Call")
	p.Wait("the answer", pageSoon, func() bool {
		var port uint16
		p.Eval("window.mediaPort || 0", &port)
		n.gateway.Store(uint32(port))
		return port != 0
	})
	asked(p, "or to speak to a person?")
	before := s.lastCall(t)
	p.Fill("Message", "book a table\r")
	asked(p, "For how many people?")
	asking := len(p.Log()) - 1

	n.gone.Store(true)
	p.WaitStatus("words about a weak line", pageTurn, func(s consoletest.Status) bool { return s.State == "weak" })
	shoot(p, "resume-weak")
	p.WaitStatus("the page to take the call up again", pageTurn, func(s consoletest.Status) bool { return s.State == "reconnecting" })
	shoot(p, "resume-reconnecting")
	n.gone.Store(false)
	p.WaitLog("the question again", pageTurn, func(l []consoletest.Item) bool {
		i := len(l) - 1
		return i > asking && l[i].Speaker == "agent" && l[i].State == "heard" && strings.Contains(l[i].Text, "many people")
	})
	shoot(p, "resume-again")
	p.Fill("Message", "four\r")
	asked(p, "from Tuesday to Sunday.")
	if after := s.lastCall(t); after.ID != before.ID || after.Status != "active" {
		t.Errorf("call: got %+v, want %s to go on", after, before.ID)
	}
	p.Click("Hang up")
	ended(p)
	c := s.endedCall(t, p)
	if c.ID != before.ID || c.EndReason != "caller" {
		t.Errorf("call: got %+v, want %s ended by the caller", c, before.ID)
	}
	recordingComplete(t, s, c)
	if got := p.Problems(); len(got) != 0 {
		t.Errorf("console: %q, want nothing", got)
	}
}

// A network carries a page's media to the gateway, as long as it is not gone.
type network struct {
	page    *net.UDPConn
	gateway atomic.Uint32 // its media port; 0 until known
	gone    atomic.Bool

	mu    sync.Mutex
	lines map[netip.AddrPort]*net.UDPConn // to the gateway, by the page's socket
	tasks sync.WaitGroup
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	page, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n := &network{page: page, lines: map[netip.AddrPort]*net.UDPConn{}}
	n.tasks.Go(n.there)
	t.Cleanup(func() {
		_ = page.Close()
		n.mu.Lock()
		for _, l := range n.lines {
			_ = l.Close()
		}
		n.mu.Unlock()
		n.tasks.Wait()
	})
	return n
}

// carry makes the page's next calls run over this network alone: the gateway
// learns none of the page's own addresses, and the page ours for the gateway's.
func (n *network) carry(p *consoletest.Page) {
	port := n.page.LocalAddr().(*net.UDPAddr).Port
	p.Eval(`(() => {
  const real = window.fetch;
  window.fetch = async (url, options = {}) => {
    if (options.method === 'PATCH') return new Response(null, { status: 204 });
    const offer = options.method === 'POST' && String(url).startsWith('/webrtc/');
    if (!offer) return real(url, options);
    const answer = await real(url, { ...options, body: options.body.replace(/a=candidate.*\r\n/g, '') });
    const sdp = (await answer.text()).replace(/(a=candidate:\S+ \d+ udp \d+) \S+ (\d+)/gi, (all, head, port) => {
      window.mediaPort = Number(port);
      return head + ' 127.0.0.1 ' + `+strconv.Itoa(port)+`;
    });
    return new Response(sdp, { status: answer.status, headers: answer.headers });
  };
})()`, nil)
}

// there carries what the page sends.
func (n *network) there() {
	buf := make([]byte, 2048)
	for {
		k, from, err := n.page.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if l := n.line(from); l != nil && !n.gone.Load() {
			_, _ = l.Write(buf[:k]) // what is lost is lost
		}
	}
}

// line returns the page's socket's own way to the gateway, nil before that is known.
func (n *network) line(from netip.AddrPort) *net.UDPConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.lines[from]; l != nil {
		return l
	}
	port := n.gateway.Load()
	if port == 0 {
		return nil
	}
	l, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		return nil
	}
	n.lines[from] = l
	n.tasks.Go(func() { n.back(l, from) })
	return l
}

// back carries what the gateway sends to the page's socket.
func (n *network) back(l *net.UDPConn, to netip.AddrPort) {
	buf := make([]byte, 2048)
	for {
		k, err := l.Read(buf)
		if err != nil {
			return
		}
		if !n.gone.Load() {
			_, _ = n.page.WriteToUDPAddrPort(buf[:k], to) // what is lost is lost
		}
	}
}
