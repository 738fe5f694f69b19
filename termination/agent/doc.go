// Package agent is the program beside a service: it joins a gateway's endpoint, keeps a tunnel to the gateway, and
// serves what comes through it with the same engine as the gateway itself, so that both admit the same clients. The key
// of its endpoint is made or read here and never leaves.
package agent
