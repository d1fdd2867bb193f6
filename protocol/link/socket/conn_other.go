//go:build !linux

package socket

// fill waits for bytes in a buffer that it has to hold meanwhile.
func (c *Conn) fill() error {
	if c.busy {
		c.in = inBuffers.Get().(*[]byte)
	}
	return c.fillMore()
}

func (c *Conn) fillFrom(uintptr) bool { return true }

func (c *Conn) tryTo(uintptr) bool { return true }

// TryFlush reports whether nothing waits: here a write may always block.
func (c *Conn) TryFlush() (done bool, err error) { return c.Pending() == 0, nil }

// Silent cannot be asked here without waiting; whatever is buffered speaks against it.
func (c *Conn) Silent() bool { return c.inR == c.inW }
