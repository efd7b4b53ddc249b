#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks who includes whom below src/: a folder includes itself and those that are listed for it
# here, which is the picture of docs/architecture.md. Includes are written from src/.
# Prints every include that isn't allowed; fails when there is one.
set -eu

cd "$(dirname "$0")/../../src"

# "folder: what it may include", lowest first.
ARROWS='
base:
proto:
loop: base
ttrpc: base loop
config: base loop ttrpc
oci: base loop ttrpc
vmm: base loop ttrpc
net: base loop ttrpc
storage: base loop ttrpc oci
sandbox: base loop ttrpc proto config oci vmm net storage
cli: base loop ttrpc proto config oci vmm net storage sandbox
shim: base loop ttrpc proto config oci vmm net storage sandbox
agent: base loop ttrpc proto
'

export ARROWS

find . -name '*.[ch]' -print0 | sort -z | xargs -0 awk '
	BEGIN {
		n = split(ENVIRON["ARROWS"], lines, "\n")
		for (i = 1; i <= n; i++) {
			words = split(lines[i], word, " ")
			folder = word[1]
			sub(/:$/, "", folder)
			known[folder] = 1
			allowed[folder, folder] = 1
			for (k = 2; k <= words; k++)
				allowed[folder, word[k]] = 1
		}
	}
	FNR == 1 {
		path = "src/" substr(FILENAME, 3)
		folder = path
		gsub(/^src\/|\/.*/, "", folder)
		files++
		if (!(folder in known)) {
			print path ": there are no arrows for the folder " folder " in this test"
			bad = 1
		}
	}
	/^[ \t]*#[ \t]*include[ \t]*"/ {
		why = ""
		header = $0
		sub(/^[^"]*"/, "", header)
		sub(/".*/, "", header)
		target = header
		sub(/\/.*/, "", target)
		if (header ~ /\.\.\//)
			why = "it goes upward"
		else if (header ~ /^[^\/]*\.pb-c\.h$/)
			target = "proto"
		else if (header !~ /\//)
			why = "it is not written from src/"
		if (why == "" && !((folder, target) in allowed))
			why = folder " must not include " target
		if (why != "") {
			print path ":" FNR ": \"" header "\": " why
			bad = 1
		}
	}
	END {
		if (files == 0)
			print "no sources were found"
		exit bad || files == 0
	}
'
echo "includes: ok"
