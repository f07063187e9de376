// All six calls with everything that a caller may say, and one with nothing but the defaults, by Segment's Go client.
// Usage: send URL KEY MODE RUN; a module of its own with github.com/segmentio/analytics-go/v3 builds it.
// MODE: batched, single.
package main

import (
	"log"
	"net"
	"os"
	"time"

	"github.com/segmentio/analytics-go/v3"
)

type outcome struct{ failed bool }

func (o *outcome) Success(analytics.Message) {}

func (o *outcome) Failure(message analytics.Message, err error) {
	log.Print(message, err)
	o.failed = true
}

func main() {
	url, key, mode, run := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	out := &outcome{}
	config := analytics.Config{Endpoint: url, Interval: time.Second, Callback: out}
	if mode == "single" {
		config.BatchSize = 1
	}
	client, err := analytics.NewWithConfig(key, config)
	if err != nil {
		log.Fatal(err)
	}
	user, anonymous := "user-"+run, "anon-"+run
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	context := &analytics.Context{
		IP:       net.ParseIP("203.0.113.7"),
		Locale:   "nl-NL",
		Campaign: analytics.CampaignInfo{Name: "spring", Source: "news"},
	}
	integrations := analytics.NewIntegrations().EnableAll().Disable("Mixpanel").
		Set("Amplitude", map[string]interface{}{"session_id": 1767323045678})
	traits := analytics.NewTraits().SetName("Zoë Ångström ☕").SetEmail("zoe@example.com").SetAge(36).
		Set("address", map[string]interface{}{"city": "Gent", "zip": nil})
	order := analytics.NewProperties().SetRevenue(42.5).SetCurrency("EUR").Set("gift", true).Set("when", at).
		Set("products", []map[string]interface{}{{"sku": "a-1", "n": 2}})
	for _, message := range []analytics.Message{
		analytics.Identify{UserId: user, AnonymousId: anonymous, MessageId: run + "-identify", Timestamp: at, Context: context,
			Integrations: integrations, Traits: traits},
		analytics.Track{UserId: user, AnonymousId: anonymous, MessageId: run + "-track", Timestamp: at, Context: context,
			Integrations: integrations, Event: "Order Completed 🎉", Properties: order},
		analytics.Page{UserId: user, AnonymousId: anonymous, MessageId: run + "-page", Timestamp: at, Context: context,
			Integrations: integrations, Name: "Home",
			Properties: analytics.NewProperties().Set("path", "/docs").Set("title", `A "quoted" \ title <b>`)},
		analytics.Screen{UserId: user, AnonymousId: anonymous, MessageId: run + "-screen", Timestamp: at, Context: context,
			Integrations: integrations, Name: "Start", Properties: analytics.NewProperties().Set("build", 7)},
		analytics.Group{UserId: user, AnonymousId: anonymous, MessageId: run + "-group", Timestamp: at, Context: context,
			Integrations: integrations, GroupId: "group-" + run, Traits: analytics.NewTraits().Set("plan", "pro").Set("employees", 12)},
		analytics.Alias{UserId: user, PreviousId: "before-" + run, MessageId: run + "-alias", Timestamp: at, Context: context,
			Integrations: integrations},
		analytics.Track{UserId: user, Event: "Plain"},
	} {
		if err := client.Enqueue(message); err != nil {
			log.Fatal(err)
		}
	}
	if err := client.Close(); err != nil || out.failed {
		log.Fatal(err)
	}
}
