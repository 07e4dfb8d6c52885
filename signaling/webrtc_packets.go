package signaling

import (
	"errors"
	"fmt"
	"net"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

// rtcPackets are the sockets of all media, on one port.
type rtcPackets struct {
	mux   ice.UDPMux
	conns []net.PacketConn
	port  int
}

func (p rtcPackets) close() error {
	errs := []error{p.mux.Close()}
	for _, c := range p.conns {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// openPackets opens the sockets of all media.
//
// Full ICE has one for each address of the machine. A single socket on all of
// them answers a check from whichever address the kernel prefers, and hands what
// arrives to the candidate that reads first: a nomination can then be noted at
// one pair of candidates and its proof at another, and the call stays mute.
// ICE-lite has but one candidate and takes a nomination as it comes: one socket
// does, also for addresses that the machine gets later.
func (w *WebRTC) openPackets() (rtcPackets, error) {
	if w.o.Packets != nil {
		return w.muxed(w.o.Packets), nil
	}
	ips := []net.IP{w.o.Bind}
	if w.o.PublicAddr == "" && (w.o.Bind == nil || w.o.Bind.IsUnspecified()) {
		var err error
		if ips, err = localIPv4(w.o.Loopback); err != nil {
			return rtcPackets{}, err
		}
	}
	// A free port of one address may be taken at another: then the next one.
	var conns []net.PacketConn
	var err error
	for range 10 {
		if conns, err = bindAll(ips, w.o.Port); err == nil || w.o.Port != 0 {
			break
		}
	}
	if err != nil {
		return rtcPackets{}, fmt.Errorf("open media port: %w", err)
	}
	return w.muxed(conns...), nil
}

func (w *WebRTC) muxed(conns ...net.PacketConn) rtcPackets {
	p := rtcPackets{conns: conns}
	if at, ok := conns[0].LocalAddr().(*net.UDPAddr); ok {
		p.port = at.Port
	}
	muxes := make([]ice.UDPMux, len(conns))
	for i, c := range conns {
		muxes[i] = webrtc.NewICEUDPMux(nil, c)
	}
	if p.mux = muxes[0]; len(muxes) > 1 {
		p.mux = ice.NewMultiUDPMuxDefault(muxes...)
	}
	return p
}

// bindAll opens the same port at every address; port 0 is one that is free.
func bindAll(ips []net.IP, port int) (conns []net.PacketConn, err error) {
	defer func() {
		if err != nil {
			for _, c := range conns {
				_ = c.Close() // the first error tells
			}
			conns = nil
		}
	}()
	for _, ip := range ips {
		udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ip, Port: port})
		if err != nil {
			return conns, err
		}
		_ = udp.SetReadBuffer(4 << 20) // as much as the kernel grants; bursts of all calls meet here
		conns = append(conns, udp)
		if at, ok := udp.LocalAddr().(*net.UDPAddr); ok {
			port = at.Port
		}
	}
	return conns, nil
}

// localIPv4 returns the machine's addresses; where it has no other, or loopback
// is wanted, 127.0.0.1 among them.
func localIPv4(loopback bool) (ips []net.IP, err error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the machine's addresses: %w", err)
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			ips = append(ips, n.IP)
		}
	}
	if loopback || len(ips) == 0 {
		ips = append(ips, net.IPv4(127, 0, 0, 1))
	}
	return ips, nil
}
