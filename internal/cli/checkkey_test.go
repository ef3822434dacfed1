package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"garret/internal/archive"
	"garret/internal/campaign"
)

// TestKeyIsFoundWithoutTheManifest loses the manifest, or damages it, so that only other objects tell which key it takes,
// and whether a passphrase is right.
func TestKeyIsFoundWithoutTheManifest(t *testing.T) {
	each := campaign.Each(t, 3)
	for e, encryption := range []string{"none", "passphrase", "keyfile"} {
		for d, damage := range []string{"lost", "spoiled", "of another type"} {
			if (e+d)%each != 0 {
				continue
			}
			t.Run(encryption+" "+damage, func(t *testing.T) {
				dir := useTestEnv(t)
				repo := filepath.Join(dir, "repo")
				makeTree(t, filepath.Join(dir, "tree"))
				t.Chdir(dir)
				garret(t, "init", "-e", encryption, repo)
				garret(t, "create", repo+"::one", "tree/sub")
				p := openPatient(t, repo)
				switch damage {
				case "lost":
					p.remove(archive.ManifestID)
				case "spoiled":
					p.spoil(archive.ManifestID)
				default:
					p.ok(p.repo.Put(t.Context(), archive.ManifestID, []byte{0x77, 1, 2, 3}))
				}
				p.close()
				if encryption != "none" {
					t.Setenv("GARRET_PASSPHRASE", "wrong")
					if code, out, errs := status(t, "check", repo); code != exitKey || !strings.Contains(errs, "wrong passphrase") {
						t.Errorf("with the wrong passphrase: exit code %d\n%s%s", code, out, errs)
					}
					t.Setenv("GARRET_PASSPHRASE", "correct horse 1")
				}
				if encryption == "keyfile" {
					t.Setenv("GARRET_KEYS_DIR", filepath.Join(dir, "nowhere"))
					if code, out, errs := status(t, "check", repo); code != exitKey || !strings.Contains(errs, "no key file") {
						t.Errorf("without the key file: exit code %d\n%s%s", code, out, errs)
					}
					t.Setenv("GARRET_KEYS_DIR", filepath.Join(dir, "keys"))
				}
				if code, out, errs := status(t, "check", repo); code != exitWarning || !strings.Contains(out, "the manifest is lost") {
					t.Errorf("check: exit code %d\n%s%s", code, out, errs)
				}
				t.Setenv("GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING", "yes")
				if code, out, errs := status(t, "check", "--repair", repo); code != exitWarning {
					t.Errorf("repair: exit code %d\n%s%s", code, out, errs)
				}
				garret(t, "check", "--verify-data", repo)
				garret(t, "extract", "--target", filepath.Join(dir, "out"), repo+"::one")
				garret(t, "create", repo+"::two", "tree/sub")
				garret(t, "check", "--verify-data", repo)
			})
		}
	}
}
