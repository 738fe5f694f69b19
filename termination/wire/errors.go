package wire

import (
	"errors"
	"fmt"
)

// What kept ReadClientHello from returning a hello. Each is found by errors.Is in
// the *HelloError that it returns.
var (
	// ErrNoBytes: the connection ended, or its deadline passed, before the client
	// had sent a single byte, as port scanners, health checks and clients that
	// wait for the server to speak first (MySQL, SMTP) do.
	ErrNoBytes = errors.New("the client sent nothing")
	// ErrCutShort: the connection ended, or its deadline passed, in the middle of
	// the hello.
	ErrCutShort = errors.New("the ClientHello stops half way")
	// ErrNotTLS: the first bytes are something else; HelloError.Protocol says
	// what they look like.
	ErrNotTLS = errors.New("the client does not speak TLS")
	// ErrHelloTooLarge: the hello is larger than the limit.
	ErrHelloTooLarge = errors.New("the ClientHello is too large")
	// ErrEarly: after a request for TLS came more before it was answered, as
	// when somebody on the way puts his own words before those of the client
	// (CVE-2021-23214). For callers that answer such requests.
	ErrEarly = errors.New("more came before the request for TLS was answered")
	// ErrHelloBroken: it is TLS, but not a valid hello; HelloError.Reason says why.
	ErrHelloBroken = errors.New("the ClientHello is broken")
)

// HelloError says why there is no hello.
type HelloError struct {
	Kind     error    // one of the errors above
	Protocol Protocol // with ErrNotTLS: what the first bytes look like
	Method   string   // with ProtocolHTTP: the request's method
	Reason   string   // with ErrHelloBroken and ErrHelloTooLarge: what is wrong, in words
	Alert    uint8    // the alert to answer with (see AlertRecord), or 0 where an alert makes no sense
	Err      error    // with ErrNoBytes and ErrCutShort, and ErrNotTLS where the bytes ended early: the error of the read
}

func (e *HelloError) Error() string {
	text := e.Kind.Error()
	switch {
	case e.Protocol == ProtocolHTTP:
		text += fmt.Sprintf(": it looks like %s (%s)", e.Protocol, e.Method)
	case e.Protocol != ProtocolUnknown:
		text += fmt.Sprintf(": it looks like %s", e.Protocol)
	case e.Reason != "":
		text += ": " + e.Reason
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap lets errors.Is find both the kind and the error of the read.
func (e *HelloError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}
