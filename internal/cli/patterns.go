package cli

import "github.com/spf13/cobra"

func patternsTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "patterns",
		Short: "What --exclude, --exclude-from and --may-change understand",
		Long: `A pattern says which files are left out, and with --may-change, which may change while they are read:

  *       any characters, or none; "/" too
  ?       one character
  [abc]   one of these; [a-z] one of a range; [!abc] one that is not of these
  [*]     the character itself

It must match the whole path, or the path of a folder that the file is in: what matches a folder leaves out all that is
in it, which is then not even looked at. With a slash at its end, the pattern leaves out what is in the folder, and not
the folder. Quote patterns, so that the shell leaves them alone.

The path is the one given to the command, without needless dots and slashes, with the names below it added: for the PATH
/home/ann it is /home/ann/file, for ../photos ../photos/file. Below the current folder, file and ./file are the same.
For a command that reads an archive it is the path there: home/ann/file.

  /home/ann/.cache   that folder, if /, /home or /home/ann is the PATH
  /home/*/.cache/    what is in the folder .cache of anybody, and of deeper ones too
  *.o                all that ends in .o, and not .odt
  */node_modules     all folders of that name, wherever they are, but not as the PATH itself

A pattern of another kind has a prefix. It is held against the path as it is in an archive, which has no slash at the
beginning: home/ann/file. At the beginning of the pattern "/", "./" and "../" count for nothing.

  fm:home/*/.cache   the same kind as without a prefix
  sh:home/*/.cache   "*" and "?" do not stand for "/"; "**/" stands for any folders, or none: sh:**/.cache
  re:\.(o|tmp)$      a regular expression of RE2, which may match any part: ^ is the beginning, $ the end
  pp:home/ann        that path and what is in it; no character is special
  pf:home/ann/file   that path alone; no character is special

A file for --exclude-from has one pattern a line. Empty lines, and those that begin with "#", say nothing; spaces count.
A pattern that begins with "!", "- " or "+ ", which are signs in the files of other programs, is refused: nothing that is
left out can be taken back in, and what is left out has no sign. A file whose name begins so is meant with a prefix.

To see which pattern leaves out what: garret create --dry-run --list ::test PATH...`,
	}
}
