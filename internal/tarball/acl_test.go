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
		"u::rwx,g:4294967294:x,o::-,m:rw":                             "user::rwx\ngroup:4294967294:--x:4294967294\nmask::rw-\nother::---",
		"user::rw-,group::r--,other::r--,user:d:rw-:1,user:54321:r--,user:2:r--,group:bin:r-x:2,mask::rwx": "user::rw-\nuser:d:rw-:1\n" +
			"user:2:r--:2\nuser:54321:r--:54321\ngroup::r--\ngroup:bin:r-x:2\nmask::rwx\nother::r--",
		"user:nobody-has-this-name:rwx:77": "user:nobody-has-this-name:rwx:77",
		"user:nobody-has-this-name:rwx":    "error",
		"user:a:rwx:-1":                    "error",
		"user:a:rwx:1:2":                   "error",
		"other:a:rwx":                      "error",
		"user::rwt":                        "error",
		"user":                             "error",
		"everyone@:rwx":                    "error",
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

func TestTheMaskIsInTheMode(t *testing.T) {
	if mask, ok := aclMask("user::rwx\nmask::r-x\nother::---"); mask != 5 || !ok {
		t.Errorf("%o, %v", mask, ok)
	}
	if _, ok := aclMask("user::rwx\nother::---"); ok {
		t.Error("a mask out of nowhere")
	}
	if got := minimalACL(0o100754); got != "user::rwx\ngroup::r-x\nother::r--" {
		t.Errorf("%q", got)
	}
}
