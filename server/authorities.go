package server

// authorityRoutes lists the routes of the Trust pages.
func (s *Server) authorityRoutes() []route { return nil }
