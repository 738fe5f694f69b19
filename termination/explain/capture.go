package explain

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"countersign/termination/wire"
)

const (
	maxPackets = 4096
	maxStreams = 256
	maxHellos  = 8
)

// isHello recognises a ClientHello as it goes over the wire: a handshake record of TLS.
func isHello(data []byte) bool {
	return len(data) > 9 && data[0] == 22 && data[1] == 3 && data[5] == 1
}

func readHello(data []byte) []Finding {
	hello, _, err := wire.ReadClientHello(bytes.NewReader(data), 0)
	if err != nil {
		return []Finding{{Kind: KindHello, Title: "A ClientHello that cannot be read", Text: err.Error() + "."}}
	}
	return []Finding{helloFinding(hello, "")}
}

// helloFinding says what a client offered.
func helloFinding(h *wire.ClientHello, from string) Finding {
	_, ja3 := wire.JA3(h)
	ja4 := wire.JA4(h)
	versions := h.SupportedVersions
	if len(versions) == 0 {
		versions = []uint16{h.Version}
	}
	title := "A ClientHello without a server name"
	if h.ServerName != "" {
		title = "A ClientHello for " + h.ServerName
	}
	f := Finding{Kind: KindHello, Title: title, Filter: "ja4:" + ja4}
	if h.ServerName == "" {
		f.Notes = append(f.Notes, "Without a server name only a fallback endpoint can answer.")
	}
	offers := Group{Title: "What it offers", Note: "In the client's order; values that are there only to keep servers honest (GREASE) are left out of JA3 and JA4."}
	add := func(name, value, note string) {
		if value != "" {
			offers.Facts = append(offers.Facts, Fact{name, value, note})
		}
	}
	add("From", from, "")
	add("Server name", h.ServerName, "")
	add("ALPN", strings.Join(h.ALPN, ", "), "")
	add("Versions", named(versions, wire.VersionName), "")
	add("Cipher suites", named(h.CipherSuites, wire.CipherSuiteName), "")
	add("Groups", named(h.Groups, wire.GroupName), "")
	add("Key shares", named(h.KeyShares, wire.GroupName), "")
	add("Signatures", named(h.SignatureSchemes, wire.SignatureSchemeName), "")
	add("Extensions", named(h.Extensions, wire.ExtensionName), "")
	add("JA3", ja3, "")
	add("JA4", ja4, "")
	add("Size", strconv.Itoa(h.Size)+" bytes", "")
	f.Groups = []Group{offers}
	return f
}

func named(list []uint16, name func(uint16) string) string {
	names := make([]string, 0, len(list))
	for _, v := range list[:min(len(list), maxShown)] {
		names = append(names, name(v))
	}
	return strings.Join(names, ", ")
}

// isCapture recognises pcap, of both byte orders and resolutions, and pcapng.
func isCapture(data []byte) bool {
	if len(data) < 24 {
		return false
	}
	switch binary.BigEndian.Uint32(data) {
	case 0xa1b2c3d4, 0xa1b23c4d, 0xd4c3b2a1, 0x4d3cb2a1, 0x0a0d0d0a:
		return true
	}
	return false
}

// stream is what one side of one TCP connection said first, in order.
type stream struct {
	next uint32
	data []byte
	done bool
}

// capture collects the ClientHellos of a recording.
type capture struct {
	streams map[string]*stream
	packets int
	found   []Finding
}

func readCapture(data []byte) []Finding {
	c := &capture{streams: map[string]*stream{}}
	if binary.BigEndian.Uint32(data) == 0x0a0d0d0a {
		c.pcapng(data)
	} else {
		c.pcap(data)
	}
	if len(c.found) == 0 {
		return []Finding{{
			Kind: KindOther, Title: "A recording of a network (pcap) in which no ClientHello was found", Text: fmt.Sprintf("%d packets were looked at.", c.packets),
			Do: []string{"Record from before the client connects, with whole packets: tcpdump -s 0 -w FILE port 443"},
		}}
	}
	return c.found
}

// pcap reads the classic format: a header of 24 bytes, then packets with one of 16.
func (c *capture) pcap(data []byte) {
	var order binary.ByteOrder = binary.BigEndian
	if data[0] == 0xd4 || data[0] == 0x4d {
		order = binary.LittleEndian
	}
	link := order.Uint32(data[20:]) & 0xffff
	for at := 24; len(data)-at >= 16 && c.packets < maxPackets; {
		size := int64(order.Uint32(data[at+8:]))
		at += 16
		if size > int64(len(data)-at) {
			return
		}
		c.packet(link, data[at:at+int(size)])
		at += int(size)
	}
}

