package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/certstest"
)

// desk is a relay's source and a folder for its audit.
type desk struct {
	t      testing.TB
	ca     *certstest.CA
	source *certstest.Source
	file   string
	states []error
}

func newDesk(t testing.TB) *desk {
	ca := certstest.NewCA(t, "cloud.example")
	return &desk{t: t, ca: ca, source: certstest.NewSource(ca.Issue(t, "spiffe://cloud.example/relay/a"), ca), file: filepath.Join(t.TempDir(), "audit.jsonl")}
}

func (d *desk) open(change func(*Config)) *Log {
	d.t.Helper()
	cfg := Config{File: d.file, Signer: d.source, State: func(err error) { d.states = append(d.states, err) }}
	if change != nil {
		change(&cfg)
	}
	l, err := Open(cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	return l
}

func (d *desk) write(l *Log, n int) {
	d.t.Helper()
	for range n {
		if err := l.Write(&Record{Kind: KindDecision, CallID: "c1", Tunnel: "orders", User: "ada", Decision: Allow}); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *desk) close(l *Log) {
	d.t.Helper()
	l.checked()
	if err := l.Close(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) files() []string {
	d.t.Helper()
	all, err := filepath.Glob(filepath.Join(filepath.Dir(d.file), "audit*.jsonl"))
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

func TestAnAuditGoesOnOverRestartsAndFiles(t *testing.T) {
	d := newDesk(t)
	for range 3 {
		l := d.open(func(c *Config) { c.Rotate = 2_000 })
		d.write(l, 20)
		d.close(l)
	}
	files := d.files()
	r, err := Verify(files, d.source)
	if err != nil || len(files) < 4 || r.Unsigned != 0 || r.First.Seq != 1 || r.Last.Seq != r.Lines || r.Checkpoints < 3 || len(r.Signers) != 1 {
		t.Fatalf("%d files, %+v, %v", len(files), r, err)
	}
	found, err := Find(files, "c1")
	if err != nil || len(found) != 60 || found[59].User != "ada" {
		t.Errorf("%d records of the call, %v", len(found), err)
	}
}

func TestOldFilesGoAndTheChainIsStillGood(t *testing.T) {
	d := newDesk(t)
	l := d.open(func(c *Config) { c.Rotate, c.Keep = 1_000, 2 })
	d.write(l, 100)
	d.close(l)
	r, err := Verify(d.files(), d.source)
	if err != nil || len(d.files()) != 3 || r.First.Seq == 1 {
		t.Errorf("%d files, from line %d: %v", len(d.files()), r.First.Seq, err)
	}
}

func TestADeathBetweenTwoFilesBreaksNoChain(t *testing.T) {
	d := newDesk(t)
	l := d.open(nil)
	d.write(l, 3)
	d.close(l)
	if err := os.Rename(d.file, Rotated(d.file, 1)); err != nil { // and no more of a rotation
		t.Fatal(err)
	}
	l = d.open(nil)
	d.write(l, 3)
	d.close(l)
	if r, err := Verify(d.files(), d.source); err != nil || r.Lines != 10 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWhatWasAlteredRemovedOrMovedIsFound(t *testing.T) {
	d := newDesk(t)
	l := d.open(nil)
	d.write(l, 5)
	l.checked()
	d.write(l, 5)
	d.close(l)
	good, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	lines = lines[:len(lines)-1]
	join := func(l ...[]byte) []byte { return bytes.Join(l, nil) }
	cut := func(from, to int) [][]byte { return append(append([][]byte{}, lines[:from]...), lines[to:]...) }
	swapped := append([][]byte{}, lines...)
	swapped[3], swapped[4] = swapped[4], swapped[3]
	other := newDesk(t)
	forged := other.open(nil)
	other.write(forged, 12)
	other.close(forged)
	foreign, err := os.ReadFile(other.file)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"a word altered":                bytes.Replace(good, []byte(`"ada"`), []byte(`"eve"`), 1),
		"a word of the last call's":     bytes.Replace(good, lines[len(lines)-2], bytes.Replace(lines[len(lines)-2], []byte(`"ada"`), []byte(`"eve"`), 1), 1),
		"a line removed":                join(cut(3, 4)...),
		"lines moved":                   join(swapped...),
		"a line twice":                  join(append(append([][]byte{}, lines[:4]...), lines[3:]...)...),
		"another's checkpoint":          foreign,
		"half a line":                   good[:len(good)-5],
		"no lines of an audit":          []byte("{}\n"),
		"chained anew behind the lie":   rechained(t, lines, 3),
		"a checkpoint at another place": join(append(append([][]byte{}, lines[:5]...), lines[6])...),
	} {
		if err := os.WriteFile(d.file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Verify([]string{d.file}, d.source)
		if fault, ok := errors.AsType[*Fault](err); !ok || fault.Line == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rechained alters a line and writes the chain anew behind it, as far as that can be done without the key.
func rechained(t *testing.T, lines [][]byte, at int) []byte {
	t.Helper()
	var out []byte
	prev := ""
	for i, text := range lines {
		var l Line
		if err := json.Unmarshal(text, &l); err != nil {
			t.Fatal(err)
		}
		if i == at {
			l.User = "eve"
		}
		before := len(out)
		var err error
		if out, err = appendLine(out, l.Seq, l.Time, prev, &l.Record); err != nil {
			t.Fatal(err)
		}
		prev = hash(out[before : len(out)-1])
	}
	return out
}

// O09: a line that could not be written leaves no part behind, and the next one finds the file as it was.
func TestAFullDiskLeavesNoPartOfALine(t *testing.T) {
	d := newDesk(t)
	l := d.open(nil)
	d.write(l, 2)
	whole := l.file
	ro, err := os.Open(d.file) // what cannot be written to
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	l.file = ro
	for range 2 {
		if err := l.Write(&Record{Kind: KindDecision}); err == nil {
			t.Error("no error")
		}
	}
	if _, err := whole.WriteAt([]byte(`{"seq":4,`+strings.Repeat("x", 5_000)), l.size); err != nil { // the part that fitted
		t.Fatal(err)
	}
	l.file = whole
	d.write(l, 1)
	d.close(l)
	if r, err := Verify(d.files(), d.source); err != nil || r.Lines != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	if len(d.states) != 2 || d.states[0] == nil || d.states[1] != nil {
		t.Errorf("said of the failure and its end: %v", d.states)
	}
}

func TestAPartOfALineIsRemovedAtTheStart(t *testing.T) {
	for name, part := range map[string]string{"behind lines": `{"seq":7,"ti`, "alone": "{"} {
		d := newDesk(t)
		if name != "alone" {
			l := d.open(nil)
			d.write(l, 2)
			d.close(l)
		}
		f, err := os.OpenFile(d.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(part); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		l := d.open(nil)
		d.close(l)
		if _, err := Verify(d.files(), d.source); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(d.file); err != nil || !strings.Contains(string(b), KindRecovered) {
			t.Errorf("%s: nothing says so: %s, %v", name, b, err)
		}
	}
}

func TestAFileThatIsNoAuditIsLeftAlone(t *testing.T) {
	d := newDesk(t)
	const other = "not ours\n"
	if err := os.WriteFile(d.file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(Config{File: d.file, Signer: d.source}); err == nil {
		_ = l.Close()
		t.Fatal("it was taken")
	}
	if b, err := os.ReadFile(d.file); err != nil || string(b) != other {
		t.Errorf("%q, %v", b, err)
	}
}

func TestTwoDoNotWriteOneFile(t *testing.T) {
	d := newDesk(t)
	l := d.open(nil)
	defer d.close(l)
	if second, err := Open(Config{File: d.file, Signer: d.source}); err == nil {
		_ = second.Close()
		t.Error("two have it")
	}
}

// O06: what a stranger wrote stays one line, and a bounded one.
func TestAStrangersWordsStayOneLine(t *testing.T) {
	d := newDesk(t)
	l := d.open(nil)
	long := strings.Repeat("x", 1<<20)
	nasty := "a\nb\x1b[31m\u2028\x00\"}"
	if err := l.Write(&Record{Kind: KindDecision, Path: nasty + long, User: nasty, Scopes: make([]string, 1000), Reason: long}); err != nil {
		t.Fatal(err)
	}
	d.close(l)
	b, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b, []byte("\n")); n != 3 || len(b) > 8<<10 || bytes.ContainsAny(b, "\x1b\u2028\x00") {
		t.Errorf("%d lines, %d bytes", n, len(b))
	}
}

func TestCheckpointsComeByThemselves(t *testing.T) {
	d := newDesk(t)
	l := d.open(func(c *Config) { c.Every = 5 * time.Millisecond })
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if r, err := Verify(d.files(), nil); err == nil && r.Checkpoints > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("none after 10 s")
		}
	}
	d.write(l, 1)
	stop()
	running.Wait()
	if r, err := Verify(d.files(), d.source); err != nil || r.Unsigned != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkWrite(b *testing.B) {
	d := newDesk(b)
	l := d.open(nil)
	defer d.close(l)
	r := &Record{Kind: KindDecision, CallID: "mfrggzdfmztwq2lknnwg23tpob", Tunnel: "orders", Network: "http", Method: "GET", Host: "orders.dc1.example",
		Path: "/v1/orders/7", Source: "192.0.2.1", Caller: "spiffe://cloud.example/api/shop", User: "ada", Issuer: "https://idp.example",
		Scopes: []string{"orders.read"}, Decision: Allow, Rule: "allow", Code: "ok", Config: "0123456789abcdef"}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Write(r); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzLines: whatever stands in a file, reading it ends, and what verifies begins with what was written.
func FuzzLines(f *testing.F) {
	d := newDesk(f)
	l := d.open(nil)
	d.write(l, 2)
	d.close(l)
	b, err := os.ReadFile(d.file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := filepath.Join(t.TempDir(), "a.jsonl")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify([]string{file}, d.source); err == nil && r.Lines == 0 {
			t.Error("no line, and no error")
		}
	})
}
