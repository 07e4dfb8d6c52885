package signaling

import "testing"

// A queue that grows in the middle of its ring keeps the order, and drops only
// the oldest beyond a second.
func TestFrameQueueGrows(t *testing.T) {
	q := newFrameQueue()
	var in, out byte
	var got [frameBytes]byte
	push := func(n int) (dropped int) {
		for range n {
			in++
			frame := make([]byte, frameBytes)
			frame[0] = in
			dropped += q.push(frame)
		}
		return dropped
	}
	pop := func(n int) {
		t.Helper()
		for range n {
			out++
			if ok, _ := q.pop(&got); !ok || got[0] != out {
				t.Fatalf("frame %d, %v; want %d", got[0], ok, out)
			}
		}
	}
	for _, burst := range []int{backlogUsual, 2 * backlogUsual, backlogMax} {
		push(backlogUsual - 2)
		pop(backlogUsual - 4)
		if d := push(burst - 2); d != 0 {
			t.Errorf("a burst of %d: %d dropped", burst, d)
		}
		pop(burst)
	}
	if d := push(backlogMax + 3); d != 3 {
		t.Errorf("%d dropped, want 3", d)
	}
	out += 3
	pop(backlogMax)
	if ok, _ := q.pop(&got); ok {
		t.Error("a frame too many")
	}
}
