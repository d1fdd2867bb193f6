//go:build linux

package process

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// parent makes this binary play the test process that dies, in TestProgramsEndWithACrashedTest.
const parent = "FAIRLEAD_PROCESS_PARENT"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shell(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-c", script)
}

func TestOutputIsFoundWhileTheProgramRunsAndAfterIt(t *testing.T) {
	p := Start(t, "sh", shell(t, "echo one; echo two >&2; sleep 60 & wait"))
	if found, err := p.Find(t.Context(), regexp.MustCompile(`(?s)one.*(two)`)); err != nil || found[1] != "two" {
		t.Errorf("got %q, %v", found, err)
	}
	p.Kill()
	if _, err := p.Find(t.Context(), regexp.MustCompile("two")); err != nil {
		t.Error(err)
	}
	if _, err := p.Find(t.Context(), regexp.MustCompile("three")); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("got %v, want word of the program's end", err)
	}
}

func TestStopReportsHowTheProgramEnded(t *testing.T) {
	for script, good := range map[string]bool{
		"trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done": true,
		"trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done": false,
	} {
		p := Start(t, "sh", shell(t, script))
		if _, err := p.Find(t.Context(), regexp.MustCompile("up")); err != nil {
			t.Fatal(err)
		}
		if err := p.Stop(); (err == nil) != good {
			t.Errorf("%s: got %v", script, err)
		}
	}
}

func TestKillEndsTheWholeGroup(t *testing.T) {
	p := Start(t, "sh", shell(t, "sleep 60 & echo child $!; wait"))
	found, err := p.Find(t.Context(), regexp.MustCompile(`child (\d+)`))
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	awaitEnd(t, found[1])
}

func TestProgramsEndWithACrashedTest(t *testing.T) {
	if os.Getenv(parent) != "" {
		p := Start(t, "sleep", shell(t, "exec sleep 60"))
		os.Stdout.WriteString("child " + strconv.Itoa(p.Pid()) + "\n")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // it cannot fail, nor return
		select {}
	}
	crash := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestProgramsEndWithACrashedTest$")
	crash.Env = append(os.Environ(), parent+"=1")
	out, err := crash.Output()
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		t.Fatalf("the crash ended with %v", err)
	}
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		if pid, ok := strings.CutPrefix(lines.Text(), "child "); ok {
			awaitEnd(t, pid)
			return
		}
	}
	t.Fatalf("no child in %q", out)
}

// awaitEnd waits for the end of a process that is no child of ours.
func awaitEnd(t *testing.T, pid string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		status, err := os.ReadFile("/proc/" + pid + "/stat")
		// A zombie has ended; nobody may be there to reap it.
		if errors.Is(err, os.ErrNotExist) || strings.Contains(string(status), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s lives on: %s", pid, status)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
