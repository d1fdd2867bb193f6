package lanelink

import "slices"

// Say tells the peer something of the lane, between two chunks of the stream that runs on it; the peer hears it when it
// next reads the stream. A lane that carries no stream, or whose stream this side has ended, is told nothing: it is not
// used again, and ends. Say does not wait; a note that cannot be sent is lost with its lane. note has at most MaxNote
// bytes.
func (l *Lane) Say(note []byte) {
	l.session.spawn(func() {
		l.write.Lock()
		l.noting.Store(true)
		st := l.current.Load()
		spoken := st != nil && st.speaks()
		if spoken {
			// An error is the stream's too, which sees it at its next call: what a deadline has cut goes out with that.
			if _, err := l.conn.Write(appendNote(nil, note)); err == nil {
				_ = l.sock.Flush()
			}
		}
		l.noting.Store(false)
		l.write.Unlock()
		if !spoken {
			l.retire()
		}
	})
}

// retire ends the lane as soon as it carries no stream.
func (l *Lane) retire() {
	l.tired.Store(true) // first: a stream that begins from here on finds it so
	switch {
	case !l.opens && l.current.Load() == nil:
		l.bury(l.session.cfg.StreamLimitCode)
	case l.opens && l.session.unlist(l):
		l.leave() // an end may be waiting in it
	}
}

// unlist takes an idle lane out, so that no stream is opened on it; false: it is not idle.
func (s *Session) unlist(l *Lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.idle)
	s.idle = slices.DeleteFunc(s.idle, func(x *Lane) bool { return x == l })
	return len(s.idle) < n
}
