// Fetches an X.509-SVID and a JWT-SVID from the SPIFFE Workload API and prints what they say.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	// The socket is found by the environment variable SPIFFE_ENDPOINT_SOCKET.
	client, err := workloadapi.New(ctx)
	if err != nil {
		log.Fatalf("cannot reach the Workload API: %v", err)
	}
	defer client.Close()

	x509, err := client.FetchX509SVID(ctx)
	if err != nil {
		log.Fatalf("cannot fetch an X.509-SVID: %v", err)
	}
	fmt.Println("X.509-SVID:", x509.ID)
	fmt.Println("valid until:", x509.Certificates[0].NotAfter.UTC().Format(time.RFC3339))

	jwt, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "my-service"})
	if err != nil {
		log.Fatalf("cannot fetch a JWT-SVID: %v", err)
	}
	fmt.Println("JWT-SVID:", jwt.ID, "for", jwt.Audience)
	fmt.Println("valid until:", jwt.Expiry.UTC().Format(time.RFC3339))
}
