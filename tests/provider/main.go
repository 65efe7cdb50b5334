// Command provider is an OpenID Connect provider for the tests: zitadel's certified library with the storage of its example, built
// from its Go module, by TLS.
//
// It holds no logic of its own. Route in: an address, a certificate, where a client may be sent back to. Route out: zitadel's code;
// one person, test-user@HOST with the password verysecure, whose subject is id1; one client, sheaf with the secret "secret".
package main

import (
	"flag"
	"log"
	"log/slog"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

func main() {
	address := flag.String("address", "", "host and port")
	certificate := flag.String("certificate", "", "file in PEM")
	key := flag.String("key", "", "file in PEM")
	callback := flag.String("callback", "", "where the client is sent back to")
	flag.Parse()
	issuer := "https://" + *address
	storage.RegisterClients(storage.WebClient("sheaf", "secret", *callback))
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	router := exampleop.SetupServer(issuer, storage.NewStorage(storage.NewUserStore(issuer)), logger, false)
	log.Fatal(http.ListenAndServeTLS(*address, *certificate, *key, router))
}
