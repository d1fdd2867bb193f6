package yamuxlink

import (
	"fmt"
	"strings"
	"sync"

	"github.com/fairlead/fairlead/protocol/link"
)

// maxLogLine bounds what is kept of a line of yamux's log, in bytes.
const maxLogLine = 200

// lastError is yamux's log: it keeps the last error.
type lastError struct {
	// mu guards:
	mu   sync.Mutex
	line string
}

// Printf implements yamux.Logger.
func (l *lastError) Printf(format string, v ...any) {
	text, isError := strings.CutPrefix(format, "[ERR] yamux: ")
	if !isError { // not worth the formatting: a peer can cause warnings for every frame
		return
	}
	line := fmt.Sprintf(text, v...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = line[:min(len(line), maxLogLine)]
}

// Print implements yamux.Logger, and is not used by it.
func (l *lastError) Print(v ...any) { l.Printf("%s", fmt.Sprint(v...)) }

// Println implements yamux.Logger, and is not used by it.
func (l *lastError) Println(v ...any) { l.Print(v...) }

// explain adds the line to cause.
func (l *lastError) explain(cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.line == "" {
		return cause
	}
	if strings.HasPrefix(l.line, "receive window exceeded") { // yamux may see the flood before our own credit does
		cause = link.ErrPeerFlooded
	}
	return fmt.Errorf("%w: %s", cause, l.line)
}
