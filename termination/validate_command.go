package termination

import "fmt"

// commands sees to it that nothing leans on what ends with a command.
func (v *validation) commands() {
	const advice = "choose another; to keep it, upload it in the dashboard or declare it in the file"
	authorities := func(kind, name, field string, list []string) {
		for _, a := range list {
			if found := v.config.Authority(a); found != nil && found.Origin == OriginCommand {
				v.add(kind, name, field, fmt.Sprintf("the authority %q was made by a command and ends with it", a), advice)
			}
		}
	}
	authorities("defaults", "", "client_auth", v.config.Defaults.Authorities)
	for i := range v.config.Endpoints {
		e := &v.config.Endpoints[i]
		if e.Origin == OriginCommand {
			continue
		}
		authorities("endpoint", e.Name, "client_auth.authorities", e.ClientAuth.Authorities)
		for _, r := range e.Routes {
			if r.ClientAuth != nil {
				authorities("endpoint", e.Name, "routes.client_auth.authorities", r.ClientAuth.Authorities)
			}
		}
		for _, name := range e.Certificates {
			if found := v.config.Certificate(name); found != nil && found.Origin == OriginCommand {
				v.add("endpoint", e.Name, "certificates", fmt.Sprintf("the certificate %q was made by a command and ends with it", name), advice)
			}
		}
	}
}
