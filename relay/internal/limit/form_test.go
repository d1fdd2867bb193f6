package limit

import (
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"
)

func read(r io.ReadCloser) (string, error) {
	b, err := io.ReadAll(r)
	return string(b), errors.Join(err, r.Close())
}

func formError(err error) bool { _, ok := errors.AsType[*FormError](err); return ok }

func TestGoodJSONPassesAsItIs(t *testing.T) {
	j := JSON{Depth: 4, Keys: 5, String: 12}
	for _, s := range []string{
		`{}`, `[]`, `"a"`, `7`, `-1.5e+10`, `true`, `null`, "", ` {"a": [1, {"b": "c\"d\\"}], "e": null} `, `{"a":"{[{[{["}`, `["012345678901"]`, `{"é":"ü"}`,
	} {
		for name, body := range map[string]io.Reader{"whole": strings.NewReader(s), "by bytes": iotest.OneByteReader(strings.NewReader(s))} {
			if got, err := read(j.Reader(io.NopCloser(body))); got != s || err != nil {
				t.Errorf("%s, %s: got %q, %v", s, name, got, err)
			}
		}
	}
}

func TestJSONBeyondItsBoundsIsRefused(t *testing.T) { // W12
	j := JSON{Depth: 4, Keys: 5, String: 12}
	for name, s := range map[string]string{
		"five levels": `[[[[[]]]]]`, "levels of both kinds": `[{"a":[{"b":[]}]}]`, "six keys": `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}`,
		"keys of many objects": `[{"a":1},{"a":1},{"a":1},{"a":1},{"a":1},{"a":1}]`, "a long string": `["0123456789012"]`, "a long key": `{"0123456789012":1}`,
		"an end too early": `[[`, "an end in a string": `"a`, "a bracket too much": `[]]`,
		"a comment": `/* { */ {}`, "a line's comment": "[1] // x", "single quotes": `{'a':1}`, "a bare word": `{x:1}`, "UTF-16": "\xff\xfe[\x00]\x00",
		"a NUL": "[\x00]", "a byte order mark": "\xef\xbb\xbf[]", "a control byte in a string": "\"a\x01\"", "a line end in a string": "\"a\n\"",
	} {
		if got, err := read(j.Reader(io.NopCloser(strings.NewReader(s)))); !formError(err) || len(got) > len(s) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestGoodXMLPassesAsItIs(t *testing.T) {
	defer goleak.VerifyNone(t)
	x := XML{Depth: 3, Token: 4 << 10}
	for _, s := range []string{`<a/>`, `<?xml version="1.0" encoding="UTF-8"?><a b="c"><d>é &amp; f</d><!-- g --></a>`, ``, `<a><b><c/></b></a>`, `<a><![CDATA[<x>]]></a>`} {
		for name, body := range map[string]io.Reader{"whole": strings.NewReader(s), "by bytes": iotest.OneByteReader(strings.NewReader(s))} {
			if got, err := read(x.Reader(io.NopCloser(body))); got != s || err != nil {
				t.Errorf("%s, %s: got %q, %v", s, name, got, err)
			}
		}
	}
	r := x.Reader(io.NopCloser(strings.NewReader(`<a>` + strings.Repeat("x", 1<<10)))) // given up within
	_, _ = r.Read(make([]byte, 100))
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

const laughs = `<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]><lolz>&lol2;</lolz>`

func TestXMLBeyondItsBoundsIsRefused(t *testing.T) { // W12
	defer goleak.VerifyNone(t)
	x := XML{Depth: 3, Token: 4 << 10}
	for name, s := range map[string]string{
		"an entity bomb": laughs, "a document type": `<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>`, "an entity of nobody's": `<a>&x;</a>`,
		"four levels": `<a><b><c><d/></c></b></a>`, "no XML": `{"a":1}<`, "no end": `<a>`, "an end too much": `<a/></b>`,
		"another charset": `<?xml version="1.0" encoding="UTF-7"?><a/>`, "UTF-16": "\xff\xfe<\x00a\x00/\x00>\x00",
		"a long text": `<a>` + strings.Repeat("x", 64<<10) + `</a>`, "a long tag": `<a b="` + strings.Repeat("x", 64<<10) + `"/>`,
	} {
		if _, err := read(x.Reader(io.NopCloser(strings.NewReader(s)))); !formError(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// endless is a body that opens bracket after bracket, or one long string.
type endless struct{ text string }

func (e endless) Read(p []byte) (int, error) {
	n := copy(p, strings.Repeat(e.text, len(p)/len(e.text)+1)[:len(p)])
	return n, nil
}

func TestBodiesAreCheckedInBoundedMemory(t *testing.T) { // W12
	const size = 64 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, r := range map[string]io.ReadCloser{
		"a million keys":    JSON{Depth: 10}.Reader(io.NopCloser(io.MultiReader(strings.NewReader("{"), io.LimitReader(endless{`"a":1,`}, size)))),
		"one string":        JSON{Depth: 10}.Reader(io.NopCloser(io.MultiReader(strings.NewReader(`"`), io.LimitReader(endless{"x"}, size)))),
		"many elements":     XML{Depth: 10}.Reader(io.NopCloser(io.MultiReader(strings.NewReader("<a>"), io.LimitReader(endless{"<b>text</b>"}, 4<<20)))),
		"one text":          XML{Depth: 10}.Reader(io.NopCloser(io.MultiReader(strings.NewReader("<a>"), io.LimitReader(endless{"x"}, size)))),
		"ten million deep":  JSON{Depth: 10}.Reader(io.NopCloser(io.LimitReader(endless{"["}, size))),
		"XML, as deep":      XML{Depth: 10}.Reader(io.NopCloser(io.LimitReader(endless{"<a>"}, size))),
		"deep, with no end": JSON{Keys: 10}.Reader(io.NopCloser(io.LimitReader(endless{"["}, size))),
	} {
		if _, err := io.Copy(io.Discard, r); !formError(err) {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d MiB are left", grown>>20)
	}
}

// FuzzJSON: what encoding/json reads within the bounds passes, and what passes and is JSON is within them.
func FuzzJSON(f *testing.F) {
	f.Add(`{"a":[1,{"b":"c"}]}`)
	f.Add(`[[[[[[`)
	f.Fuzz(func(t *testing.T, s string) {
		j := JSON{Depth: 3, Keys: 4, String: 8}
		got, err := read(j.Reader(io.NopCloser(strings.NewReader(s))))
		if err == nil && got != s {
			t.Fatalf("%q passes as %q", s, got)
		}
		if !json.Valid([]byte(s)) {
			return
		}
		depth, keys, longest := measure(t, s)
		if within := depth <= 3 && keys <= 4 && longest <= 8; within != (err == nil) {
			t.Errorf("%q: %d levels, %d keys, %d bytes: %v", s, depth, keys, longest, err)
		}
	})
}

// measure measures valid JSON by another way than the reader's.
func measure(t *testing.T, s string) (depth, keys, longest int) {
	t.Helper()
	inside, escaped, level, begin := false, false, 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case inside && escaped:
			escaped = false
		case inside && c == '\\':
			escaped = true
		case c == '"':
			if inside {
				longest = max(longest, i-begin-1)
			}
			inside, begin = !inside, i
		case inside:
		case c == '{' || c == '[':
			level++
			depth = max(depth, level)
		case c == '}' || c == ']':
			level--
		case c == ':':
			keys++
		}
	}
	return depth, keys, longest
}

// FuzzXML: what passes has no document type and no more levels than it may.
func FuzzXML(f *testing.F) {
	f.Add(laughs)
	f.Add(`<a><b/></a>`)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := read(XML{Depth: 3}.Reader(io.NopCloser(strings.NewReader(s))))
		if err == nil && got != s {
			t.Fatalf("%q passes as %q", s, got)
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	body := `{"orders":[` + strings.Repeat(`{"id":7,"item":"shackle","count":12},`, 1000) + `null]}`
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r := JSON{Depth: 10, Keys: 1 << 20, String: 1 << 10}.Reader(io.NopCloser(strings.NewReader(body)))
		for {
			if _, err := r.Read(buf); err != nil {
				break
			}
		}
	}
}
