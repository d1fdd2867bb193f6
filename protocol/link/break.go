package link

import "sync"

// A Breaker is a Stream that says when it breaks, though nobody reads or writes it: whoever carries its bytes to
// somewhere that takes none would not notice.
type Breaker interface {
	// OnBreak has f called, once, when the peer has reset the stream or the link is lost, and at once where that has
	// been. f gets the error that Read has from then on; it may call the stream's methods, and must not block. A nil
	// f undoes it, but one that is being called may go on.
	OnBreak(f func(error))
}

// Break makes a stream a Breaker that calls Broke. The zero value is ready.
type Break struct {
	mu     sync.Mutex // guards: all below
	err    error
	listen func(error)
}

// OnBreak implements Breaker.
func (b *Break) OnBreak(f func(error)) {
	b.mu.Lock()
	b.listen = f
	err := b.err
	b.mu.Unlock()
	if f != nil && err != nil {
		f(err)
	}
}

// Broke says that the stream broke with err, not by this side's doing. It is called without a lock that a stream's
// methods take.
func (b *Break) Broke(err error) {
	b.mu.Lock()
	if b.err != nil {
		b.mu.Unlock()
		return
	}
	b.err = err
	f := b.listen
	b.mu.Unlock()
	if f != nil {
		f(err)
	}
}
