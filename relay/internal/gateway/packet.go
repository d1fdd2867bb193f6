package gateway

import (
	"bufio"
	"net"

	"github.com/fairlead/fairlead/protocol"
)

// packets makes datagrams of a call to a udp tunnel: each Write is one, and each Read, of which what does not fit is lost.
func packets(conn net.Conn) net.Conn {
	return &packetConn{Conn: conn, r: bufio.NewReader(conn), buf: make([]byte, protocol.MaxDatagram)}
}

type packetConn struct {
	net.Conn
	r   *bufio.Reader
	buf []byte
}

func (c *packetConn) Read(p []byte) (int, error) {
	n, err := protocol.ReadDatagram(c.r, c.buf)
	if err != nil {
		return 0, err
	}
	return copy(p, c.buf[:n]), nil
}

func (c *packetConn) Write(p []byte) (int, error) {
	frame, err := protocol.AppendDatagram(nil, p)
	if err != nil {
		return 0, err
	}
	if _, err := c.Conn.Write(frame); err != nil {
		return 0, err
	}
	return len(p), nil
}
