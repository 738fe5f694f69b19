package server

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"countersign/views"
)

// Demo is what the first start made, so that the first handshake needs nothing else.
type Demo struct {
	Dir         string // where the files below are
	CA          string // file names
	Client      string // certificate and key in one file
	Stranger    string // likewise, from a CA that nobody trusts
	P12         string
	P12Apple    string // with the encryption that Apple systems take
	P12Password string
	User        string // whom the client certificate is for
	Days        int    // its life
	Endpoint    string // name of the endpoint
	Host        string // demo.localhost:8443
	Listen      string // 127.0.0.1:8443
}

func (s *Server) welcomePage(c echo.Context) error {
	return s.render(c, http.StatusOK, views.WelcomePage(s.view(c, "First handshake"), s.welcome(c)))
}

func (s *Server) welcome(c echo.Context) views.Welcome {
	w := views.Welcome{}
	return w
}

func (s *Server) welcomeTry(c echo.Context) error {
	return s.redirect(c, "/welcome")
}
