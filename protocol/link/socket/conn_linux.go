package socket

import (
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// fill waits for bytes and takes as many as there are. A large buffer is taken once they are there.
func (c *Conn) fill() error {
	if c.raw == nil || !c.busy {
		return c.fillMore()
	}
	c.fillErr = nil
	if err := c.raw.Read(c.fillFD); err != nil {
		return err // a deadline, or closed
	}
	if c.fillErr != nil {
		return &net.OpError{Op: "read", Net: "tcp", Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", c.fillErr)}
	}
	if c.in == nil {
		return io.EOF
	}
	return nil
}

// fillFrom is fill's part that runs when the descriptor may have bytes; false: it has none yet.
func (c *Conn) fillFrom(fd uintptr) bool {
	buf := inBuffers.Get().(*[]byte)
	n, err := readFD(int(fd), *buf)
	if n <= 0 {
		inBuffers.Put(buf)
		c.fillErr = err
		return !errors.Is(err, unix.EAGAIN)
	}
	c.in, c.inR, c.inW, c.fillErr = buf, 0, n, nil
	c.busy = n >= smallRead
	return true
}

func readFD(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err == unix.EINTR {
			continue
		}
		return n, err
	}
}

// TryFlush sends what can be sent without waiting, and reports whether nothing is left.
func (c *Conn) TryFlush() (done bool, err error) {
	if c.raw == nil {
		return c.Pending() == 0, nil
	}
	for c.next() {
		c.tried, c.tryErr = 0, nil
		if err := c.raw.Write(c.tryFD); err != nil {
			return false, err
		}
		switch {
		case errors.Is(c.tryErr, unix.EAGAIN), errors.Is(c.tryErr, unix.EINTR):
			return false, nil
		case c.tryErr != nil:
			return false, &net.OpError{Op: "write", Net: "tcp", Addr: c.RemoteAddr(), Err: os.NewSyscallError("write", c.tryErr)}
		}
		if c.sent += c.tried; c.sent < len(*c.sending) {
			return false, nil
		}
	}
	return true, nil
}

// tryTo is TryFlush's part that has the descriptor.
func (c *Conn) tryTo(fd uintptr) bool {
	c.tried, c.tryErr = unix.Write(int(fd), (*c.sending)[c.sent:])
	return true
}

// Silent reports whether the peer has sent nothing that is still unread, no end and no reset: what an idle connection
// looks like that can be used. It does not block.
func (c *Conn) Silent() bool {
	if c.inR < c.inW {
		return false
	}
	if c.raw == nil {
		return true
	}
	silent := false
	err := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		silent = errors.Is(err, unix.EAGAIN)
	})
	return err == nil && silent
}
