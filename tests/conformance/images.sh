#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Fills a registry with the images that critest pulls: images.sh HOST:PORT
#
# They have critest's names and do what critest expects of them, but are made of Debian's busybox and
# nginx (see ../e2e/images.sh), since no registry can be reached from a build machine.
set -euo pipefail

registry=${1:?usage: images.sh HOST:PORT}
here=$(dirname "$(readlink -f "$0")")
e2e=$("$here/../e2e/images.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
oci=$work/oci

# layer NAME: a layer of the directory of this name
layer() {
	tar -C "$work/$1" --owner=0 --group=0 -cf "$work/$1.tar" .
}

make_users() {
	local etc=$work/users/etc
	mkdir -p "$etc"
	cat >"$etc/passwd" <<-END
		root:x:0:0:root:/root:/bin/sh
		nobody:x:65534:65534:nobody:/:/bin/false
		default-user:x:1000:1000::/:/bin/sh
	END
	cat >"$etc/group" <<-END
		root:x:0:
		default-user:x:1000:
		group-defined-in-image:x:50000:default-user
		nogroup:x:65534:
	END
	layer users
}

# What critest expects of busybox and the static one of Debian is different in: a shell that runs
# other programs for commands (and the libraries that this one needs), and an ls that is a file of its own.
make_commands() {
	local root=$work/commands shell=$work/shell/bin/busybox library
	mkdir -p "$root/bin" "$work/grep/usr/local/sbin"
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download busybox >&2)
	dpkg-deb -x "$work"/busybox_*.deb "$work/shell"
	cp "$shell" "$root/bin/sh"
	for library in $(ldd "$shell" | grep -o '/[^ ]*'); do
		install -D "$library" "$root/$library"
	done
	cp "$e2e/rootfs/bin/busybox" "$root/bin/ls"
	cat >"$root/bin/pgrep" <<-'END'
		#!/bin/sh
		ps -o pid,comm | awk -v name="$1" '$2 == name { print $1 }'
	END
	printf '#!/bin/sh\nexec cat /proc/sysvipc/shm\n' >"$root/bin/ipcs"
	chmod 755 "$root/bin"/*
	layer commands
	# Unlike Debian's own it prints lines of what isn't text.
	cp "$e2e/rootfs/bin/busybox" "$work/grep/usr/local/sbin/grep"
	layer grep
}

make_pages() {
	mkdir -p "$work/page/www" "$work/hostnet/etc/nginx/sites-enabled"
	echo "a page" >"$work/page/www/index.html"
	echo "server { listen 12003; root /var/www/html; }" \
		>"$work/hostnet/etc/nginx/sites-enabled/default"
	layer page
	layer hostnet
}

# Prints its effective user, which is root unless no_new_privs is set.
make_nonewprivs() {
	mkdir -p "$work/nnp/bin"
	gcc -O2 -static -x c -o "$work/nnp/bin/nnp" - <<-END
		#include <stdio.h>
		#include <unistd.h>

		int main(void)
		{
			printf("Effective uid: %d\n", (int)geteuid());
			return 0;
		}
	END
	chmod 4755 "$work/nnp/bin/nnp"
	layer nnp
}

# derive BASE TAG [LAYER]: an image that differs from all others; what more is to be set follows --
derive() {
	local base=$1 tag=$2 layer=
	shift 2
	if [ "${1:---}" != -- ]; then
		layer=$1
		shift
	fi
	umoci config --image "$oci:$base" --tag "$tag" --config.label "critest=$tag" "${@:2}"
	[ -z "$layer" ] || umoci raw add-layer --image "$oci:$tag" "$work/$layer.tar"
}

# push TAG NAME
push() {
	skopeo copy -q --dest-tls-verify=false "oci:$oci:$1" "docker://$registry/$2"
}

make_images() {
	make_users
	make_commands
	make_pages
	make_nonewprivs
	cp -r "$e2e/oci" "$oci"
	derive base users users
	derive users busybox commands
	derive busybox pause -- --config.cmd tail --config.cmd=-f --config.cmd /dev/null
	derive busybox sandbox -- --config.cmd tail --config.cmd=-f --config.cmd /dev/null
	derive busybox httpd page -- --config.cmd sh --config.cmd -c \
		--config.cmd 'echo httpd; exec httpd -f -p 80 -h /www'
	derive busybox nonewprivs nnp -- --config.cmd nnp
	derive busybox predefined -- --config.user 1000
	derive nginx web grep
	derive web hostnet hostnet
	derive busybox uid -- --config.user 1002
	derive busybox name -- --config.user www-data
	derive busybox uid-group -- --config.user 1003:1003
	derive busybox name-group -- --config.user www-data:www-data
	derive busybox one
	derive busybox two
	derive busybox three
	derive busybox same
	derive busybox latest
	derive busybox tagged
	derive busybox all
}

push_images() {
	local cri=k8s-staging-cri-tools k8s=e2e-test-images tag
	push busybox $k8s/busybox:1.29-2
	push web $k8s/nginx:1.14-2
	push httpd $k8s/httpd:2.4.39-4
	push nonewprivs $k8s/nonewprivs:1.3
	push pause pause:3.9
	push sandbox sandbox:1
	push hostnet $cri/hostnet-nginx-amd64:latest
	push predefined $cri/test-image-predefined-group:latest
	push uid $cri/test-image-user-uid:latest
	push name $cri/test-image-user-username:latest
	push uid-group $cri/test-image-user-uid-group:latest
	push name-group $cri/test-image-user-username-group:latest
	push one $cri/test-image-1:latest
	push two $cri/test-image-2:latest
	push three $cri/test-image-3:latest
	for tag in 1 2 3; do
		push same "$cri/test-image-tags:$tag"
	done
	push latest $cri/test-image-latest:latest
	push tagged $cri/test-image-tag:test
	push all $cri/test-image-tag:all
}

make_images
push_images
