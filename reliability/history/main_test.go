package main

import (
	"strconv"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

func appended(client int, value uint64, begin, end int64, offset uint64) call {
	return call{Client: client, Op: "append", Value: value, Begin: begin, End: end, Offset: &offset}
}

func read(client int, begin, end int64, s state) call {
	digest := strconv.FormatUint(s.digest, 10)
	return call{Client: client, Op: "read", Begin: begin, End: end, Length: s.length, Digest: digest}
}

// Histories that a stream can have pass, and each kind of lie is found.
func TestCheck(t *testing.T) {
	empty := state{0, fnvOffset}
	one := empty.extended(1)
	both := one.extended(2)
	unknown := call{Client: 2, Op: "append", Value: 2, Begin: 12, End: 13, Unknown: true, Error: "TIMEOUT"}
	refused := call{Client: 2, Op: "append", Value: 9, Begin: 12, End: 13, Error: "OVERLOADED"}
	cases := []struct {
		name  string
		want  porcupine.CheckResult
		calls []call
	}{
		{"in order", porcupine.Ok, []call{appended(1, 1, 0, 10, 0), read(2, 11, 12, one)}},
		{"at once", porcupine.Ok, []call{appended(1, 1, 0, 10, 0), read(2, 1, 2, empty), read(2, 3, 4, one)}},
		{"unknown, done", porcupine.Ok, []call{appended(1, 1, 0, 10, 0), unknown, read(3, 20, 21, both)}},
		{"unknown, not done", porcupine.Ok, []call{appended(1, 1, 0, 10, 0), unknown, read(3, 20, 21, one)}},
		{"refused", porcupine.Ok, []call{appended(1, 1, 0, 10, 0), refused, read(3, 20, 21, one)}},
		{"stale read", porcupine.Illegal, []call{appended(1, 1, 0, 10, 0), read(2, 11, 12, empty)}},
		{"lost", porcupine.Illegal, []call{appended(1, 1, 0, 10, 0), appended(1, 2, 11, 12, 0)}},
		{"back in time", porcupine.Illegal, []call{appended(1, 1, 0, 10, 0), read(2, 1, 2, one), read(3, 3, 4, empty)}},
		{"doubled", porcupine.Illegal, []call{appended(1, 1, 0, 10, 0), read(2, 11, 12, one.extended(1))}},
	}
	for _, c := range cases {
		if got := check(c.calls, time.Minute); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
