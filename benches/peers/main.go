// Command peers measures other databases at the work that docs/BENCHMARKS.md measures Kimberlite at:
// events of 100 bytes, durable before they are answered, over loopback. It starts each on a folder
// and a port of its own, and stops it afterwards. A line for each figure: peer, work, figure, tab
// separated.
//
//	peers -folder FOLDER [-peers postgres,nats,etcd] [-events N] [-seconds N]
//	peers -folder FOLDER -serve postgres
//
// With -serve it starts one and answers each line of standard input, `CLIENTS SECONDS`, with what so
// many clients, each with one append under way, come to: appends a second, p50 and p99 in microseconds.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	eventBytes = 100
	batch      = 1000
)

// A peer is a database under measurement.
type peer interface {
	// start starts it in an empty folder.
	start(ctx context.Context, folder string, port int) error
	// appendOne makes one event durable.
	appendOne(ctx context.Context, data []byte) error
	// appendBatch makes events durable together, by the fastest way that it documents.
	appendBatch(ctx context.Context, events [][]byte) error
	// readAll reads every event in order and tells how many.
	readAll(ctx context.Context) (int, error)
	// count and filter answer by SQL over all events; they tell false where there is no SQL.
	count(ctx context.Context) (bool, error)
	filter(ctx context.Context) (bool, error)
	stop()
}

var peers = map[string]struct {
	title string
	make  func() peer
}{
	"postgres": {"PostgreSQL", func() peer { return &postgres{} }},
	"nats":     {"NATS JetStream", func() peer { return &jetstreamPeer{} }},
	"etcd":     {"etcd", func() peer { return &etcdPeer{} }},
}

type settings struct {
	folder  string
	events  int
	seconds float64
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// server is a process of a peer.
type server struct {
	command *exec.Cmd
}

func (s *server) run(folder string, attributes *syscall.SysProcAttr, program string, arguments ...string) error {
	log, err := os.Create(filepath.Join(folder, "..", filepath.Base(program)+".log"))
	if err != nil {
		return err
	}
	s.command = exec.Command(program, arguments...)
	s.command.Stdout, s.command.Stderr, s.command.SysProcAttr = log, log, attributes
	return s.command.Start()
}

func (s *server) end() {
	if s.command != nil && s.command.Process != nil {
		_ = s.command.Process.Signal(syscall.SIGINT)
		_ = s.command.Wait()
	}
}

// eventually repeats until it works; servers need a moment to start.
func eventually(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// latency runs calls one after the other for a while and tells two percentiles in microseconds.
func latency(s settings, call func() error) (p50, p99 float64, err error) {
	for range 50 {
		if err := call(); err != nil {
			return 0, 0, err
		}
	}
	var all []float64
	for end := time.Now().Add(duration(s)); time.Now().Before(end); {
		start := time.Now()
		if err := call(); err != nil {
			return 0, 0, err
		}
		all = append(all, float64(time.Since(start).Nanoseconds())/1e3)
	}
	sort.Float64s(all)
	return all[len(all)/2], all[len(all)*99/100], nil
}

// rate keeps calls in flight for a while and tells how many events a second they made durable.
func rate(s settings, inFlight, events int, call func() error) (float64, error) {
	var done atomic.Int64
	var failure atomic.Value
	var wait sync.WaitGroup
	start := time.Now()
	for range inFlight {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for time.Since(start) < duration(s) {
				if err := call(); err != nil {
					failure.Store(err)
					return
				}
				done.Add(int64(events))
			}
		}()
	}
	wait.Wait()
	if err, failed := failure.Load().(error); failed {
		return 0, err
	}
	return float64(done.Load()) / time.Since(start).Seconds(), nil
}

func duration(s settings) time.Duration {
	return time.Duration(s.seconds * float64(time.Second))
}

func measure(ctx context.Context, title string, p peer, s settings) error {
	tell := func(work string, figure float64) { fmt.Printf("%s\t%s\t%g\n", title, work, figure) }
	event := []byte(strings.Repeat("x", eventBytes))
	one := func() error { return p.appendOne(ctx, event) }
	p50, p99, err := latency(s, one)
	if err != nil {
		return err
	}
	tell("one append at a time, p50", p50)
	tell("one append at a time, p99", p99)
	many, err := rate(s, 64, 1, one)
	if err != nil {
		return err
	}
	tell("64 appends in flight", many)
	events := make([][]byte, batch)
	for i := range events {
		events[i] = event
	}
	batches, err := rate(s, 16, batch, func() error { return p.appendBatch(ctx, events) })
	if err != nil {
		return err
	}
	tell("16 batches of 1,000 in flight", batches)
	return readBack(ctx, p, s, events, tell)
}

// readBack measures what reads, over at least as many events as were asked for.
func readBack(ctx context.Context, p peer, s settings, events [][]byte, tell func(string, float64)) error {
	there, err := p.readAll(ctx)
	if err != nil {
		return err
	}
	for ; there < s.events; there += batch {
		if err := p.appendBatch(ctx, events); err != nil {
			return err
		}
	}
	start := time.Now()
	read, err := p.readAll(ctx)
	if err != nil {
		return err
	}
	tell("sequential read", float64(read)/time.Since(start).Seconds())
	works := []struct {
		name string
		run  func(context.Context) (bool, error)
	}{{"SQL count", p.count}, {"SQL over the last 10 % by time", p.filter}}
	for _, work := range works {
		start := time.Now()
		can, err := work.run(ctx)
		if err != nil {
			return err
		}
		if can {
			tell(work.name, float64(read)/time.Since(start).Seconds())
		}
	}
	return nil
}

// started makes a peer and starts it in an empty folder.
func started(ctx context.Context, name string, s settings) (peer, error) {
	chosen, known := peers[name]
	if !known {
		return nil, fmt.Errorf("there is no peer %q", name)
	}
	folder := filepath.Join(s.folder, name)
	if err := os.RemoveAll(folder); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := chosen.make()
	if err := p.start(ctx, folder, port); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func runPeer(ctx context.Context, name string, s settings) error {
	p, err := started(ctx, name, s)
	if err != nil {
		return err
	}
	defer p.stop()
	return measure(ctx, peers[name].title, p, s)
}

func main() {
	folder := flag.String("folder", "", "an empty folder on the disk that is measured")
	names := flag.String("peers", "postgres,nats,etcd", "which to measure, separated by commas")
	events := flag.Int("events", 300_000, "how many events are read")
	seconds := flag.Float64("seconds", 3, "how long each piece of writing takes")
	served := flag.String("serve", "", "which to start and measure by lines of standard input")
	flag.Parse()
	s := settings{folder: *folder, events: *events, seconds: *seconds}
	if *served != "" {
		if err := serve(context.Background(), *served, s); err != nil {
			fmt.Fprintf(os.Stderr, "error: %s: %v\n", *served, err)
			os.Exit(1)
		}
		return
	}
	for name := range strings.SplitSeq(*names, ",") {
		if err := runPeer(context.Background(), name, s); err != nil {
			fmt.Fprintf(os.Stderr, "error: %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}
