// Package audit keeps the record of who called what and what was decided: JSON lines, each of which carries the hash of the
// one before, with a signed checkpoint every minute, so that a line that was altered, removed or moved is found (Verify).
//
// It is not the log: it has its own file, whose lines are written before what they say takes effect, and a writer that cannot
// write says so. What it cannot show is that lines behind the last checkpoint were cut off by somebody who then went on.
//
// Every line is handed to the system at once, and reaches the disk with the next checkpoint: the machine's sudden death can
// cost the last minute, the process's costs nothing.
package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/certs"
)

// Config makes a Log.
type Config struct {
	File   string        // required; others beside it take the names of Rotated
	Signer Signer        // required: its SVID signs checkpoints
	Rotate int64         // bytes after which the next file begins; default 100 MiB
	Keep   int           // rotated files that are kept; default 0: all
	Every  time.Duration // between checkpoints; default 1 min
	// State, where given, hears when writing begins to fail (of the error) and when it works again (of nil). It must not
	// block, nor call the Log.
	State func(error)
}

// A Signer is whose audit it is; a certs.Source is one. It is asked anew for each checkpoint.
type Signer interface {
	Certificate() (*tls.Certificate, error)
	ID() certs.ID
}

// A Log is the file that is written now. It is safe for concurrent use.
type Log struct {
	cfg Config

	// mu guards: everything below.
	mu      sync.Mutex
	file    *os.File
	size    int64 // of what is whole
	begun   uint64
	seq     uint64
	prev    string
	since   int // lines since the last checkpoint
	failing bool
	broken  error // what has to be mended before the next line: a part of one may stand at the end
	buf     []byte
}

// Open continues a file, or begins it. A part of a line at its end, which a full disk or the machine's death has left, is
// removed, and that is recorded. The caller closes the Log.
func Open(cfg Config) (*Log, error) {
	if cfg.Rotate == 0 {
		cfg.Rotate = 100 << 20
	}
	if cfg.Every == 0 {
		cfg.Every = time.Minute
	}
	if cfg.State == nil {
		cfg.State = func(error) {}
	}
	l := &Log{cfg: cfg}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.open(); err != nil {
		if l.file != nil {
			err = errors.Join(err, l.file.Close())
		}
		return nil, fmt.Errorf("audit: %w", err)
	}
	return l, nil
}

// open takes the file up where it ends; an empty one where the file before it ends. l.mu is held.
func (l *Log) open() (err error) {
	if l.file, err = os.OpenFile(l.cfg.File, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := lock(l.file); err != nil {
		return fmt.Errorf("%s: expected to be the only one that writes it: %w", l.cfg.File, err)
	}
	rest, err := l.takeUp(l.file)
	switch {
	case err != nil:
		return err
	case l.size == 0 && rest == 0:
		if err := l.takeUpRotated(); err != nil {
			return err
		}
		l.size, l.begun = 0, 0
		return l.begin()
	case rest == 0:
		l.begun, err = firstSeq(l.cfg.File)
		return err
	}
	if err := l.file.Truncate(l.size); err != nil {
		return err
	}
	if err := l.append(&Record{Kind: KindRecovered, Reason: fmt.Sprintf("%d bytes of an unfinished line were removed", rest)}, time.Now()); err != nil {
		return err
	}
	l.begun, err = firstSeq(l.cfg.File)
	return err
}

func (l *Log) begin() error {
	return l.append(&Record{Kind: KindBegin, Peer: l.cfg.Signer.ID().String()}, time.Now())
}

// takeUp makes a file's last whole line the one to follow, and says how many bytes stand behind it. l.mu is held.
func (l *Log) takeUp(f *os.File) (rest int, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return 0, err
	}
	tail := make([]byte, min(end, 2*maxLine))
	if _, err := f.ReadAt(tail, end-int64(len(tail))); err != nil {
		return 0, err
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	rest = len(tail) - whole
	if l.size = end - int64(rest); l.size == 0 {
		return rest, nil
	}
	var last Line
	line := tail[bytes.LastIndexByte(tail[:max(whole-1, 0)], '\n')+1 : max(whole-1, 0)]
	if err := json.Unmarshal(line, &last); err != nil || last.Seq == 0 {
		return 0, fmt.Errorf("%s: expected a line of an audit at its end; move the file away to begin another one", f.Name())
	}
	l.seq, l.prev = last.Seq, hash(line)
	return rest, nil
}

// takeUpRotated continues what was rotated last, where there is anything: the process may have died in between. l.mu is held.
func (l *Log) takeUpRotated() error {
	old, err := l.rotated()
	if err != nil || len(old) == 0 {
		return err
	}
	f, err := os.Open(old[len(old)-1])
	if err != nil {
		return err
	}
	_, err = l.takeUp(f)
	return errors.Join(err, f.Close())
}

// Write appends a record. An error means that it is not there, and that no part of it is; the next Write tries anew.
func (l *Log) Write(r *Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if l.size >= l.cfg.Rotate {
		err = l.rotate()
	}
	if err == nil {
		err = l.append(r, time.Now())
	}
	return l.tell(err)
}

// tell says when the state changes, and returns what to call it. l.mu is held.
func (l *Log) tell(err error) error {
	if err != nil {
		err = fmt.Errorf("audit: %w", err)
	}
	if l.failing != (err != nil) {
		l.failing = err != nil
		l.cfg.State(err)
	}
	return err
}

// append writes one line. l.mu is held.
func (l *Log) append(r *Record, at time.Time) error {
	if l.broken != nil {
		if err := l.file.Truncate(l.size); err != nil {
			return errors.Join(l.broken, err)
		}
		l.broken = nil
	}
	var err error
	if l.buf, err = appendLine(l.buf[:0], l.seq+1, at, l.prev, r); err != nil {
		return err
	}
	if _, err := l.file.WriteAt(l.buf, l.size); err != nil {
		if l.broken = l.file.Truncate(l.size); l.broken != nil {
			return errors.Join(err, l.broken)
		}
		return err
	}
	if l.seq++; l.begun == 0 {
		l.begun = l.seq
	}
	l.size += int64(len(l.buf))
	l.prev = hash(l.buf[:len(l.buf)-1])
	if l.since++; r.Kind == KindCheckpoint {
		l.since = 0
	}
	return nil
}

// Run writes checkpoints until ctx ends, and a last one then. It returns nil.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.checked()
			return nil
		case <-tick.C:
			l.checked()
		}
	}
}

