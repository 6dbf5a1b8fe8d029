// Command pause holds a pod's namespaces open until it is told to end.
//
// `pause reach HOST:PORT` resolves HOST and opens a TCP connection instead. The cluster's start uses it as a
// readiness probe inside a pod: one success proves DNS, Service routing and exec probes together.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const dialTimeout = 3 * time.Second

func main() {
	if len(os.Args) == 3 && os.Args[1] == "reach" {
		if err := reach(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	hold()
}

func reach(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%s cannot be reached: %w", address, err)
	}
	return connection.Close()
}

// hold also reaps orphans, because pause is process 1 of a pod that shares its process namespace.
func hold() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
		}
	}
}
