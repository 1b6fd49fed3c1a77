package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgres is PostgreSQL with the settings that it comes with, among them fsync and
// synchronous_commit, but room for 300 connections instead of 100; one table, as an application would
// make it.
type postgres struct {
	server
	pool    *pgxpool.Pool
	address string
}

// programs finds the folder of initdb, which is not always in the path.
func programs() (string, error) {
	if found, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(found), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("PostgreSQL is not installed: there is no initdb")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// owner is whom PostgreSQL runs as: it refuses to be root.
func owner(folder string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.ParseUint(account.Uid, 10, 32)
	gid, _ := strconv.ParseUint(account.Gid, 10, 32)
	if err := os.Chown(folder, int(uid), int(gid)); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func (p *postgres) start(ctx context.Context, folder string, port int) error {
	bin, err := programs()
	if err != nil {
		return err
	}
	attributes, err := owner(folder)
	if err != nil {
		return err
	}
	data := filepath.Join(folder, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "--auth=trust", "--username=bench", "--pgdata="+data)
	initdb.SysProcAttr = attributes
	if told, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, told)
	}
	err = p.run(folder, attributes, filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+folder, "-c", "max_connections=300")
	if err != nil {
		return err
	}
	p.address = fmt.Sprintf("postgres://bench@127.0.0.1:%d/postgres", port)
	if p.pool, err = pgxpool.New(ctx, p.address+"?pool_max_conns=64"); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		_, err := p.pool.Exec(ctx, `CREATE TABLE events (
			id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			at timestamptz NOT NULL DEFAULT clock_timestamp(), data bytea NOT NULL);
			CREATE INDEX ON events (at)`)
		return err
	})
}

const insert = "INSERT INTO events (data) VALUES ($1)"

func (p *postgres) appendOne(ctx context.Context, data []byte) error {
	_, err := p.pool.Exec(ctx, insert, data)
	return err
}

// client connects once more.
func (p *postgres) client(ctx context.Context) (func(data []byte) error, func(), error) {
	connection, err := pgx.Connect(ctx, p.address)
	if err != nil {
		return nil, nil, err
	}
	one := func(data []byte) error {
		_, err := connection.Exec(ctx, insert, data)
		return err
	}
	return one, func() { _ = connection.Close(ctx) }, nil
}

func (p *postgres) appendBatch(ctx context.Context, events [][]byte) error {
	_, err := p.pool.Exec(ctx, "INSERT INTO events (data) SELECT unnest($1::bytea[])", events)
	return err
}

func (p *postgres) readAll(ctx context.Context) (int, error) {
	rows, err := p.pool.Query(ctx, "SELECT id, data FROM events ORDER BY id")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	count := 0
	var id int64
	var data []byte
	for rows.Next() {
		if err := rows.Scan(&id, &data); err != nil {
			return 0, err
		}
		count++
	}
	return count, rows.Err()
}

func (p *postgres) count(ctx context.Context) (bool, error) {
	var count int64
	return true, p.pool.QueryRow(ctx, "SELECT count(*) FROM events").Scan(&count)
}

func (p *postgres) filter(ctx context.Context) (bool, error) {
	var count, bytes int64
	return true, p.pool.QueryRow(ctx, `SELECT count(*), sum(length(data)) FROM events
		WHERE at >= (SELECT at FROM events WHERE id = (SELECT max(id) * 9 / 10 FROM events))`).Scan(&count, &bytes)
}

func (p *postgres) stop() {
	if p.pool != nil {
		p.pool.Close()
	}
	p.end()
}
