package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// proxyTime is how long a proxy may take to open a tunnel.
const proxyTime = 10 * time.Second

// proxyHead bounds its answer.
const proxyHead = 16 << 10

// checkProxy refuses what is no proxy's URL; it never repeats it, as it may hold
// a password.
func checkProxy(u *url.URL) error {
	if u != nil && (u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/") {
		return errors.New("egress: the proxy is not one such as http://proxy:3128")
	}
	return nil
}

// tunnel opens a connection to address, which was checked, through the proxy
// (CONNECT, RFC 9110 §9.3.6). The proxy is told the address, not the name: what
// it would resolve by itself nobody has checked.
func (c *Client) tunnel(ctx context.Context, address string) (_ net.Conn, err error) {
	p := c.o.Proxy
	conn, err := c.o.Dial(ctx, "tcp", hostPort(p))
	if err != nil {
		return nil, fmt.Errorf("dial the proxy: %w", err)
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, proxyTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	if p.Scheme == "https" {
		secure := c.transport.TLSClientConfig.Clone()
		secure.ServerName, secure.NextProtos = p.Hostname(), nil
		conn = tls.Client(conn, secure)
	}
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Host: address}, Host: address, Header: http.Header{}}
	if p.User != nil {
		password, _ := p.User.Password()
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(p.User.Username()+":"+password)))
	}
	if err := r.Write(conn); err != nil {
		return nil, fmt.Errorf("ask the proxy: %w", err)
	}
	// The far side says nothing before we do, so that no byte of it is lost here;
	// one that does is cut off.
	in := bufio.NewReaderSize(&head{conn, proxyHead}, proxyHead)
	res, err := http.ReadResponse(in, r)
	if err != nil {
		return nil, fmt.Errorf("ask the proxy: %w", err)
	}
	if res.StatusCode/100 != 2 || in.Buffered() > 0 {
		return nil, fmt.Errorf("the proxy answers %d", res.StatusCode)
	}
	if !stop() {
		return nil, fmt.Errorf("ask the proxy: %w", context.Cause(ctx))
	}
	return conn, nil
}

// head reads at most so many bytes.
type head struct {
	net.Conn
	left int
}

func (h *head) Read(b []byte) (int, error) {
	if h.left <= 0 {
		return 0, errors.New("its answer is too long")
	}
	n, err := h.Conn.Read(b[:min(len(b), h.left)])
	h.left -= n
	return n, err
}
