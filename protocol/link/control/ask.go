package control

import (
	"fmt"
	"io"

	"github.com/fairlead/fairlead/protocol"
)

// AskOn sends a request to the authority on a connection that carries nothing else, and reads the answer. It blocks as rw
// does. An error of the relay's is a *protocol.Error.
func AskOn(rw io.ReadWriter, request []byte) ([]byte, error) {
	if err := protocol.Write(rw, &protocol.Ask{Request: request}); err != nil {
		return nil, fmt.Errorf("asking: %w", err)
	}
	answer, err := protocol.ReadAnswer(rw)
	if err != nil {
		return nil, fmt.Errorf("waiting for the answer: %w", err)
	}
	return Answered(answer)
}

// Answered is what an Answer says: the authority's answer, or the relay's *protocol.Error.
func Answered(m *protocol.Answer) ([]byte, error) {
	if m.Code != protocol.OK {
		return nil, protocol.Errorf(m.Code, "%s", m.Sentence)
	}
	return m.Answer, nil
}
