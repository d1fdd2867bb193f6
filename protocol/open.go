package protocol

// The fields of Open and Opened, as SPEC.md §2 numbers them.

func (m *Open) append(w *writer) {
	w.string(critical|1, string(m.Tunnel), 63)
	w.uint(critical|2, uint64(m.Network), 1)
	w.string(critical|3, m.CallID, maxWord)
	w.string(critical|4, m.Method, maxWord)
	w.string(critical|5, m.Path, MaxPath)
	w.string(10, m.Traceparent, maxWord)
	w.string(11, m.Tracestate, maxWord*2)
	w.uint(12, millis(m.Timeout), 4)
	if len(m.Grant) > 0 {
		w.bytes(critical|13, m.Grant, MaxGrant)
	}
	w.string(critical|14, m.Token, MaxToken)
	w.string(15, m.Source, maxWord)
}

func (m *Open) decode(payload []byte) error {
	err := eachField(payload, func(f field) (known bool, err error) {
		switch f.num {
		case 1:
			m.Tunnel, err = tunnelName(f)
			return true, err
		case 2:
			return true, setUint(&m.Network, f, 1)
		case 3:
			return true, setString(&m.CallID, f, maxWord)
		case 4:
			return true, setString(&m.Method, f, maxWord)
		case 5:
			return true, setString(&m.Path, f, MaxPath)
		case 10:
			return true, setString(&m.Traceparent, f, maxWord)
		case 11:
			return true, setString(&m.Tracestate, f, maxWord*2)
		case 12:
			return true, setMillis(&m.Timeout, f)
		case 13:
			m.Grant, err = f.bytes(MaxGrant)
			return true, err
		case 14:
			return true, setString(&m.Token, f, MaxToken)
		case 15:
			return true, setString(&m.Source, f, maxWord)
		}
		return false, nil
	})
	switch {
	case err != nil:
		return err
	case m.Tunnel == "":
		return malformed("an Open without a tunnel")
	case m.Network != HTTP && m.Network != TCP && m.Network != UDP:
		return malformed("an Open with %v", m.Network)
	}
	return nil
}

func (m *Opened) append(w *writer) {
	w.uint(critical|1, uint64(m.Code), 2)
	w.string(2, m.Sentence, MaxSentence)
	w.uint(3, bit(m.Sent), 1)
}

func (m *Opened) decode(payload []byte) error {
	return eachField(payload, func(f field) (bool, error) {
		switch f.num {
		case 1:
			return true, setUint(&m.Code, f, 2)
		case 2:
			return true, setString(&m.Sentence, f, MaxSentence)
		case 3:
			return true, setFlag(&m.Sent, f)
		}
		return false, nil
	})
}
