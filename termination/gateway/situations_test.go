package gateway_test

import (
	"maps"
	"testing"

	"countersign/termination"
)

// TestSituations lets each situation of the list happen: a real client fails, what is explained is what the list says, the
// fix is carried out as it was given, and the client comes in.
func TestSituations(t *testing.T) {
	stories := map[string]func(*scene){}
	maps.Copy(stories, openingStories())
	maps.Copy(stories, clientStories())
	for _, situation := range termination.Situations() {
		story := stories[situation.ID]
		if story == nil {
			t.Errorf("no test lets %q happen", situation.ID)
			continue
		}
		delete(stories, situation.ID)
		t.Run(situation.ID, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, situation)
			story(s)
			s.ends()
		})
	}
	for id := range stories {
		t.Errorf("%q is not on the list, or twice", id)
	}
}
