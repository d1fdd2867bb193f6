//go:build linux

package servers

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/fairlead/fairlead/e2e/process"
)

// postgresUser is the account that Debian's package brings.
const postgresUser = "postgres"

// Postgres is a database server with one user, fairlead, that needs no password.
type Postgres struct {
	*process.Process
	Addr netip.AddrPort
}

// StartPostgres starts an empty PostgreSQL on the host, on a free port. It forgets its data if the machine stops.
func StartPostgres(t testing.TB, on Host) *Postgres {
	t.Helper()
	program, initdb := postgresProgram(t, "postgres"), postgresProgram(t, "initdb")
	dir := process.Folder(t, postgresUser)
	data := filepath.Join(dir, "data")
	ctx := context.WithoutCancel(t.Context())
	unprivileged := process.Unprivileged(postgresUser)
	process.Run(t, command(ctx, on, append(unprivileged, initdb, "-D", data, "-U", "fairlead", "-A", "trust",
		"--no-sync", "--no-locale", "-E", "UTF8")...))
	p := &Postgres{Addr: FreePort(t, on)}
	p.Process = process.Start(t, "postgres", command(ctx, on, append(unprivileged, program, "-D", data,
		"-h", p.Addr.Addr().String(), "-p", strconv.Itoa(int(p.Addr.Port())), "-k", dir,
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
		"-c", "max_wal_size=1GB", "-c", "shared_buffers=64MB", "-c", "log_connections=on")...))
	ready := postgresProgram(t, "pg_isready")
	p.Ready(t, "take connections", func(ctx context.Context) error {
		return on.Command(ctx, ready, "-q", "-h", p.Addr.Addr().String(), "-p", strconv.Itoa(int(p.Addr.Port()))).Run()
	})
	return p
}

// Conn returns the connection string for reaching the database at an address.
func (*Postgres) Conn(at netip.AddrPort) string {
	return "host=" + at.Addr().String() + " port=" + strconv.Itoa(int(at.Port())) +
		" user=fairlead dbname=postgres sslmode=disable gssencmode=disable connect_timeout=20"
}

// postgresProgram returns one of the programs that Debian keeps out of the PATH, of whatever version is newest.
func postgresProgram(t testing.TB, name string) string {
	t.Helper()
	folders, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		t.Fatal(err)
	}
	for i := len(folders); i > 0; i-- {
		if _, err := os.Stat(filepath.Join(folders[i-1], name)); err == nil {
			return filepath.Join(folders[i-1], name)
		}
	}
	return process.Program(t, name, "postgresql")
}
