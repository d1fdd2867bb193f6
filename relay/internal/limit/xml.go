package limit

import (
	"encoding/xml"
	"errors"
	"io"
)

// XML bounds the XML of request bodies. A zero field is no bound.
type XML struct {
	Depth int   // of elements within each other
	Token int64 // bytes of one tag, text or comment; 1 MiB where it is zero
}

const (
	defaultToken = 1 << 20
	tokenSlack   = 4 << 10 // what the decoder reads ahead
)

// Reader passes a body on as long as it is well-formed XML in UTF-8, within the bounds and without a document type, in which
// entities are declared; the error behind it is a *FormError. Close must follow, and leaves body open. It costs a goroutine, and
// the memory of one token.
func (x XML) Reader(body io.Reader) io.ReadCloser {
	if x.Token == 0 {
		x.Token = defaultToken
	}
	pipe, feed := io.Pipe()
	r := &xmlReader{body: body, feed: feed, verdict: make(chan error, 1)}
	go func() {
		err := x.check(pipe)
		_ = pipe.CloseWithError(errChecked) // so that nobody waits to be read
		r.verdict <- err
	}()
	return r
}

var errChecked = errors.New("checked to its end")

type xmlReader struct {
	body    io.Reader
	feed    *io.PipeWriter
	verdict chan error
	err     error
	judged  bool
}

func (r *xmlReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.body.Read(p)
	if n > 0 {
		if _, refused := r.feed.Write(p[:n]); refused != nil {
			if r.err = r.judge(); r.err != nil {
				return 0, r.err
			}
		}
	}
	if errors.Is(err, io.EOF) {
		_ = r.feed.Close()
		if r.err = r.judge(); r.err != nil {
			return 0, r.err // or it would be whole
		}
	}
	return n, err
}

// judge waits for what check says.
func (r *xmlReader) judge() error {
	if r.judged {
		return nil
	}
	r.judged = true
	return <-r.verdict
}

func (r *xmlReader) Close() error {
	return r.feed.CloseWithError(errChecked)
}

// budget ends a read within which no token has ended.
type budget struct {
	io.Reader
	left, whole int64
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, malformed("XML whose tags and texts have at most %d bytes is expected", b.whole)
	}
	n, err := b.Reader.Read(p[:min(len(p), tokenSlack)])
	b.left -= int64(n)
	return n, err
}

// check reads the whole; nil says that it is good.
func (x XML) check(r io.Reader) error {
	b := &budget{r, x.Token + tokenSlack, x.Token}
	d := xml.NewDecoder(b)
	for depth := 0; ; {
		token, err := d.RawToken()
		switch {
		case errors.Is(err, io.EOF) && depth == 0:
			return nil
		case errors.Is(err, io.EOF):
			return malformed("the body ends within its XML")
		case errors.Is(err, errChecked):
			return nil // nobody wants to know any more
		case err != nil:
			if form, ok := errors.AsType[*FormError](err); ok {
				return form
			}
			return malformed("XML is expected, and this is none")
		}
		b.left = b.whole + tokenSlack
		switch token.(type) {
		case xml.Directive:
			return malformed("XML without a document type is expected")
		case xml.StartElement:
			if depth++; x.Depth > 0 && depth > x.Depth {
				return malformed("XML of at most %d levels is expected", x.Depth)
			}
		case xml.EndElement:
			if depth--; depth < 0 {
				return malformed("XML is expected, and a tag closes nothing")
			}
		}
	}
}
