// Package expression compiles and evaluates the expressions of a configuration: the condition `when` of a client policy,
// and the values of forwarded headers. They are written in CEL (https://cel.dev), with the variables that ngrok gives a
// terminated connection (conn.tls.client.…; client for short), and with the request once there is one.
//
// An expression sees what [Input] holds and nothing else: no file, no environment, no network, no clock of its own. It is
// compiled once and then evaluated for each client, so its work is bounded twice: at compile time, where one that could
// cost more than its limit with ordinary certificates is refused, and at run time, where exceeding the limit is an error.
// Whoever asks a condition refuses the client when it gets an error.
package expression
