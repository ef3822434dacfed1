package cli

import (
	"context"
	"errors"
	"fmt"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/fsck"
	"garret/internal/location"
	"garret/repository"
)

// A checkSession is what a check knows of a repository that may have lost its manifest.
type checkSession struct {
	key   *envelope.Key // nil: there is no manifest, nor anything else of archives
	known *known
	lost  bool // without a key: there is a manifest, and it is damaged
}

// isAboutKey reports whether an error says that there is no key, or that it does not open.
func isAboutKey(err error) bool { return err != nil && exitCode(err) == exitKey }

// unlockForCheck finds the key of a repository, by its manifest or, when that is lost or damaged, by other objects.
func (a *app) unlockForCheck(ctx context.Context, repo store, loc location.Location, lost map[repository.ID]bool) (
	*checkSession, error,
) {
	known, err := a.lookUp(repo.ID())
	if err != nil {
		return nil, err
	}
	s := &checkSession{known: known}
	var typed []string // passphrases, so that nobody is asked again for the same
	ask := func(prompt string) (string, error) {
		pass, err := passphrase(a.ui.Passphrase(ctx, prompt))
		typed = append(typed, pass)
		return pass, err
	}
	env, err := catalog.Manifest(ctx, repo)
	isLost := errors.Is(err, catalog.ErrNoManifest) || errors.Is(err, repository.ErrIntegrity) || lost[archive.ManifestID]
	if err != nil && !isLost {
		return nil, fmt.Errorf("repository %q: %w", loc, err)
	}
	if !isLost {
		s.key, err = a.keyOf(ctx, env, repo, loc, known, ask)
		// A damaged manifest is opened by no key, whatever the passphrase.
		if err == nil || !errors.Is(err, repository.ErrIntegrity) && !errors.Is(err, envelope.ErrWrongPassphrase) {
			return s, err
		}
	}
	samples, sampleErr := fsck.Samples(ctx, repo)
	if sampleErr != nil {
		return nil, fmt.Errorf("repository %q: %w", loc, sampleErr)
	}
	if s.lost = errors.Is(err, repository.ErrIntegrity); len(samples) == 0 && (isLost || s.lost) {
		return s, nil
	}
	for _, env := range samples {
		again := 0
		key, sampleErr := a.keyOf(ctx, env, repo, loc, known, func(prompt string) (string, error) {
			if again++; again <= len(typed) {
				return typed[again-1], nil
			}
			if !isLost {
				return "", envelope.ErrWrongPassphrase
			}
			return ask(prompt)
		})
		if sampleErr == nil {
			s.key = key
			return s, nil
		}
		if !isAboutKey(err) {
			err = sampleErr
		}
		if !errors.Is(sampleErr, repository.ErrIntegrity) && !errors.Is(sampleErr, envelope.ErrWrongPassphrase) {
			break
		}
	}
	return nil, err
}

// keyOf finds the key that opens an envelope.
func (a *app) keyOf(ctx context.Context, env []byte, repo store, loc location.Location, known *known,
	ask envelope.PassphraseFunc,
) (*envelope.Key, error) {
	typ, err := envelope.Detect(env)
	if err == nil {
		err = known.admit(ctx, a, loc, typ, false)
	}
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", loc, err)
	}
	key, err := envelope.OpenKey(envelope.OpenOptions{
		RepositoryID: repo.ID(), Location: loc.String(), Envelope: env, Ask: ask,
	})
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", loc, err)
	}
	return key, nil
}
