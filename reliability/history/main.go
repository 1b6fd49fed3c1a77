// Command history checks that what clients were told while they appended to and read one stream is
// what some order of their calls, each at one moment between its begin and its end, would have told:
// that the stream is linearizable. It uses the checker porcupine.
//
//	history FILE...
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/anishathalye/porcupine"
)

// call is a line of a history file.
type call struct {
	Client  int     `json:"client"`
	Op      string  `json:"op"`
	Value   uint64  `json:"value"`
	Begin   int64   `json:"begin"`
	End     int64   `json:"end"`
	Offset  *uint64 `json:"offset"`
	Unknown bool    `json:"unknown"`
	Error   string  `json:"error"`
	Length  uint64  `json:"length"`
	Digest  string  `json:"digest"`
}

// state is a stream: how many events it has, and FNV-1a over them.
type state struct {
	length, digest uint64
}

const (
	fnvOffset = 0xcbf29ce484222325
	fnvPrime  = 0x100000001b3
)

func (s state) extended(value uint64) state {
	digest := s.digest
	for i := 0; i < 8; i++ {
		digest = (digest ^ (value >> (8 * i) & 0xff)) * fnvPrime
	}
	return state{s.length + 1, digest}
}

// step tells whether a call may have been answered so in this state, and the state after it.
func step(before, input, output any) (bool, any) {
	s, c := before.(state), input.(call)
	if c.Op == "read" {
		return c.Length == s.length && c.Digest == strconv.FormatUint(s.digest, 10), s
	}
	if c.Offset == nil {
		return true, s.extended(c.Value) // done at a moment that nobody was told
	}
	return *c.Offset == s.length, s.extended(c.Value)
}

var model = porcupine.Model{
	Init: func() any { return state{0, fnvOffset} },
	Step: step,
	DescribeOperation: func(input, output any) string {
		c := input.(call)
		return fmt.Sprintf("%s %d -> %v %d", c.Op, c.Value, c.Offset, c.Length)
	},
}

func load(path string) ([]call, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var calls []call
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var c call
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		calls = append(calls, c)
	}
	return calls, lines.Err()
}

// operations leaves out what told nothing: failed reads, and appends that were refused.
func operations(calls []call) []porcupine.Operation {
	var operations []porcupine.Operation
	next := 1 << 20
	for _, c := range calls {
		client, end := c.Client, c.End
		switch {
		case c.Unknown:
			// It may have happened at any time since, and its client went on meanwhile.
			client, end = next, math.MaxInt64
			next++
		case c.Error != "":
			continue
		}
		operations = append(operations, porcupine.Operation{
			ClientId: client, Input: c, Call: c.Begin, Output: nil, Return: end,
		})
	}
	return operations
}

func check(calls []call, patience time.Duration) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(model, operations(calls), patience)
}

func run() error {
	var all []call
	for _, path := range os.Args[1:] {
		calls, err := load(path)
		if err != nil {
			return err
		}
		all = append(all, calls...)
	}
	unknown := 0
	for _, c := range all {
		if c.Unknown {
			unknown++
		}
	}
	ops := operations(all)
	if len(ops) == 0 {
		return fmt.Errorf("the history is empty")
	}
	if result := check(all, 5*time.Minute); result != porcupine.Ok {
		return fmt.Errorf("%d calls of %d clients: %s", len(ops), len(os.Args)-1, result)
	}
	fmt.Printf("%d calls of %d clients, %d of them of unknown outcome: linearizable\n", len(ops), len(os.Args)-1, unknown)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