func (l *Log) checked() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since > 0 {
		_ = l.tell(l.checkpoint()) // that is where it is said
	}
}

// checkpoint signs what there is and has it reach the disk. l.mu is held.
func (l *Log) checkpoint() error {
	cert, err := l.cfg.Signer.Certificate()
	if err != nil {
		return err
	}
	now := time.Now()
	signature, err := certs.Sign(cert, signed(l.seq+1, now, l.prev))
	if err != nil {
		return err
	}
	if err := l.append(&Record{Kind: KindCheckpoint, Chain: cert.Certificate, Signature: signature}, now); err != nil {
		return err
	}
	return l.file.Sync()
}

// signed is what a checkpoint signs: its own number and time, and the hash of the line before, on which all others hang.
func signed(seq uint64, at time.Time, prev string) []byte {
	return fmt.Appendf(nil, "EXPERIMENTAL-fairlead-audit\x00%d\n%s\n%s", seq, stamp(at), prev)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func hash(line []byte) string {
	sum := sha256.Sum256(line)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// rotate gives the file its name for good and begins the next one, which continues the chain. l.mu is held.
func (l *Log) rotate() error {
	if err := l.checkpoint(); err != nil {
		return err
	}
	next, err := os.OpenFile(l.cfg.File+".next", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := lock(next); err != nil {
		return errors.Join(err, next.Close())
	}
	name := Rotated(l.cfg.File, l.begun)
	if err := errors.Join(os.Rename(l.cfg.File, name), os.Rename(l.cfg.File+".next", l.cfg.File)); err != nil {
		return errors.Join(err, next.Close())
	}
	err = l.file.Close()
	l.file, l.size, l.begun, l.broken = next, 0, 0, nil
	return errors.Join(err, l.begin(), l.prune())
}

// Rotated is the name of the file whose first line has the number seq, once the next one has begun.
func Rotated(file string, seq uint64) string {
	ext := filepath.Ext(file)
	return fmt.Sprintf("%s-%012d%s", strings.TrimSuffix(file, ext), seq, ext)
}

// rotated are the names of the files before this one, the oldest first.
func (l *Log) rotated() ([]string, error) {
	ext := filepath.Ext(l.cfg.File)
	old, err := filepath.Glob(strings.TrimSuffix(l.cfg.File, ext) + "-" + strings.Repeat("[0-9]", 12) + ext)
	slices.Sort(old)
	return old, err
}

// prune removes the oldest rotated files. l.mu is held.
func (l *Log) prune() error {
	if l.cfg.Keep == 0 {
		return nil
	}
	old, err := l.rotated()
	for ; len(old) > l.cfg.Keep; old = old[1:] {
		err = errors.Join(err, os.Remove(old[0]))
	}
	return err
}

// Close closes the file; Run has returned by then.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
