package policy

import (
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

func TestAPathWithTwoReadingsIsRefusedForEveryHost(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{
		"", "x", "http://orders/x", "/a/../b", "/..", "/.", "/a/./b", "/a/%2e%2e/b", "/a/.%2E/b", "/a/..;x/b", "/a/%2e%2e%3bx/b",
		"//a", "/a//b", "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/a%00b", "/a%0ab", "/a\nb", "/a%7f", "/a%", "/a%2", "/a%zz",
		"/a%c0%ae%c0%ae/b", "/a%ff", "/a%c2%85", "*",
	} {
		_, known := w.wants(path, withPath(get(w.api(), orders, w.reader()), path), protocol.BadRequest, RulePath)
		_, unknown := w.wants(path, withPath(get(w.api(), "no.such.host", ""), path), protocol.BadRequest, RulePath)
		if known != nil && unknown != nil && known.Sentence != unknown.Sentence {
			t.Errorf("%q: %v and %v", path, known, unknown)
		}
	}
}

func TestAnOrdinaryPathPasses(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/", "/a", "/a/", "/a/b", "/a/...", "/.well-known/x", "/a;v=1/b", "/a%20b", "/%c3%a9", "/é", "/a%3fb", "/a%25b", "/..a/b.."} {
		w.wants(path, withPath(get(w.api(), orders, w.reader()), path), protocol.OK, RuleAllow)
	}
	options := withPath(get(w.api(), orders, w.idp.Mint(t, map[string]any{"scope": "orders.read orders.write"})), "*")
	options.Method = "OPTIONS"
	w.wants("OPTIONS *", options, protocol.OK, RuleAllow)
}

func TestTunnelsAreFoundByTheDecodedPath(t *testing.T) {
	w := newWorld(t)
	d, _ := w.wants("encoded", withPath(get(nil, "site.dc1.example", ""), "/%70ublic/x"), protocol.OK, RuleDefault)
	if d.Tunnel.Name != "site" {
		t.Errorf("got %s", d.Tunnel.Name)
	}
}

func FuzzReadPath(f *testing.F) {
	for _, seed := range []string{"/a/b", "/%2e%2e", "/a%2fb", "*", "/..;", "/%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tr := trial{request: &Request{Network: protocol.HTTP, Method: "GET", Path: path}, decision: new(Decision)}
		if tr.readPath() != nil {
			return
		}
		again := trial{request: &Request{Network: protocol.HTTP, Method: "GET", Path: tr.path}, decision: new(Decision)}
		if tr.path == "" || tr.path[0] != '/' || checkSegments(tr.path) != "" {
			t.Errorf("%q was read as %q", path, tr.path)
		}
		// What was decoded and still decodes again without ambiguity has not moved by a segment.
		if again.readPath() == nil && segments(again.path) != segments(tr.path) {
			t.Errorf("%q is %q, and then %q", path, tr.path, again.path)
		}
	})
}

func segments(path string) (n int) {
	for i := range len(path) {
		if path[i] == '/' {
			n++
		}
	}
	return n
}
