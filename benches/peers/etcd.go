package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdPeer is one etcd member; a put is on its disk before it is answered. Keys count up.
type etcdPeer struct {
	server
	client *clientv3.Client
	next   atomic.Int64
}

func (p *etcdPeer) start(ctx context.Context, folder string, port int) error {
	peerPort, err := freePort()
	if err != nil {
		return err
	}
	clients := fmt.Sprintf("http://127.0.0.1:%d", port)
	members := fmt.Sprintf("http://127.0.0.1:%d", peerPort)
	err = p.run(folder, nil, "etcd", "--data-dir", folder, "--listen-client-urls", clients,
		"--advertise-client-urls", clients, "--listen-peer-urls", members,
		"--initial-advertise-peer-urls", members, "--initial-cluster", "default="+members,
		"--max-txn-ops", "1000", "--quota-backend-bytes", "8589934592", "--log-level", "error")
	if err != nil {
		return err
	}
	config := clientv3.Config{Endpoints: []string{clients}, DialTimeout: 5 * time.Second}
	if p.client, err = clientv3.New(config); err != nil {
		return err
	}
	return eventually(ctx, func() error { return p.appendOne(ctx, []byte("first")) })
}

func (p *etcdPeer) key() string {
	return fmt.Sprintf("events/%016d", p.next.Add(1))
}

func (p *etcdPeer) appendOne(ctx context.Context, data []byte) error {
	_, err := p.client.Put(ctx, p.key(), string(data))
	return err
}

func (p *etcdPeer) appendBatch(ctx context.Context, events [][]byte) error {
	puts := make([]clientv3.Op, len(events))
	for i, data := range events {
		puts[i] = clientv3.OpPut(p.key(), string(data))
	}
	_, err := p.client.Txn(ctx).Then(puts...).Commit()
	return err
}

func (p *etcdPeer) readAll(ctx context.Context) (int, error) {
	count, from := 0, "events/"
	for {
		got, err := p.client.Get(ctx, from, clientv3.WithRange("events0"), clientv3.WithLimit(10_000))
		if err != nil {
			return 0, err
		}
		count += len(got.Kvs)
		if !got.More {
			return count, nil
		}
		from = string(got.Kvs[len(got.Kvs)-1].Key) + "\x00"
	}
}

func (p *etcdPeer) count(context.Context) (bool, error)  { return false, nil }
func (p *etcdPeer) filter(context.Context) (bool, error) { return false, nil }

func (p *etcdPeer) stop() {
	if p.client != nil {
		_ = p.client.Close()
	}
	p.end()
}
