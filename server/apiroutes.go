package server

// apiRoutes lists the routes of the JSON API.
func (s *Server) apiRoutes() []route { return nil }
