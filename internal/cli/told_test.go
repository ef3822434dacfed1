package cli

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"garret/internal/archive"
	"garret/internal/fsck"
	"garret/internal/ui"
	"garret/repository"
)

// heard returns what a command says, for messages that a small repository gives no cause for.
func heard(do func(a *app)) string {
	var errs bytes.Buffer
	do(&app{stdin: strings.NewReader(""), stdout: &output{}, ui: ui.New(nil, &errs)})
	return errs.String()
}

func TestWhereACheckInPartsGoesOnIsTold(t *testing.T) {
	for want, p := range map[string]checkParts{
		"goes on with segment 7.":                                  {wantStore: true, wantsArchives: true, Segment: 7},
		`goes on behind archive "one".`:                            {wantsArchives: true, Archives: fsck.Position{Archive: "one"}},
		"goes on with the archives.":                               {wantStore: true, StoreDone: true, wantsArchives: true},
		"goes on with the objects from segment 9 on.":              {wantsArchives: true, Archives: fsck.Position{Data: repository.Place{Segment: 9}}},
		`The check of repository "repo", in parts, is at its end.`: {wantStore: true, StoreDone: true},
	} {
		got := heard(func(a *app) {
			c := &check{app: a, parts: &p}
			c.loc.Path = "repo"
			c.tellParts()
		})
		if !strings.HasSuffix(got, want+"\n") || strings.Count(got, "\n") != 1 {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}

func TestAPositionThatCannotBeKeptIsTold(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, filepath.Join(dir, "tree"))
	p := &checkParts{wantStore: true, Segment: 7, file: filepath.Join(dir, "tree", "sub", "missing") + "\x00"}
	if err := p.save(); err == nil || !strings.HasPrefix(err.Error(), "remember how far the check has come: ") {
		t.Error(err)
	}
	p = &checkParts{wantStore: true, StoreDone: true, file: dir} // it is not empty
	if err := p.save(); err == nil || !strings.HasPrefix(err.Error(), "forget how far the check had come: ") {
		t.Error(err)
	}
}

func TestWhatAnEarlierStateLacksIsTold(t *testing.T) {
	plan := &repository.Revert{Missing: 2}
	for i := range mostTold + 5 {
		plan.Lost = append(plan.Lost, repository.ID{byte(i)})
	}
	got := heard(func(a *app) { a.tellMissing(plan) })
	if !strings.HasPrefix(got, "garret: segments that are gone from that time or before: 2, ") ||
		!strings.Contains(got, "garret: object "+archive.ManifestID.String()+" is lost\n") ||
		!strings.HasSuffix(got, "garret: and 5 more objects are lost\n") {
		t.Error(got)
	}
}

func TestWhatServesTheFilesOfAMountMayEndInAnyWay(t *testing.T) {
	a := &app{}
	err := a.ended(t.Context(), errors.New("no child processes"))
	if got := message(err); got != "the process that serves the files: no child processes; try --foreground" {
		t.Error(got)
	}
	if err := a.ended(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
