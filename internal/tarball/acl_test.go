package tarball

import (
	"testing"

	"garret/internal/fsmeta"
)

func TestACLsOfOtherPrograms(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"user::rw-,user:daemon:rw-:1,group::r--,mask::rw-,other::r--": "user::rw-\nuser:daemon:rw-:1\ngroup::r--\nmask::rw-\nother::r--",
		"user::rw-\nuser:root:rw-\t#effective:r--\ngroup::r--\n\n":    "user::rw-\nuser:root:rw-:0\ngroup::r--",
		"u::rwx,g:4294967294:x,o::-,m:rw":                             "user::rwx\ngroup:4294967294:--x:4294967294\nother::---\nmask::rw-",
		"user:nobody-has-this-name:rwx:77":                            "user:nobody-has-this-name:rwx:77",
		"user:nobody-has-this-name:rwx":                               "error",
		"user:a:rwx:-1":                                               "error",
		"user:a:rwx:1:2":                                              "error",
		"other:a:rwx":                                                 "error",
		"user::rwt":                                                   "error",
		"user":                                                        "error",
		"everyone@:rwx":                                               "error",
	} {
		got, extended, err := itemACL(text, new(fsmeta.Owners))
		if err != nil {
			got = "error"
		}
		if got != want || extended != (err == nil && len(got) > 55) {
			t.Errorf("%q: %q, %v, %v, want %q", text, got, extended, err, want)
		}
	}
}
