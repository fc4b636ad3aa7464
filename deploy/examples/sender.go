// Sends events to Iguazu: `go run sender.go URL < events.ndjson`, a JSON event a line; the API key is in IGUAZU_KEY. Go 1.19.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
)

const batchMax, tries = 100, 8 // events of a request; tries of a batch, then its events are given up
var client, sent, refused, givenUp = http.Client{Timeout: time.Minute}, 0, 0, 0

type event map[string]json.RawMessage
type result struct {
	Index         int
	Code, Message string
	Retry         *bool // only of an event that was not accepted
	Events        *int  // of a reply
	Results       []result
}

func main() {
	var batch []event
	for input := json.NewDecoder(os.Stdin); input.More(); sent++ {
		id := make([]byte, 16) // chosen once, before the first try: consumers find what came twice by it
		rand.Read(id)
		next := event{"id": json.RawMessage(fmt.Sprintf(`"%x"`, id))} // one of its own replaces it
		if err := input.Decode(&next); err != nil {
			panic(err)
		}
		if batch = append(batch, next); len(batch) < batchMax && input.More() {
			continue
		}
		for try, pause, wait := 0, 200*time.Millisecond, time.Minute; try < tries && len(batch) > 0; try, pause = try+1, 2*pause {
			if batch, wait = send(batch); len(batch) > 0 { // as long as the proxy asks, and not when all others do
				time.Sleep(wait + pause*time.Duration(id[0])/256)
			}
		}
		givenUp, batch = givenUp+len(batch), nil
	}
	if fmt.Printf("accepted %d, refused %d, given up %d\n", sent-refused-givenUp, refused, givenUp); refused+givenUp > 0 {
		os.Exit(1)
	}
}

// One request. Returns the events to send again, and how long to wait before that.
func send(events []event) (again []event, wait time.Duration) {
	body, _ := json.Marshal(events)
	request, err := http.NewRequest("POST", os.Args[1]+"/v1/events", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	request.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + os.Getenv("IGUAZU_KEY")}}
	var reply result
	response, err := client.Do(request)
	if err == nil {
		defer response.Body.Close()
		wait, _ = time.ParseDuration(response.Header.Get("retry-after") + "s")
		err = json.NewDecoder(response.Body).Decode(&reply)
	}
	if err != nil { // no reply of Iguazu's; the events may have been taken: the same go again, with the same ids
		return events, wait
	}
	for i := 0; reply.Events == nil && i < len(events); i++ { // refused as a whole, nothing was taken
		reply.Results = append(reply.Results, result{Index: i, Code: reply.Code, Message: reply.Message, Retry: reply.Retry})
	}
	for _, of := range reply.Results {
		if of.Retry != nil && *of.Retry {
			again = append(again, events[of.Index])
		} else if of.Retry != nil {
			refused++
			fmt.Fprintf(os.Stderr, "%s %s %s\n", events[of.Index]["id"], of.Code, of.Message)
		}
	}
	return again, wait
}
