// Reads a hub with franz-go: consume list|read|group ...
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

const topic = "telemetry"

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	mode := os.Args[1]
	options := []kgo.Opt{
		kgo.SeedBrokers(os.Getenv("PEER_HUB")),
		kgo.SessionTimeout(6 * time.Second),
		kgo.HeartbeatInterval(time.Second),
		kgo.FetchMaxWait(200 * time.Millisecond),
	}
	if ca := os.Getenv("PEER_CA"); ca != "" {
		pem, err := os.ReadFile(ca)
		must(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		options = append(options,
			kgo.DialTLSConfig(&tls.Config{RootCAs: roots}),
			kgo.SASL(plain.Auth{User: os.Getenv("PEER_USER"), Pass: os.Getenv("PEER_PASSWORD")}.AsMechanism()),
			kgo.RequestRetries(1))
	}
	left := int64(-1)
	switch mode {
	case "read":
		left, _ = strconv.ParseInt(os.Args[3], 10, 64)
		offset := kgo.NewOffset()
		switch os.Args[2] {
		case "start":
			offset = offset.AtStart()
		case "end":
			offset = offset.AtEnd()
		default:
			millis, err := strconv.ParseInt(os.Args[2], 10, 64)
			must(err)
			offset = offset.AfterMilli(millis)
		}
		options = append(options, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(offset))
	case "group":
		options = append(options, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(os.Args[2]), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll())
	}
	client, err := kgo.NewClient(options...)
	must(err)
	defer client.Close()
	if mode == "list" {
		within, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		request := kmsg.NewPtrMetadataRequest()
		request.Topics = nil
		answer, err := request.RequestWith(within, client)
		must(err)
		for _, of := range answer.Topics {
			fmt.Println(*of.Topic, len(of.Partitions))
		}
		return
	}
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(os.Stderr, "ready")
	for ctx.Err() == nil && left != 0 {
		fetches := client.PollRecords(ctx, 200)
		fetches.EachError(func(_ string, _ int32, err error) {
			if ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, err)
			}
		})
		fetches.EachRecord(func(record *kgo.Record) {
			if left == 0 {
				return
			}
			fmt.Fprintf(out, "%d %d %s\n", record.Partition, record.Offset, record.Value)
			left--
		})
		out.Flush()
		if mode == "group" {
			if fetches.NumRecords() > 0 {
				must(client.CommitUncommittedOffsets(context.Background()))
			}
			client.AllowRebalance()
		}
	}
	if mode == "group" {
		client.LeaveGroup()
	}
}
