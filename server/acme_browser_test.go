package server

import (
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/acme"
	"countersign/termination/servercert"
	"countersign/termination/tlstest"
)

// What is obtained through ACME, and where it is set, can be read and used in every size and theme.
func TestACMEInTheBrowser(t *testing.T) {
	st, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	manager := acme.New(acme.Options{
		Storage: st.ACMEState(), Obtained: servercert.NewObtained(), Attempt: 10 * time.Second,
		Backoff: func(int) time.Duration { return time.Hour },
	})
	t.Cleanup(manager.Close)
	f := start(t, func(o *Options) { o.Store, o.ACME = st, manager })
	manager.Apply(&termination.Config{
		ACME: termination.ACME{Directory: "https://127.0.0.1:1/directory"},
		Endpoints: []termination.Endpoint{{
			Name: "web", Enabled: true, Host: "web.example.test", Aliases: []string{"a-name-of-some-length-that-has-to-break.example.test"},
			TerminateAt: termination.AtEdge, Certificates: []string{termination.CertificateACME},
		}},
	})
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)
	for _, i := range []int{0, 1} {
		tlstest.Eventually(t, "the try to fail", func() bool { return manager.Status().Names[i].State == acme.StateFailed })
	}
	for name, path := range map[string]string{"certificates-acme": "/certificates", "settings-acme": "/settings"} {
		for _, theme := range []string{"light", "dark"} {
			for _, width := range []int64{1440, 360} {
				b.size(width, 900)
				b.open(f.URL() + path)
				b.theme(theme)
				if over := b.sideways(); over > 0 {
					t.Errorf("%s is %d pixels too wide at %d", name, over, width)
				}
			}
			b.size(1440, 900)
			b.axe(name + ", " + theme)
			b.picture(name + "-" + theme)
		}
	}
}
