package protocol

import (
	"fmt"
	"slices"
)

// The fields of the control stream's messages, as SPEC.md §2 numbers them.

func (m *Hello) append(w *writer) {
	w.uint(critical|1, uint64(m.MinVersion), 2)
	w.uint(critical|2, uint64(m.MaxVersion), 2)
	w.string(critical|3, m.Agent, MaxAgentName)
	w.uint(critical|4, m.Epoch, 8)
	w.uint(5, uint64(m.Slot), 2)
	w.string(6, m.Software, maxWord)
	for _, t := range m.Tunnels {
		w.string(critical|7, string(t), 63)
	}
	for _, t := range m.Tokens {
		w.string(8, string(t), 63)
	}
}

func (m *Hello) decode(payload []byte) error {
	err := eachField(payload, func(f field) (bool, error) {
		switch f.num {
		case 1:
			return true, setUint(&m.MinVersion, f, 2)
		case 2:
			return true, setUint(&m.MaxVersion, f, 2)
		case 3:
			return true, setString(&m.Agent, f, MaxAgentName)
		case 4:
			return true, setUint(&m.Epoch, f, 8)
		case 5:
			return true, setUint(&m.Slot, f, 2)
		case 6:
			return true, setString(&m.Software, f, maxWord)
		case 7:
			t, err := tunnelName(f)
			m.Tunnels = append(m.Tunnels, t)
			return true, err
		case 8:
			t, err := tunnelName(f)
			m.Tokens = append(m.Tokens, t)
			return true, err
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	if err := CheckAgentName(m.Agent); err != nil {
		return malformed("%v", err)
	}
	return nil
}

func (m *Welcome) append(w *writer) {
	w.uint(critical|1, uint64(m.Version), 2)
	w.uint(critical|2, uint64(m.Code), 2)
	w.string(3, m.Sentence, MaxSentence)
	w.string(4, m.Relay, maxWord)
	w.uint(5, millis(m.RetryAfter), 4)
	w.uint(6, uint64(m.MaxStreams), 4)
	for _, t := range m.Tunnels {
		w.nested(critical|7, func(w *writer) {
			w.string(critical|1, string(t.Name), 63)
			w.uint(critical|2, uint64(t.Code), 2)
			w.string(3, t.Sentence, MaxSentence)
		})
	}
	if m.GrantKey != nil {
		w.nested(8, m.GrantKey.append)
	}
}

func (m *Welcome) decode(payload []byte) error {
	return eachField(payload, func(f field) (bool, error) {
		switch f.num {
		case 1:
			return true, setUint(&m.Version, f, 2)
		case 2:
			return true, setUint(&m.Code, f, 2)
		case 3:
			return true, setString(&m.Sentence, f, MaxSentence)
		case 4:
			return true, setString(&m.Relay, f, maxWord)
		case 5:
			return true, setMillis(&m.RetryAfter, f)
		case 6:
			return true, setUint(&m.MaxStreams, f, 4)
		case 7:
			var v TunnelVerdict
			err := v.decode(f.value)
			m.Tunnels = append(m.Tunnels, v)
			return true, err
		case 8:
			m.GrantKey = new(GrantKey)
			return true, m.GrantKey.decode(f.value)
		}
		return false, nil
	})
}

func (m *TunnelVerdict) decode(payload []byte) error {
	err := eachField(payload, func(f field) (known bool, err error) {
		switch f.num {
		case 1:
			m.Name, err = tunnelName(f)
			return true, err
		case 2:
			return true, setUint(&m.Code, f, 2)
		case 3:
			return true, setString(&m.Sentence, f, MaxSentence)
		}
		return false, nil
	})
	if err == nil && m.Name == "" {
		return malformed("a verdict without its tunnel's name")
	}
	return err
}

func (m *TunnelStatus) append(w *writer) {
	w.string(critical|1, string(m.Name), 63)
	w.uint(critical|2, bit(m.Up), 1)
	w.string(3, m.Sentence, MaxSentence)
}

func (m *TunnelStatus) decode(payload []byte) error {
	err := eachField(payload, func(f field) (known bool, err error) {
		switch f.num {
		case 1:
			m.Name, err = tunnelName(f)
			return true, err
		case 2:
			return true, setFlag(&m.Up, f)
		case 3:
			return true, setString(&m.Sentence, f, MaxSentence)
		}
		return false, nil
	})
	if err == nil && m.Name == "" {
		return malformed("a status without its tunnel's name")
	}
	return err
}

func (m *Drain) append(w *writer) {
	w.uint(critical|1, uint64(m.Code), 2)
	w.string(2, m.Sentence, MaxSentence)
	w.uint(3, millis(m.Deadline), 4)
	w.uint(4, millis(m.RetryAfter), 4)
}

func (m *Drain) decode(payload []byte) error {
	return eachField(payload, func(f field) (bool, error) {
		switch f.num {
		case 1:
			return true, setUint(&m.Code, f, 2)
		case 2:
			return true, setString(&m.Sentence, f, MaxSentence)
		case 3:
			return true, setMillis(&m.Deadline, f)
		case 4:
			return true, setMillis(&m.RetryAfter, f)
		}
		return false, nil
	})
}

// padding makes a ping's QUIC packet larger than the smallest one that a peer who has lost the connection answers with a
// stateless reset (RFC 9000 §10.3).
var padding [24]byte

func (m *Ping) append(w *writer) {
	w.uint(critical|1, m.Token, 8)
	w.bytes(2, padding[:], len(padding))
}

func (m *Pong) append(w *writer) { w.uint(critical|1, m.Token, 8) }

func (m *Ping) decode(payload []byte) error { return decodeToken(&m.Token, payload) }
func (m *Pong) decode(payload []byte) error { return decodeToken(&m.Token, payload) }

func decodeToken(token *uint64, payload []byte) error {
	return eachField(payload, func(f field) (bool, error) {
		if f.num == 1 {
			return true, setUint(token, f, 8)
		}
		return false, nil
	})
}

func (m *Proof) append(w *writer) {
	for _, der := range m.Chain {
		w.bytes(critical|1, der, MaxProofPayload)
	}
	w.bytes(critical|2, m.Signature, MaxProofPayload)
}

func (m *Proof) decode(payload []byte) error {
	return eachField(payload, func(f field) (known bool, err error) {
		switch f.num {
		case 1:
			der, err := f.bytes(MaxProofPayload)
			m.Chain = append(m.Chain, der)
			return true, err
		case 2:
			m.Signature, err = f.bytes(MaxProofPayload)
			return true, err
		}
		return false, nil
	})
}

func (m *GrantKey) append(w *writer) {
	for _, der := range m.Chain {
		w.bytes(critical|1, der, MaxProofPayload)
	}
	w.bytes(critical|2, m.Key, maxWord)
	w.bytes(critical|3, m.Signature, maxSignature)
}

func (m *GrantKey) decode(payload []byte) error {
	return eachField(payload, func(f field) (known bool, err error) {
		switch f.num {
		case 1:
			der, err := f.bytes(MaxProofPayload)
			m.Chain = append(m.Chain, der)
			return true, err
		case 2:
			m.Key, err = f.bytes(maxWord)
			return true, err
		case 3:
			m.Signature, err = f.bytes(maxSignature)
			return true, err
		}
		return false, nil
	})
}

func (m *Ask) append(w *writer) {
	w.uint(critical|1, uint64(m.Number), 4)
	w.bytes(critical|2, m.Request, MaxRequest)
}

func (m *Ask) decode(payload []byte) error {
	return eachField(payload, func(f field) (known bool, err error) {
		switch f.num {
		case 1:
			return true, setUint(&m.Number, f, 4)
		case 2:
			m.Request, err = f.bytes(MaxRequest)
			return true, err
		}
		return false, nil
	})
}

// answerPiece is how much of an answer stands in one field: a field's length has 16 bits.
const answerPiece = 32 << 10

func (m *Answer) append(w *writer) {
	w.uint(critical|1, uint64(m.Number), 4)
	w.uint(critical|2, uint64(m.Code), 2)
	w.string(3, m.Sentence, MaxSentence)
	if len(m.Answer) > MaxAnswer && w.err == nil {
		w.err = fmt.Errorf("expected an answer of at most %d bytes, got %d", MaxAnswer, len(m.Answer))
		return
	}
	for piece := range slices.Chunk(m.Answer, answerPiece) {
		w.bytes(critical|4, piece, answerPiece)
	}
}

func (m *Answer) decode(payload []byte) error {
	return eachField(payload, func(f field) (bool, error) {
		switch f.num {
		case 1:
			return true, setUint(&m.Number, f, 4)
		case 2:
			return true, setUint(&m.Code, f, 2)
		case 3:
			return true, setString(&m.Sentence, f, MaxSentence)
		case 4:
			if m.Answer = append(m.Answer, f.value...); len(m.Answer) > MaxAnswer {
				return true, malformed("an answer of more than %d bytes", MaxAnswer)
			}
			return true, nil
		}
		return false, nil
	})
}
