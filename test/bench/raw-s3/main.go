// What an S3 store gives to a client library that has nothing to do with the server's: locked creates of one record each, or reads of
// given keys, so many at a time. Takes one order as JSON on standard input and answers with times on standard output.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

type order struct {
	Endpoint     string `json:"endpoint"`
	AccessKey    string `json:"accessKey"`
	SecretKey    string `json:"secretKey"`
	SessionToken string `json:"sessionToken"`
	Bucket       string `json:"bucket"`
	InFlight     int    `json:"inFlight"`
	// Length of what is created; 0 reads Keys.
	SizeBytes int `json:"sizeBytes"`
	// How long to create, and how many a second; 0 is as many as the store takes.
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
	// RFC 3339.
	RetainUntil time.Time `json:"retainUntil"`
	Keys        []string  `json:"keys"`
}

type answer struct {
	Seconds float64   `json:"seconds"`
	TimesMs []float64 `json:"timesMs"`
	// Of the last object that was created.
	LastKey string `json:"lastKey"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "raw-s3:", err)
		os.Exit(1)
	}
}

func run() error {
	var o order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return err
	}
	transport, err := minio.DefaultTransport(false)
	if err != nil {
		return err
	}
	transport.MaxIdleConnsPerHost = o.InFlight
	client, err := minio.NewCore(o.Endpoint, &minio.Options{
		Creds:     credentials.NewStaticV4(o.AccessKey, o.SecretKey, o.SessionToken),
		Region:    "us-east-1",
		Transport: http.RoundTripper(transport),
	})
	if err != nil {
		return err
	}
	one := func(i int) (string, error) { return create(client, &o) }
	if o.SizeBytes == 0 {
		one = func(i int) (string, error) { return o.Keys[i], read(client, &o, o.Keys[i]) }
	}
	result, err := measure(&o, one)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// measure runs one after the other in each of InFlight workers. At a given rate each begins when it is due, and is timed from then.
func measure(o *order, one func(i int) (string, error)) (*answer, error) {
	begun := time.Now()
	until := begun.Add(time.Duration(o.Seconds * float64(time.Second)))
	var next atomic.Int64
	var mutex sync.Mutex
	var failed error
	result := &answer{}
	var workers sync.WaitGroup
	for range o.InFlight {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for {
				i := int(next.Add(1) - 1)
				from := time.Now()
				if o.PerSecond > 0 {
					from = begun.Add(time.Duration(float64(i) / o.PerSecond * float64(time.Second)))
					time.Sleep(time.Until(from))
				}
				if o.SizeBytes == 0 && i >= len(o.Keys) || o.SizeBytes > 0 && !from.Before(until) {
					return
				}
				key, err := one(i)
				took := time.Since(from)
				mutex.Lock()
				if err != nil {
					failed = err
				}
				stop := failed != nil
				result.TimesMs = append(result.TimesMs, float64(took.Nanoseconds())/1e6)
				result.LastKey = key
				mutex.Unlock()
				if stop {
					return
				}
			}
		}()
	}
	workers.Wait()
	result.Seconds = time.Since(begun).Seconds()
	return result, failed
}

// create makes an object whose key is its digest: absent before, locked, its checksum kept by the store.
func create(client *minio.Core, o *order) (string, error) {
	body := make([]byte, o.SizeBytes)
	if _, err := rand.Read(body); err != nil {
		return "", err
	}
	digest := sha256.Sum256(body)
	name := hex.EncodeToString(digest[:])
	key := fmt.Sprintf("records/sha256/%s/%s/%s", name[:2], name[2:4], name)
	options := minio.PutObjectOptions{
		Mode:            minio.Compliance,
		RetainUntilDate: o.RetainUntil,
		UserMetadata:    map[string]string{"X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(digest[:])},
	}
	options.SetMatchETagExcept("*")
	_, err := client.PutObject(context.Background(), o.Bucket, key, bytes.NewReader(body), int64(len(body)), "", name, options)
	return key, err
}

func read(client *minio.Core, o *order, key string) error {
	body, _, _, err := client.GetObject(context.Background(), o.Bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}
