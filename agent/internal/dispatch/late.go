package dispatch

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

// limit starts the clocks of the exchange, and returns what stops them. It replaces r.Body.
func (x *exchange) limit(r *http.Request) (stop func()) {
	idle := x.watchIdle(r)
	if x.open.Timeout <= 0 {
		return idle
	}
	late := &lateness{x: x}
	if r.Body == nil || r.Body == http.NoBody {
		late.start()
	} else {
		r.Body = &askedBody{r.Body, sync.OnceFunc(late.start)}
	}
	return func() { late.stop(); idle() }
}

// lateness bounds the wait for the response's header. It counts from the end of the request's body: a caller may take
// its time to ask, and one that asks for ever (a stream of gRPC) need not be answered yet.
type lateness struct {
	x *exchange

	mu      sync.Mutex // guards:
	timer   *time.Timer
	stopped bool
}

func (l *lateness) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopped {
		l.timer = time.AfterFunc(l.x.open.Timeout, l.late)
	}
}

func (l *lateness) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

func (l *lateness) late() {
	l.x.mu.Lock()
	answering := l.x.report.Status != 0
	l.x.mu.Unlock()
	if !answering {
		l.x.interrupt(&protocol.Error{
			Code: protocol.BackendTimeout, Sentence: "the backend did not answer in time", Sent: true,
		})
	}
}

// askedBody calls asked when the request's body has come to its end.
type askedBody struct {
	io.ReadCloser
	asked func()
}

func (b *askedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.asked()
	}
	return n, err
}
