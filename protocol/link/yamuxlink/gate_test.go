package yamuxlink

import "testing"

func hasEntered(t *turn) bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

func TestGateServesInOrder(t *testing.T) {
	g := gate{room: 10}
	var large, small, last turn
	if !g.enter(8) || g.enter(3) {
		t.Fatal("10 bytes have room for 8, and not for 3 more")
	}
	g.wait(&large, 9)
	g.wait(&small, 1)
	if g.enter(1) {
		t.Error("a newcomer overtook those that wait")
	}
	g.leave(4)
	if hasEntered(&large) || hasEntered(&small) {
		t.Error("somebody entered without room, or out of turn")
	}
	if !g.abandon(&large) {
		t.Error("it waited, and could not give up")
	}
	if !hasEntered(&small) {
		t.Error("the one behind who gave up was not let in")
	}
	g.wait(&last, 6)
	g.leave(4)
	if g.abandon(&last) {
		t.Error("it gave up although it had entered")
	}
	if !hasEntered(&last) || g.room != 3 {
		t.Errorf("%d bytes of room, expected 3", g.room)
	}
}
