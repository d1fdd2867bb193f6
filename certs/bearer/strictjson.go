package bearer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// maxDepth is how deep the JSON in a token may nest.
const maxDepth = 16

var (
	errDuplicateKey = errors.New("a key is there twice")
	errTooDeep      = errors.New("nested too deep")
	errNotObject    = errors.New("an object is expected")
	errTrailing     = errors.New("something follows the object")
)

// decodeObject reads one JSON object and nothing else. A key that is there twice, at any depth, is refused: two readers
// of such an object need not see the same value.
func decodeObject(b []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	v, err := decodeValue(dec, 0)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errNotObject
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errTrailing
	}
	return object, nil
}

func decodeValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	token, err := dec.Token()
	if err != nil {
		return nil, errNotJSON
	}
	switch token {
	case json.Delim('{'):
		return decodeMembers(dec, depth)
	case json.Delim('['):
		return decodeElements(dec, depth)
	}
	return token, nil
}

func decodeMembers(dec *json.Decoder, depth int) (any, error) {
	object := make(map[string]any)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, errNotJSON
		}
		key := token.(string) // the decoder takes nothing else as a key
		if _, twice := object[key]; twice {
			return nil, errDuplicateKey
		}
		if object[key], err = decodeValue(dec, depth+1); err != nil {
			return nil, err
		}
	}
	return object, end(dec)
}

func decodeElements(dec *json.Decoder, depth int) (any, error) {
	array := []any{}
	for dec.More() {
		v, err := decodeValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	return array, end(dec)
}

// end reads the closing bracket, which More has seen.
func end(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return errNotJSON
	}
	return nil
}

// errNotJSON stands for the decoder's own errors, which may quote the text.
var errNotJSON = errors.New("not well-formed JSON")
