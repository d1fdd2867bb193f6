//go:build linux

package servers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/e2e/process"
)

// Nginx serves the files of a folder, and takes new ones by PUT under /upload/.
type Nginx struct {
	*process.Process
	Addr netip.AddrPort
	Root string // the folder
}

// StartNginx starts nginx on the host, on a free port.
func StartNginx(t testing.TB, on Host) *Nginx {
	t.Helper()
	program := process.Program(t, "nginx", "nginx")
	dir := process.Folder(t, "root")
	n := &Nginx{Addr: FreePort(t, on), Root: filepath.Join(dir, "www")}
	for _, folder := range []string{n.Root, filepath.Join(n.Root, "upload"), filepath.Join(dir, "tmp")} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, []byte(n.config(dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	// The process outlives t.Context, which ends before the test's clean-up begins.
	ctx := context.WithoutCancel(t.Context())
	n.Process = process.Start(t, "nginx", on.Command(ctx, program, "-p", dir, "-e", "stderr", "-c", config))
	n.Accepts(t, on, n.Addr.String())
	return n
}

func (n *Nginx) config(dir string) string {
	user := ""
	if os.Geteuid() == 0 {
		user = "user root root;" // its workers read this test's files
	}
	return fmt.Sprintf(`%s
daemon off;
worker_processes 2;
pid %s/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path %[2]s/tmp; proxy_temp_path %[2]s/tmp; fastcgi_temp_path %[2]s/tmp;
  uwsgi_temp_path %[2]s/tmp; scgi_temp_path %[2]s/tmp;
  client_max_body_size 0;
  sendfile on;
  keepalive_requests 100000;
  types { }
  default_type application/octet-stream;
  server {
    listen %s;
    root %s;
    # The number of nginx's own connection that a request came by, to see that connections are kept.
    add_header Connection-Number $connection always;
    location = /healthz { return 200 "ok\n"; }
    location /upload/ { dav_methods PUT DELETE; }
  }
}
`, user, dir, n.Addr, n.Root)
}

// WriteFile makes a file of size bytes under the root, every megabyte of it different, and returns its SHA-256 in
// hexadecimal.
func (n *Nginx) WriteFile(t testing.TB, name string, size int64) string {
	t.Helper()
	file, err := os.Create(filepath.Join(n.Root, name))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err = io.CopyN(io.MultiWriter(file, sum), Noise(uint64(size)), size); err == nil {
		err = file.Close()
	}
	if err != nil {
		t.Fatalf("writing %s: %v", name, err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Noise returns endless bytes that do not compress and that the seed decides.
func Noise(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}