// pcapng reads sections, interfaces and enhanced packets of draft-ietf-opsawg-pcapng; other blocks are passed over.
func (c *capture) pcapng(data []byte) {
	var order binary.ByteOrder = binary.LittleEndian
	var links []uint32
	for at := 0; len(data)-at >= 12 && c.packets < maxPackets; {
		if binary.BigEndian.Uint32(data[at:]) == 0x0a0d0d0a {
			links, order = nil, binary.LittleEndian
			if binary.BigEndian.Uint32(data[at+8:]) == 0x1a2b3c4d {
				order = binary.BigEndian
			}
		}
		kind, size := order.Uint32(data[at:]), int64(order.Uint32(data[at+4:]))
		if size < 12 || size > int64(len(data)-at) {
			return
		}
		body := data[at+8 : at+int(size)-4]
		switch {
		case kind == 1 && len(body) >= 8 && len(links) < maxStreams:
			links = append(links, uint32(order.Uint16(body)))
		case kind == 6 && len(body) >= 20:
			on, captured := order.Uint32(body), int64(order.Uint32(body[12:]))
			if int64(on) < int64(len(links)) && captured <= int64(len(body)-20) {
				c.packet(links[on], body[20:20+captured])
			}
		case kind == 3 && len(body) >= 4 && len(links) > 0:
			c.packet(links[0], body[4:])
		}
		at += int(size)
	}
}

// packet takes a packet's link layer off.
func (c *capture) packet(link uint32, p []byte) {
	c.packets++
	cut := func(n int) []byte {
		if len(p) < n {
			return nil
		}
		return p[n:]
	}
	switch link {
	case 1: // Ethernet, perhaps with VLAN tags
		kind := 12
		for range 2 {
			if len(p) >= kind+2 && (binary.BigEndian.Uint16(p[kind:]) == 0x8100 || binary.BigEndian.Uint16(p[kind:]) == 0x88a8) {
				kind += 4
			}
		}
		c.ip(cut(kind + 2))
	case 0, 108: // BSD loopback: four bytes of family
		c.ip(cut(4))
	case 12, 14, 101, 228, 229: // raw IP
		c.ip(p)
	case 113: // Linux cooked
		c.ip(cut(16))
	case 276: // Linux cooked, version 2
		c.ip(cut(20))
	}
}

func (c *capture) ip(p []byte) {
	if len(p) < 20 {
		return
	}
	switch p[0] >> 4 {
	case 4:
		header, total := int(p[0]&0xf)*4, int(binary.BigEndian.Uint16(p[2:]))
		if total == 0 { // segmentation was left to the network card
			total = len(p)
		}
		fragment := binary.BigEndian.Uint16(p[6:])&0x3fff != 0
		if p[9] != 6 || header < 20 || total < header || total > len(p) || fragment {
			return
		}
		c.tcp(fmt.Sprintf("%d.%d.%d.%d", p[12], p[13], p[14], p[15]), string(p[12:20]), p[header:total])
	case 6:
		if len(p) < 40 || p[6] != 6 { // extension headers are not followed
			return
		}
		end := 40 + int(binary.BigEndian.Uint16(p[4:]))
		if end == 40 || end > len(p) {
			end = len(p)
		}
		c.tcp(fmt.Sprintf("%x", p[8:24]), string(p[8:40]), p[40:end])
	}
}

// tcp puts what one side says in order. What comes out of order is left out: the hello is then found only if it is sent
// again.
func (c *capture) tcp(from, addresses string, p []byte) {
	if len(p) < 20 || len(c.found) == maxHellos {
		return
	}
	header := int(p[12]>>4) * 4
	if header < 20 || header > len(p) {
		return
	}
	key := addresses + string(p[:4])
	seq, syn, payload := binary.BigEndian.Uint32(p[4:]), p[13]&2 != 0, p[header:]
	s := c.streams[key]
	switch {
	case syn:
		seq++
		fallthrough
	case s == nil:
		if s != nil && !syn || len(c.streams) >= maxStreams {
			return
		}
		if !syn && !isHello(payload) {
			return
		}
		s = &stream{next: seq}
		c.streams[key] = s
	}
	if s.done || len(payload) == 0 || seq != s.next {
		return
	}
	s.next += uint32(len(payload)) //nolint:gosec // a packet is shorter
	s.data = append(s.data, payload...)
	if len(s.data) >= 6 && !isHello(s.data) && len(s.data) > 9 {
		s.done, s.data = true, nil
		return
	}
	hello, _, err := wire.ReadClientHello(bytes.NewReader(s.data), 0)
	if err != nil {
		s.done = len(s.data) > wire.MaxClientHello
		return
	}
	s.done, s.data = true, nil
	c.found = append(c.found, helloFinding(hello, from+" port "+strconv.Itoa(int(binary.BigEndian.Uint16(p)))))
}
