// Package declared reads countersign.yaml: text in, the words of the domain out, and every error with file, line and
// what to do. It is strict: an unknown key is an error, and so is a key that belongs to a later version.
//
// Only serve --config calls it. It reads the files that the text names and expands ${ENV}, so text that came over the
// network must never get here.
package declared
