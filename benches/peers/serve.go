package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

// separate is a peer that takes separate clients.
type separate interface {
	// client connects one; the first function appends one event, the second one disconnects.
	client(ctx context.Context) (func(data []byte) error, func(), error)
}

// serve starts a peer and measures it as often as standard input says.
func serve(ctx context.Context, name string, s settings) error {
	p, err := started(ctx, name, s)
	if err != nil {
		return err
	}
	defer p.stop()
	many, can := p.(separate)
	if !can {
		return fmt.Errorf("it takes no separate clients here")
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var clients int
		var seconds float64
		if _, err := fmt.Sscan(lines.Text(), &clients, &seconds); err != nil {
			return fmt.Errorf("%q: want CLIENTS SECONDS", lines.Text())
		}
		rate, p50, p99, err := together(ctx, many, clients, seconds)
		if err != nil {
			return err
		}
		fmt.Println(rate, p50, p99)
	}
	return lines.Err()
}

// together lets so many clients append at the same time, one event each.
func together(ctx context.Context, p separate, clients int, seconds float64) (rate, p50, p99 float64, err error) {
	data := []byte(strings.Repeat("x", eventBytes))
	appends := make([]func([]byte) error, clients)
	for i := range appends {
		one, disconnect, err := p.client(ctx)
		if err != nil {
			return 0, 0, 0, err
		}
		defer disconnect()
		// The first one prepares the statement; that is no part of the steady state.
		if err := one(data); err != nil {
			return 0, 0, 0, err
		}
		appends[i] = one
	}
	var lock sync.Mutex
	var all []float64
	var failure error
	var wait sync.WaitGroup
	start := time.Now()
	end := start.Add(time.Duration(seconds * float64(time.Second)))
	for _, one := range appends {
		wait.Add(1)
		go func() {
			defer wait.Done()
			var mine []float64
			var err error
			for begun := time.Now(); err == nil && begun.Before(end); begun = time.Now() {
				if err = one(data); err == nil {
					mine = append(mine, float64(time.Since(begun).Nanoseconds())/1e3)
				}
			}
			lock.Lock()
			defer lock.Unlock()
			all = append(all, mine...)
			if err != nil {
				failure = err
			}
		}()
	}
	wait.Wait()
	if failure != nil || len(all) == 0 {
		return 0, 0, 0, fmt.Errorf("no append came through: %w", failure)
	}
	rate = float64(len(all)) / time.Since(start).Seconds()
	sort.Float64s(all)
	return rate, all[len(all)/2], all[len(all)*99/100], nil
}
