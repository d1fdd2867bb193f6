package audit

import (
	"bufio"
	"cmp"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"github.com/fairlead/fairlead/certs"
)

// A Fault is a line that is not what was written there.
type Fault struct {
	File string
	Line int // of the file, from 1
	What string
}

func (f *Fault) Error() string { return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.What) }

// A Report says what Verify has found good.
type Report struct {
	Lines       uint64
	First, Last Line
	Checkpoints int
	Signers     []certs.ID // of checkpoints, each once
	Unsigned    uint64     // lines behind the last checkpoint
}

// Verify reads the files of one audit, in whatever order they are named, and checks that each line follows the one before
// and that the checkpoints hold. Where source is not nil, their signers are verified by its bundles, as of the time of the
// checkpoint; otherwise whoever signed is taken for good. The error of a line is a *Fault. Files that have been removed from
// the front are no fault: the first line's number shows them.
func Verify(files []string, source certs.Source) (*Report, error) {
	ordered, err := inOrder(files)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	prev := ""
	for _, file := range ordered {
		for at, err := range lines(file) {
			if err != nil {
				return r, err
			}
			fault := func(format string, args ...any) error {
				return &Fault{file, at.number, fmt.Sprintf(format, args...)}
			}
			switch {
			case r.Lines > 0 && at.Seq != r.Last.Seq+1:
				return r, fault("expected line number %d, got %d: lines are missing or were moved", r.Last.Seq+1, at.Seq)
			case r.Lines > 0 && at.Prev != prev:
				return r, fault("the line before (number %d) is not the one that this line was written behind: it was altered", r.Last.Seq)
			case r.Lines == 0 && at.Seq == 1 && at.Prev != "":
				return r, fault("expected the first line to follow nothing")
			}
			if at.Kind == KindCheckpoint {
				signer, err := checkSigned(&at.Line, source)
				if err != nil {
					return r, fault("checkpoint: %v", err)
				}
				if r.Checkpoints++; !slices.Contains(r.Signers, signer) {
					r.Signers = append(r.Signers, signer)
				}
				r.Unsigned = 0
			} else {
				r.Unsigned++
			}
			if r.Lines == 0 {
				r.First = at.Line
			}
			r.Lines++
			r.Last, prev = at.Line, hash(at.text)
		}
	}
	return r, nil
}

// checkSigned checks a checkpoint, and returns who signed it.
func checkSigned(l *Line, source certs.Source) (certs.ID, error) {
	chain, err := certs.ParseChain(l.Chain)
	if err != nil {
		return certs.ID{}, err
	}
	if err := certs.CheckSignature(chain[0], signed(l.Seq, l.Time, l.Prev), l.Signature); err != nil {
		return certs.ID{}, err
	}
	if source == nil {
		return certs.LeafID(chain[0])
	}
	id, err := certs.Verify(source, chain, x509.ExtKeyUsageAny, l.Time)
	return id.ID, err
}

// Lines yields the lines of the files of one audit, in the order in which they were written. It checks no chain.
func Lines(files []string) iter.Seq2[*Line, error] {
	return func(yield func(*Line, error) bool) {
		ordered, err := inOrder(files)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, file := range ordered {
			for at, err := range lines(file) {
				if !yield(&at.Line, err) || err != nil {
					return
				}
			}
		}
	}
}

// place is a line and where it stands.
type place struct {
	Line
	number int
	text   []byte // without its end; good until the next line
}

func lines(file string) iter.Seq2[*place, error] {
	return func(yield func(*place, error) bool) {
		f, err := os.Open(file)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.Close()
		br := bufio.NewReaderSize(f, maxLine)
		for number := 1; ; number++ {
			text, err := br.ReadSlice('\n')
			switch {
			case err == io.EOF && len(text) == 0:
				return
			case err != nil:
				yield(nil, &Fault{file, number, "expected a whole line of an audit"})
				return
			}
			at := &place{number: number, text: text[:len(text)-1]}
			if err := json.Unmarshal(at.text, &at.Line); err != nil || at.Seq == 0 {
				yield(nil, &Fault{file, number, "expected a line of an audit"})
				return
			}
			if !yield(at, nil) {
				return
			}
		}
	}
}

// inOrder sorts the files by their first lines' numbers.
func inOrder(files []string) ([]string, error) {
	type first struct {
		file string
		seq  uint64
	}
	var all []first
	for _, file := range files {
		seq, err := firstSeq(file)
		if err != nil {
			return nil, err
		}
		all = append(all, first{file, seq})
	}
	slices.SortFunc(all, func(a, b first) int { return cmp.Compare(a.seq, b.seq) })
	ordered := make([]string, len(all))
	for i, f := range all {
		ordered[i] = f.file
	}
	return ordered, nil
}

// firstSeq is the number of a file's first line.
func firstSeq(file string) (uint64, error) {
	for at, err := range lines(file) {
		if err != nil {
			return 0, err
		}
		return at.Seq, nil
	}
	return 0, fmt.Errorf("%s: %w", file, errNoLine)
}

var errNoLine = errors.New("expected at least one line")

// Find returns the records of one call, in the order in which they were written.
func Find(files []string, callID string) ([]*Line, error) {
	var found []*Line
	for l, err := range Lines(files) {
		if err != nil {
			return found, err
		}
		if l.CallID == callID {
			found = append(found, l)
		}
	}
	return found, nil
}
