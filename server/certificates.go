package server

// certificateRoutes lists the routes of the Certificates pages.
func (s *Server) certificateRoutes() []route { return nil }
