//go:build !linux

package front

// quietBufferWarning does nothing: where we cannot look, quic-go's own warning is welcome.
func quietBufferWarning() {}

// checkBuffers does nothing.
func (f *Front) checkBuffers() {}
