package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// jetstreamPeer is NATS JetStream with one file-backed stream and sync_interval always, so that a
// publish is on the disk before it is acknowledged.
type jetstreamPeer struct {
	server
	connection *nats.Conn
	stream     jetstream.JetStream
}

func (p *jetstreamPeer) start(ctx context.Context, folder string, port int) error {
	config := filepath.Join(folder, "nats.conf")
	text := fmt.Sprintf("listen: 127.0.0.1:%d\njetstream { store_dir: %q, sync_interval: always }\n", port, folder)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	if err := p.run(folder, nil, "nats-server", "-c", config); err != nil {
		return err
	}
	err := eventually(ctx, func() (err error) {
		p.connection, err = nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", port))
		return err
	})
	if err != nil {
		return err
	}
	if p.stream, err = jetstream.New(p.connection); err != nil {
		return err
	}
	_, err = p.stream.CreateStream(ctx, jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"events"}, Storage: jetstream.FileStorage, AllowAtomicPublish: true,
	})
	return err
}

func (p *jetstreamPeer) appendOne(ctx context.Context, data []byte) error {
	_, err := p.stream.Publish(ctx, "events", data)
	return err
}

// appendBatch publishes an atomic batch, which the server syncs once.
func (p *jetstreamPeer) appendBatch(ctx context.Context, events [][]byte) error {
	batch, err := jetstreamext.NewBatchPublisher(p.stream)
	if err != nil {
		return err
	}
	last := len(events) - 1
	for _, data := range events[:last] {
		if err := batch.Add("events", data); err != nil {
			return err
		}
	}
	_, err = batch.Commit(ctx, "events", events[last])
	return err
}

func (p *jetstreamPeer) readAll(ctx context.Context) (int, error) {
	stream, err := p.stream.Stream(ctx, "EVENTS")
	if err != nil {
		return 0, err
	}
	there := int(stream.CachedInfo().State.Msgs)
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return 0, err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(10_000))
	if err != nil {
		return 0, err
	}
	defer messages.Stop()
	for read := 0; read < there; read++ {
		if _, err := messages.Next(); err != nil {
			return 0, err
		}
	}
	return there, nil
}

func (p *jetstreamPeer) count(context.Context) (bool, error)  { return false, nil }
func (p *jetstreamPeer) filter(context.Context) (bool, error) { return false, nil }

func (p *jetstreamPeer) stop() {
	if p.connection != nil {
		p.connection.Close()
	}
	p.end()
}
