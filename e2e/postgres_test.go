//go:build linux

package e2e

import (
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

// idle is how long nothing crosses while a listener waits: longer than any keep-alive or ping of ours.
const idle = 12 * time.Second

// ledger is a database behind a site, and the two ways to it.
type ledger struct {
	*servers.Postgres
	psql    string
	through netip.AddrPort // connect's listener
}

func startLedger(t *testing.T) *ledger {
	t.Helper()
	p := servers.StartPostgres(t, new(servers.Loopback))
	s := startSite(t, options{}, tunnel{name: "ledger", protocol: "tcp", backend: "tcp://" + p.Addr.String()})
	return &ledger{
		Postgres: p,
		psql:     process.Program(t, "psql", "postgresql-client"),
		through:  s.connect(t, nil, "ledger"),
	}
}

// session returns psql, connected at the address, without a command.
func (l *ledger) session(ctx context.Context, at netip.AddrPort, more ...string) *exec.Cmd {
	args := append([]string{"-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"}, more...)
	return exec.CommandContext(ctx, l.psql, append(args, l.Conn(at))...)
}

// query runs commands through the tunnel and returns what psql prints.
func (l *ledger) query(t *testing.T, commands ...string) string {
	t.Helper()
	return l.run(t, l.through, commands...)
}

// look runs commands past the tunnel.
func (l *ledger) look(t *testing.T, commands ...string) string {
	t.Helper()
	return l.run(t, l.Addr, commands...)
}

func (l *ledger) run(t *testing.T, at netip.AddrPort, commands ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var args []string
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return strings.TrimSpace(process.Run(t, l.session(ctx, at, args...)))
}

func TestMillionRowsGoOutAndComeBack(t *testing.T) {
	l := startLedger(t)
	l.look(t, "create table entries as select n, md5(n::text) as note, n * 1.25 as amount from generate_series(1, 1000000) n",
		"create table returned (like entries)")
	file := filepath.Join(t.TempDir(), "entries.csv")
	began := time.Now()
	l.query(t, `\copy entries to '`+file+`' csv`)
	if info, err := os.Stat(file); err != nil || info.Size() < 40_000_000 {
		t.Fatalf("psql wrote %v (%v)", info, err)
	}
	l.query(t, `\copy returned from '`+file+`' csv`)
	t.Logf("out and back in %s", time.Since(began).Round(time.Millisecond))
	differ := l.look(t, "select count(*) from entries full join returned using (n, note, amount) where entries is null or returned is null")
	if count := l.look(t, "select count(*) from returned"); count != "1000000" || differ != "0" {
		t.Errorf("%s rows came back, %s differ", count, differ)
	}
}

func TestNotificationComesAfterIdleTime(t *testing.T) {
	l := startLedger(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	listener := l.session(ctx, l.through)
	in, err := listener.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := process.Start(t, "psql", listener)
	say := func(line string) {
		t.Helper()
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	say("listen news; select 'list' || 'ening';")
	if _, err := p.Find(ctx, regexp.MustCompile("listening")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-time.After(idle): // the silence is the subject of this test
	case <-p.Done():
		t.Fatal("psql lost its connection while idle")
	}
	l.look(t, "notify news, 'ahoy'")
	say("select 'still ' || 'here';") // psql shows notifications after a command
	if _, err := p.Find(ctx, regexp.MustCompile(`(?s)still here.*notification "news" with payload "ahoy"`)); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("psql ended with %v", err)
	}
}

func TestRunningQueryIsCancelled(t *testing.T) {
	l := startLedger(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := process.Start(t, "psql", l.session(ctx, l.through, "-c", "select pg_sleep(600)"))
	p.Ready(t, "run its query", func(context.Context) error {
		if l.look(t, "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'") != "1" {
			return errNotYet
		}
		return nil
	})
	p.Interrupt() // psql asks for the cancel over a connection of its own
	if _, err := p.Find(ctx, regexp.MustCompile("canceling statement due to user request")); err != nil {
		t.Fatal(err)
	}
	if got := l.look(t, "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'"); got != "0" {
		t.Error("the query still runs")
	}
}
