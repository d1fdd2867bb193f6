// Package layout holds the test that keeps the house in order: which package may import which, and where third-party
// types may appear. It has no code of its own.
package layout

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/fairlead/fairlead/"

type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// packages lists every package of the module for one platform, so that files of both systems are seen.
func packages(t *testing.T, goos string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	cmd.Env = append(cmd.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list names %d packages; expected the whole module", len(all))
	}
	return all
}

func under(path string, roots ...string) bool {
	for _, r := range roots {
		if path == r || strings.HasPrefix(path, r+"/") {
			return true
		}
	}
	return false
}

// arrows: a package under from may import no package of ours under never, for the reason given.
var arrows = []struct {
	from, never []string
	why         string
}{
	{[]string{"agent"}, []string{"relay"}, "the halves meet on the wire only"},
	{[]string{"relay"}, []string{"agent"}, "the halves meet on the wire only"},
	{[]string{"protocol"}, []string{"agent", "relay", "certs"}, "the wire knows neither half, and no identities"},
	{[]string{"certs"}, []string{"agent", "relay", "protocol"}, "identities know nothing of the wire"},
	{[]string{"agent", "relay", "protocol", "certs"}, []string{"e2e", "packaging"}, "the product knows no tests"},
	{[]string{"agent/internal", "relay/internal"}, []string{"agent/cmd", "relay/cmd"}, "commands sit on top"},
}

// rooms: a third-party module's types stay where they are listed.
var rooms = map[string][]string{
	"github.com/hashicorp/yamux":  {"protocol/link/yamuxlink"},
	"github.com/quic-go/quic-go":  {"protocol/link/quiclink", "relay/internal/front"},
	"github.com/spiffe/go-spiffe": {"certs"},
	"github.com/golang-jwt/jwt":   {"certs/bearer"},
	"github.com/MicahParks":       {"certs/bearer"},
	"cel.dev/cel-go":              {"relay/internal/policy"},
	"go.yaml.in/yaml":             {"agent/internal/config", "relay/internal/config"},
	"github.com/go-ldap/ldap":     {"relay/internal/login"},
	"github.com/pquerna/otp":      {"relay/internal/login"},
	"layeh.com/radius":            {"relay/internal/login"},
	"github.com/alecthomas/kong":  {"agent/cmd", "relay/cmd"},
}

// std: packages that import nothing but the standard library and what is listed.
var std = map[string][]string{
	"protocol":      nil,
	"protocol/link": nil,
}

func TestNoImportArrowTurnsRound(t *testing.T) {
	for _, goos := range []string{"linux", "windows"} {
		for _, p := range packages(t, goos) {
			checkArrows(t, p)
			checkRooms(t, p)
			checkStd(t, p)
		}
	}
}

func checkArrows(t *testing.T, p pkg) {
	for _, imp := range p.Imports {
		ours, isOurs := strings.CutPrefix(imp, module)
		if !isOurs {
			continue
		}
		for _, a := range arrows {
			if under(p.ImportPath, a.from...) && under(ours, a.never...) {
				t.Errorf("%s imports %s: %s", p.ImportPath, ours, a.why)
			}
		}
		// A *test package is for tests and for other *test packages (certstest has the dev-certs command below it).
		if isTest(ours) && !isTest(p.ImportPath) && !under(p.ImportPath, "e2e") {
			t.Errorf("%s imports %s: the product must not import test packages", p.ImportPath, ours)
		}
		if under(ours, "protocol/link") && under(p.ImportPath, "protocol/link") && p.ImportPath == "protocol/link" {
			t.Errorf("protocol/link imports %s: the interface knows none of its transports", ours)
		}
	}
}

func isTest(path string) bool {
	for seg := range strings.SplitSeq(path, "/") {
		if strings.HasSuffix(seg, "test") {
			return true
		}
	}
	return false
}

func checkRooms(t *testing.T, p pkg) {
	if under(p.ImportPath, "e2e") {
		return // black-box tests are clients of everything
	}
	for _, imp := range p.Imports {
		for third, where := range rooms {
			if under(imp, third) && !under(p.ImportPath, where...) {
				t.Errorf("%s imports %s, whose types stay in %v", p.ImportPath, imp, where)
			}
		}
	}
}

func checkStd(t *testing.T, p pkg) {
	allowed, bound := std[p.ImportPath]
	if !bound {
		return
	}
	for _, imp := range p.Imports {
		if first, _, _ := strings.Cut(imp, "/"); strings.Contains(first, ".") && !under(imp, allowed...) {
			t.Errorf("%s imports %s; expected the standard library alone", p.ImportPath, imp)
		}
	}
}
