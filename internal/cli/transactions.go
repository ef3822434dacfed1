package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"garret/internal/archive"
	"garret/internal/envelope"
	"garret/internal/location"
	"garret/internal/ui"
	"garret/repository"
)

// onOwnMachine refuses the location of a repository on another machine, for what has to do with its log.
func onOwnMachine(loc location.Location) error {
	if loc.Remote() {
		return &usageError{fmt.Sprintf("repository %q is on another machine: this can be done there alone", loc.Repository())}
	}
	return nil
}

// listTransactions prints what the log of a repository has: all, or the last so many.
func (a *app) listTransactions(ctx context.Context, loc location.Location, last int) error {
	if err := onOwnMachine(loc); err != nil {
		return err
	}
	o := a.storeOptions(false)
	o.Damaged = false // it tells of the log as it is
	repo, err := repository.OpenForCheck(ctx, loc.Path, o)
	if err != nil {
		return err
	}
	defer repo.Close()
	if _, err := repo.Len(ctx); errors.Is(err, repository.ErrCheckNeeded) {
		a.ui.Printf("garret: %s", message(err))
	}
	l := transactionLister{app: a, repo: repo, loc: loc, keys: map[envelope.Type]*envelope.Key{}}
	if !a.json {
		fmt.Fprintf(a.stdout, "%11s  %-19s %9s %8s %8s  %s\n", "Transaction", "Time", "Size", "Stored", "Deleted", "Archives")
	}
	first := true
	for t, err := range repo.Transactions(ctx, repository.TransactionsOptions{Last: last, Watch: archive.ManifestID}) {
		if err != nil {
			return err
		}
		if first && last > 0 && t.First > 0 {
			l.startAfter(ctx, t.First-1)
		}
		first = false
		if err := l.tell(ctx, t); err != nil {
			return err
		}
	}
	if l.damaged {
		return errWarnings
	}
	return nil
}

// transactionLister tells of transactions in their order.
type transactionLister struct {
	app     *app
	repo    *repository.Repository
	loc     location.Location
	keys    map[envelope.Type]*envelope.Key // nil: it cannot be had without a question
	before  map[string]archive.ArchiveRef   // the archives there were
	unknown bool                            // before is not what there was
	damaged bool
}

type jsonTransaction struct {
	Transaction uint32      `json:"transaction"`
	Time        *time.Time  `json:"time,omitempty"`
	Size        int64       `json:"size"`
	Stored      int         `json:"stored"`
	Deleted     int         `json:"deleted"`
	Missing     int         `json:"missing"`
	Damaged     []jsonRange `json:"damaged,omitempty"`
	Manifest    string      `json:"manifest,omitempty"`
	Encryption  string      `json:"encryption,omitempty"`
	Archives    *int        `json:"archives,omitempty"`
	Added       []string    `json:"added,omitempty"`
	Removed     []string    `json:"removed,omitempty"`
}

type jsonRange struct {
	Segment uint32 `json:"segment"`
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"`
}

// startAfter finds out which archives there were after a transaction.
func (l *transactionLister) startAfter(ctx context.Context, n uint32) {
	env, err := l.repo.GetAt(ctx, n, archive.ManifestID)
	if errors.Is(err, repository.ErrNotFound) {
		return // none
	}
	if err == nil {
		var m *archive.Manifest
		if m, _, err = l.open(env); err == nil {
			l.before = m.Archives
		}
	}
	l.unknown = err != nil
}

// errNoKey is a key that cannot be had without a question.
var errNoKey = errors.New("the key is not at hand")

// open opens the envelope of a manifest. The type of the key may have been another then: whoever stores without the key can
// store what they like.
func (l *transactionLister) open(env []byte) (*archive.Manifest, envelope.Type, error) {
	typ, err := envelope.Detect(env)
	if err != nil {
		return nil, typ, err
	}
	key, tried := l.keys[typ]
	if !tried {
		key, err = envelope.OpenKey(envelope.OpenOptions{
			RepositoryID: l.repo.ID(), Location: l.loc.Repository().String(), Envelope: env,
		})
		if err != nil {
			l.app.say("Without the key there are no names of archives: %s", oneLine(err))
			key = nil
		}
		l.keys[typ] = key
	}
	if key == nil {
		return nil, typ, errNoKey
	}
	data, err := key.Open(nil, env)
	if err != nil {
		return nil, typ, err
	}
	m, err := archive.DecodeManifest(data)
	return m, typ, err
}

func (l *transactionLister) tell(ctx context.Context, t repository.Transaction) error {
	j := jsonTransaction{
		Transaction: t.Number, Size: t.Bytes, Stored: t.Puts, Deleted: t.Deletes, Missing: t.Missing,
	}
	if !t.Time.IsZero() {
		utc := t.Time.UTC()
		j.Time = &utc
	}
	for _, d := range t.Damage {
		j.Damaged = append(j.Damaged, jsonRange{d.Segment, d.Offset, d.Length})
	}
	l.damaged = l.damaged || len(t.Damage) > 0
	what, err := l.archives(ctx, t, &j)
	if err != nil {
		return err
	}
	if l.app.json {
		return l.app.emit(j)
	}
	at := "unknown"
	if j.Time != nil {
		at = j.Time.Local().Format(time.DateTime)
	}
	if t.Missing > 0 {
		fmt.Fprintf(l.app.stdout, "%11s  %s removed by a compaction, or lost\n", "...", ui.Plural(int64(t.Missing), "segment"))
	}
	line := fmt.Sprintf("%11d  %-19s %9s %8d %8d  %s", t.Number, at, ui.Bytes(t.Bytes), t.Puts, t.Deletes, l.app.line(what))
	fmt.Fprintln(l.app.stdout, strings.TrimRight(line, " "))
	for _, d := range t.Damage {
		fmt.Fprintf(l.app.stdout, "%11s  %s\n", "", d)
	}
	return nil
}

// archives tells what a transaction did to the list of archives.
func (l *transactionLister) archives(ctx context.Context, t repository.Transaction, j *jsonTransaction) (string, error) {
	switch {
	case t.Deleted:
		j.Manifest = "deleted"
		l.before, l.unknown = nil, false
		return "the manifest is deleted", nil
	case !t.Stored:
		return "", nil
	}
	j.Manifest = "stored"
	env, err := l.repo.ValueAt(ctx, archive.ManifestID, t.Watched)
	if err != nil && !errors.Is(err, repository.ErrIntegrity) {
		return "", err
	}
	var m *archive.Manifest
	if err == nil {
		var typ envelope.Type
		if m, typ, err = l.open(env); err == nil {
			j.Encryption = typ.String()
		}
	}
	switch {
	case errors.Is(err, errNoKey):
		l.before, l.unknown = nil, true
		return "manifest stored", nil
	case err != nil:
		l.before, l.unknown = nil, true
		return "manifest stored that cannot be read: " + oneLine(err), nil
	}
	before := l.before
	known := !l.unknown
	l.before, l.unknown = m.Archives, false
	count := len(m.Archives)
	j.Archives = &count
	if !known {
		return ui.Plural(int64(count), "archive"), nil
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now, ok := m.Archives[name]; !ok || now.ID != before[name].ID {
			j.Removed = append(j.Removed, name)
			words = append(words, "-"+ui.Line(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Archives)) {
		if was, ok := before[name]; !ok || was.ID != m.Archives[name].ID {
			j.Added = append(j.Added, name)
			words = append(words, "+"+ui.Line(name))
		}
	}
	return strings.Join(words, " "), nil
}
