package front

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link"
)

func TestRunLetsRunningCallsEndWhileAgentsStay(t *testing.T) {
	for _, version := range []int{1, 2, 3} {
		inside, leave := make(chan struct{}), make(chan struct{})
		agentGone := make(chan struct{})
		r := newRig(t, func(c *Config) {
			c.Caller = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(inside)
				<-leave
				select {
				case <-agentGone:
					t.Error("the agent went before the call")
				default:
				}
				_, _ = io.WriteString(w, "whole")
			})
			c.Agent = func(ctx context.Context, _ link.Session, proved func()) {
				proved()
				<-ctx.Done()
				close(agentGone)
			}
		})
		s, err := r.dialAgent("tcp", r.agentConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(nil)
		answer := make(chan string)
		go func() {
			_, body, err := r.get(r.client(version, callerID), nil)
			if err != nil {
				t.Errorf("HTTP/%d: %v", version, err)
			}
			answer <- body
		}()
		<-inside
		stopped := make(chan error)
		go func() { stopped <- r.stop() }()
		r.eventually("the port is closed", func() bool {
			c, err := net.Dial("tcp", r.Addr().String())
			if err == nil {
				c.Close()
			}
			return err != nil
		})
		close(leave)
		if body := <-answer; body != "whole" {
			t.Errorf("HTTP/%d: answer %q", version, body)
		}
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func TestRunCutsCallsThatDoNotEnd(t *testing.T) {
	for _, version := range []int{1, 2, 3} {
		inside := make(chan struct{})
		r := newRig(t, func(c *Config) {
			c.DrainTimeout = 200 * time.Millisecond
			c.Caller = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(inside)
				<-r.Context().Done()
				panic(http.ErrAbortHandler)
			})
		})
		failed := make(chan error)
		go func() {
			_, _, err := r.get(r.client(version, callerID), nil)
			failed <- err
		}()
		<-inside
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("HTTP/%d: stopping took %v", version, took)
		}
		if err := <-failed; err == nil {
			t.Errorf("HTTP/%d: the cut call looks whole", version)
		}
	}
}

func TestRunLetsAHijackedCallEnd(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(c *Config) {
		c.Caller = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			close(inside)
			select {
			case <-leave:
				_, _ = io.WriteString(conn, "whole")
			case <-r.Context().Done():
			}
		})
	})
	cfg := r.callerConfig(callerID)
	cfg.NextProtos = []string{"http/1.1"}
	c, err := tls.Dial("tcp", r.Addr().String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
	<-inside
	time.AfterFunc(hangUp+500*time.Millisecond, func() { close(leave) }) // longer than callers get to hang up
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if b, _ := io.ReadAll(c); string(b) != "whole" {
		t.Errorf("the call was cut: got %q", b)
	}
}

func TestHijackedConnectionsEndWithRun(t *testing.T) {
	inside, ended := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(c *Config) {
		c.DrainTimeout = 200 * time.Millisecond
		c.Caller = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			close(inside)
			<-r.Context().Done()
			close(ended)
		})
	})
	cfg := r.callerConfig(callerID)
	cfg.NextProtos = []string{"http/1.1"}
	c, err := tls.Dial("tcp", r.Addr().String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
	<-inside
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	default:
		t.Error("Run returned before the handler had ended")
	}
}
