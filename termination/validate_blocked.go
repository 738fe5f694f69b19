package termination

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxBlocks bounds the block list: all of it travels to each agent.
const MaxBlocks = 10_000

// maxWhy bounds what an operator writes beside a block, in bytes.
const maxWhy = 256

const kindBlock = "block"

// blocks checks what is blocked by hand.
func (v *validation) blocks() {
	if n := len(v.config.Blocked); n > MaxBlocks {
		v.add(kindBlock, v.config.Blocked[MaxBlocks].String(), "", fmt.Sprintf("there are %d blocks", n), fmt.Sprintf("%d at most; let the CA revoke its certificates and give the authority its revocation list, or remove the authority", MaxBlocks))
		return
	}
	authorities := map[string]bool{}
	for i := range v.config.Authorities {
		authorities[v.config.Authorities[i].Name] = true
	}
	seen := map[string]bool{}
	for i := range v.config.Blocked {
		b := &v.config.Blocked[i]
		name := b.String()
		if err := CheckBlock(b); err != nil {
			v.errors = append(v.errors, *err)
			continue
		}
		if b.Pin == nil && !authorities[b.Authority] {
			v.add(kindBlock, name, "authority", fmt.Sprintf("there is no authority %q", b.Authority), "name the one whose CA has issued the certificate")
		}
		key := string(b.Origin) + "\x00" + name
		if seen[key] {
			v.add(kindBlock, name, "", "is blocked twice", "remove one of the two")
		}
		seen[key] = true
	}
}

// CheckBlock looks at one block by itself, and returns nil when nothing is wrong with it.
func CheckBlock(b *Block) *FieldError {
	wrong := func(field, problem, advice string) *FieldError {
		return &FieldError{Kind: kindBlock, Name: b.String(), Field: field, Problem: problem, Advice: advice}
	}
	const how = `write {pin: "3fa19c…"}, {pin: "spki:91c0…"}, or {serial: "1f:3a", authority: devices}`
	switch {
	case b.Pin == nil && b.Serial == "":
		return wrong("pin", "it does not say what is blocked", how)
	case b.Pin != nil && (b.Serial != "" || b.Authority != ""):
		return wrong("serial", "it has a pin and a serial number, and is to have one of them", how)
	case b.Pin == nil && b.Authority == "":
		return wrong("authority", "a serial number says nothing without the CA that gave it", how)
	}
	if b.Pin == nil {
		if serial, err := ParseSerial(b.Serial); err != nil {
			return wrong("serial", err.Error(), "")
		} else if serial != b.Serial {
			return wrong("serial", fmt.Sprintf("%q is not in its plain form", b.Serial), "write "+serial)
		}
	}
	if problem := remarkProblem(b.Why); problem != "" {
		return wrong("why", problem, "say it in a few plain words")
	}
	return nil
}

// remarkProblem says what is wrong with a text that an operator has written for others to read; it may be empty.
func remarkProblem(s string) string {
	switch {
	case len(s) > maxWhy:
		return fmt.Sprintf("it is longer than %d bytes", maxWhy)
	case !utf8.ValidString(s):
		return "it is no valid UTF-8"
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return "it holds control characters"
		}
	}
	return ""
}

// takenBack checks what the local CA has revoked under an authority.
func (v *validation) takenBack(a *Authority) {
	seen := map[string]bool{}
	for _, r := range a.Revocation.Revoked {
		serial, err := ParseSerial(r.Serial)
		switch {
		case err != nil || serial != r.Serial:
			v.add("authority", a.Name, "revoked", fmt.Sprintf("%q is no serial number in its plain form", r.Serial), "revoke the certificate again")
		case seen[serial]:
			v.add("authority", a.Name, "revoked", fmt.Sprintf("the serial number %s is revoked twice", serial), "remove one of the two")
		case remarkProblem(r.Reason) != "":
			v.add("authority", a.Name, "revoked", "the reason for serial "+serial+": "+remarkProblem(r.Reason), "say it in a few plain words")
		}
		seen[serial] = true
	}
}
