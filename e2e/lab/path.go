//go:build linux

package lab

import (
	"errors"
	"os"
	"sync"
	"testing"
)

// A Direction of the path.
type Direction int

// The directions, seen from the data centre, which is where links begin.
const (
	Out  Direction = iota // dc to cloud
	Into                  // cloud to dc
)

// A Break is the way in which a path is cut.
type Break int

// The breaks.
const (
	Whole  Break = iota // the path is not cut
	Silent              // packets vanish: both ends are left with half-open connections
	Reset               // the data centre's gateway answers every TCP segment with a reset; all else vanishes
)

// A Path is the network between the cloud and the data centre. Its methods are for the test's own goroutine, and end
// the test when the system refuses.
type Path struct {
	t        testing.TB
	firewall *Firewall
	pipes    [2]*pipe // by Direction; nil on a fast path
	devices  [2]*os.File
	running  sync.WaitGroup
	failed   chan error // one element a goroutine
}

// startPath carries packets between the devices of the data centre's gateway and of the cloud.
func startPath(t testing.TB, firewall *Firewall, gateway, cloud *os.File, c Conditions, seed uint64) *Path {
	p := &Path{t: t, firewall: firewall, devices: [2]*os.File{gateway, cloud}, failed: make(chan error, 4)}
	p.pipes[Out] = newPipe(gateway, cloud, newLine(c, seed))
	p.pipes[Into] = newPipe(cloud, gateway, newLine(c, seed+1))
	for _, pipe := range p.pipes {
		p.running.Go(func() { p.failed <- pipe.take() })
		p.running.Go(func() { p.failed <- pipe.give() })
	}
	return p
}

// Set changes both directions. Packets under way keep the time at which they come out.
func (p *Path) Set(c Conditions) {
	p.t.Helper()
	p.SetDirection(Out, c)
	p.SetDirection(Into, c)
}

// SetDirection changes one direction.
func (p *Path) SetDirection(d Direction, c Conditions) {
	p.t.Helper()
	p.forwarder(d).set(c)
}

// Conditions returns what holds in a direction.
func (p *Path) Conditions(d Direction) Conditions {
	p.t.Helper()
	return p.forwarder(d).conditions()
}

// Stats returns what became of the packets in a direction since the lab began.
func (p *Path) Stats(d Direction) Stats {
	p.t.Helper()
	return p.forwarder(d).counted()
}

// Cut cuts both directions, or joins them again. It works on a fast path too.
func (p *Path) Cut(how Break) {
	p.t.Helper()
	p.firewall.setCut(how)
}

func (p *Path) forwarder(d Direction) *pipe {
	p.t.Helper()
	if p.pipes[d] == nil {
		p.t.Fatal("a fast path has no conditions; use lab.Options{Path: lab.WAN}")
	}
	return p.pipes[d]
}

// close ends the forwarder, waits for it, and returns what went wrong while it ran.
func (p *Path) close() error {
	if p.pipes[Out] == nil {
		return nil
	}
	var errs []error
	for i, pipe := range p.pipes {
		close(pipe.stop)
		errs = append(errs, p.devices[i].Close())
	}
	p.running.Wait()
	close(p.failed)
	for err := range p.failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
