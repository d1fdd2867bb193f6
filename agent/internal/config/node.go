package config

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// node is a place in the file, with the path that leads to it. All faults of a load are gathered in one place.
type node struct {
	*yaml.Node
	path string
	r    *reader
}

// keys says what to do with each key of a mapping.
type keys map[string]func(node)

func (n node) fault(format string, args ...any) {
	n.r.faults = append(n.r.faults, Fault{File: n.r.name, Line: n.Line, Path: n.path, Message: fmt.Sprintf(format, args...)})
}

// got describes what stands in the file, for a message.
func (n node) got() string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias (write the value out)"
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return "nothing"
	}
	return strconv.Quote(clip(n.Value))
}

// clip keeps a value of the file from flooding a terminal.
func clip(s string) string {
	const limit = 80
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

// mapping hands each known key's value to its func, once; required keys that are missing are faults of the mapping.
func (n node) mapping(known keys, required ...string) {
	n.each(func(key string, value node) {
		if f, ok := known[key]; ok {
			f(value)
			return
		}
		value.fault("unknown key")
	})
	if n.Kind != yaml.MappingNode {
		return
	}
	for _, key := range required {
		if !n.has(key) {
			n.fault("expected the key %s", key)
		}
	}
}

// each walks a mapping whose keys are free, reporting duplicates.
func (n node) each(f func(key string, value node)) {
	if n.Kind != yaml.MappingNode {
		n.fault("expected a mapping, got %s", n.got())
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		value := node{Node: v, path: join(n.path, clip(k.Value)), r: n.r}
		at := node{Node: k, path: value.path, r: n.r}
		switch line, dup := seen[k.Value]; {
		case k.Kind != yaml.ScalarNode || k.Tag == "!!merge":
			at.fault("expected a plain key")
		case dup:
			at.fault("duplicate key, first on line %d", line)
		default:
			seen[k.Value] = k.Line
			if v.Line == 0 || v.Kind == yaml.ScalarNode && v.Tag == "!!null" {
				value.Node = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: k.Line}
			}
			f(k.Value, value)
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (n node) has(key string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

// list hands each entry of a list to f.
func (n node) list(f func(i int, entry node)) {
	if n.Kind != yaml.SequenceNode {
		n.fault("expected a list, got %s", n.got())
		return
	}
	if len(n.Content) == 0 {
		n.fault("expected at least one entry")
	}
	for i, c := range n.Content {
		f(i, node{Node: c, path: fmt.Sprintf("%s[%d]", n.path, i), r: n.r})
	}
}

// text returns a non-empty string; what says what was expected.
func (n node) text(what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "" || strings.ContainsRune(n.Value, 0) {
		n.fault("expected %s, got %s", what, n.got())
		return "", false
	}
	return n.Value, true
}

// oneOf sets dst to one of the words.
func oneOf[T ~string](dst *T, words ...T) func(node) {
	return func(n node) {
		what := make([]string, len(words))
		for i, w := range words {
			what[i] = string(w)
		}
		expected := strings.Join(what[:len(what)-1], ", ") + " or " + what[len(what)-1]
		s, ok := n.text(expected)
		if !ok {
			return
		}
		for _, w := range words {
			if s == string(w) {
				*dst = w
				return
			}
		}
		n.fault("expected %s, got %s", expected, n.got())
	}
}

// duration sets dst to a time within [lowest, highest].
func duration(dst *time.Duration, lowest, highest time.Duration) func(node) {
	return func(n node) {
		expected := fmt.Sprintf("a time such as 10s, from %v to %v", lowest, highest)
		s, ok := n.text(expected)
		if !ok {
			return
		}
		d, err := time.ParseDuration(s)
		if err != nil || d < lowest || d > highest {
			n.fault("expected %s, got %s", expected, n.got())
			return
		}
		*dst = d
	}
}

// count sets dst to a whole number within [lowest, highest].
func count(dst *int, lowest, highest int) func(node) {
	return func(n node) {
		expected := fmt.Sprintf("a whole number from %d to %d", lowest, highest)
		s, ok := n.text(expected)
		if !ok {
			return
		}
		v, err := strconv.Atoi(s)
		if err != nil || v < lowest || v > highest {
			n.fault("expected %s, got %s", expected, n.got())
			return
		}
		*dst = v
	}
}

var sizePattern = regexp.MustCompile(`^([0-9]{1,9})(B|KiB|MiB|GiB)$`)

// size sets dst to a number of bytes within [lowest, highest].
func size(dst *int, lowest, highest int) func(node) {
	return func(n node) {
		expected := fmt.Sprintf("a size such as 32KiB or 64MiB, from %d to %d bytes", lowest, highest)
		s, ok := n.text(expected)
		if !ok {
			return
		}
		v, err := parseSize(s)
		if err != nil || v < lowest || v > highest {
			n.fault("expected %s, got %s", expected, n.got())
			return
		}
		*dst = v
	}
}

func parseSize(s string) (int, error) {
	m := sizePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, errors.New("no size")
	}
	v, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, err
	}
	unit := map[string]int{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[m[2]]
	if v > math.MaxInt/unit {
		return 0, errors.New("too large")
	}
	return v * unit, nil
}
