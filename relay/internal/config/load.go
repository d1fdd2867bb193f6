// Package config reads relay.yaml: strictly, all faults at once, into values that need no further checking. The Relay
// struct is the manual of the file.
//
// It reads no secret and no other file, does not compile the tunnels' expressions (package policy does; Relay.Fault puts
// what it finds among the rest), and knows nothing of reloading.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Load reads and checks the file at path. What is wrong in the file comes back as Faults, all of it at once; a file
// that cannot be read is any other error.
func Load(path string) (*Relay, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return (&reader{name: filepath.Base(path), dir: dir, lines: map[string]int{}}).load(b)
}

// reader is one load.
type reader struct {
	name   string // of the file
	dir    string // of the file; what relative paths are relative to
	lines  map[string]int
	faults Faults

	issuers   []node // that tunnels name
	contracts []node // tunnels that apps name
	logins    []node // directories that tunnels name
	servers   []node // RADIUS servers that tunnels name
	codes     []node // where tunnels want a second factor
}

func (r *reader) load(b []byte) (*Relay, error) {
	if len(b) > maxFile {
		return nil, Faults{{File: r.name, Message: fmt.Sprintf("expected a file of at most %d bytes", maxFile)}}
	}
	var doc yaml.Node
	loader, err := yaml.NewLoader(bytes.NewReader(b))
	if err == nil {
		err = loader.Load(&doc)
	}
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		return nil, Faults{{File: r.name, Message: "expected a mapping, got an empty file"}}
	case err != nil:
		return nil, r.syntax(err)
	}
	if err := loader.Load(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, Faults{{File: r.name, Message: "expected one YAML document and nothing behind it"}}
	}
	relay := r.relay(node{Node: doc.Content[0], r: r})
	if len(r.faults) > 0 {
		r.faults.sort()
		return nil, r.faults
	}
	return relay, nil
}

func (r *reader) fault(line int, path, format string, args ...any) {
	r.faults = append(r.faults, Fault{File: r.name, Line: line, Path: path, Message: fmt.Sprintf(format, args...)})
}

var atLine = regexp.MustCompile(`line (\d+)`)

// syntax rewords what the YAML library says of a file that is no YAML.
func (r *reader) syntax(err error) Faults {
	fault := Fault{File: r.name, Message: "expected YAML: " + clip(err.Error())}
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		fault.Line, fault.Message = e.Mark.Line, "expected YAML: "+clip(e.Message)
	}
	if m := atLine.FindStringSubmatch(err.Error()); fault.Line == 0 && m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			fault.Line = n
		}
	}
	return Faults{fault}
}
