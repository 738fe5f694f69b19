// Package static embeds what a browser needs beside the pages: one stylesheet, a few ES modules, one set of drawn
// symbols and one third-party script.
//
// The stylesheet app.css is css/*.css joined in the order of their names, so each page can keep its rules in a file of
// its own, such as css/30-live.css. Every rule stands in a cascade layer; rules of one page belong in the layer "pages".
//
// Scripts are ES modules at the top of this directory, imported relatively ("./copy.js") and without a bundler. The
// policy of the pages forbids inline script and style, eval, and style attributes; modules build nodes with DOM calls
// and fill them with textContent, never with innerHTML.
//
// Everything is served under a path that holds a hash over all files, so it can be cached for ever.
package static
