package limit

import (
	"errors"
	"fmt"
	"io"
)

// A FormError says why a body is not of the form that its tunnel takes.
type FormError struct{ What string }

func (e *FormError) Error() string { return e.What }

func malformed(format string, args ...any) error { return &FormError{fmt.Sprintf(format, args...)} }

// JSON bounds the JSON (RFC 8259) of request bodies. A zero field is no bound.
type JSON struct {
	Depth  int   // of arrays and objects within each other
	Keys   int   // of all objects together
	String int64 // bytes of one string or key, as it is escaped
}

// Reader passes a body on as long as it is JSON within the bounds; the error behind it is a *FormError. It looks at what it
// passes and keeps nothing. It finds the structure that a reader could be made to build, not every fault of it: a comma too
// much is the backend's to refuse. What only lenient readers take (comments, single quotes, bare words, UTF-16) is refused,
// since those would see another structure.
func (j JSON) Reader(body io.ReadCloser) io.ReadCloser {
	return &jsonReader{ReadCloser: body, limits: j}
}

type jsonReader struct {
	io.ReadCloser
	limits  JSON
	depth   int
	keys    int
	length  int64 // of the string
	inside  bool  // of a string
	escaped bool  // behind a backslash in it
	err     error
}

func (r *jsonReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.ReadCloser.Read(p)
	for i, c := range p[:n] {
		if bad := r.look(c); bad != nil {
			r.err = bad
			return i, bad
		}
	}
	if errors.Is(err, io.EOF) && (r.inside || r.depth > 0) {
		r.err = malformed("the body ends within its JSON")
		return 0, r.err // or it would be whole
	}
	return n, err
}

func (r *jsonReader) look(c byte) error {
	if r.inside {
		return r.lookInside(c)
	}
	switch c {
	case '"':
		r.inside, r.length = true, 0
	case '{', '[':
		if r.depth++; r.limits.Depth > 0 && r.depth > r.limits.Depth {
			return malformed("JSON of at most %d levels is expected", r.limits.Depth)
		}
	case '}', ']':
		if r.depth--; r.depth < 0 {
			return malformed("JSON is expected, and a bracket closes nothing")
		}
	case ':':
		if r.keys++; r.limits.Keys > 0 && r.keys > r.limits.Keys {
			return malformed("JSON of at most %d keys is expected", r.limits.Keys)
		}
	case ' ', '\t', '\r', '\n', ',', '-', '+', '.', 'E',
		'0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
		't', 'r', 'u', 'e', 'f', 'a', 'l', 's', 'n': // of numbers, true, false and null
	default:
		return malformed("JSON is expected, and has no byte %#x outside of strings", c)
	}
	return nil
}

func (r *jsonReader) lookInside(c byte) error {
	if r.length++; r.limits.String > 0 && r.length > r.limits.String && c != '"' {
		return malformed("JSON strings of at most %d bytes are expected", r.limits.String)
	}
	switch {
	case c < ' ':
		return malformed("JSON is expected, whose strings have no byte %#x", c)
	case r.escaped:
		r.escaped = false
	case c == '\\':
		r.escaped = true
	case c == '"':
		r.inside = false
	}
	return nil
}
