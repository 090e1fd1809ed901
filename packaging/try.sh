#!/usr/bin/env bash
# The package in a Debian of its own: installed, used, upgraded, removed, purged. By hand, as root, with debootstrap:
#
#     cargo xtask package && packaging/try.sh target/deb/sedge_*_amd64.deb
#
# The Debian comes from where this machine's apt gets its packages, and is gone afterwards.
set -euo pipefail

deb=$(realpath "${1:?usage: packaging/try.sh DEB}")
suite=bookworm
mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' | awk -v suite="$suite" '$1 == suite { print $2; exit }')
[ -n "$mirror" ] || { echo "apt of this machine knows no $suite" >&2; exit 1; }

root=$(mktemp -d --tmpdir sedge-try.XXXXXX)
# Who is not root must come in, too.
chmod 755 "$root"
clean_up() {
    for mount in dev/pts proc; do
        if mountpoint -q "$root/$mount"; then umount "$root/$mount"; fi
    done
    rm -rf --one-file-system "$root"
}
trap clean_up EXIT

began=$SECONDS
say() { printf '== %4d s: %s\n' $((SECONDS - began)) "$*"; }
inside() { chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }
must() { "$@" || { echo "NOT SO: $*" >&2; exit 1; }; }
must_not() { if "$@"; then echo "SO, and must not be: $*" >&2; exit 1; fi; }

say "a $suite"
debootstrap --variant=minbase --include=systemd,man-db "$suite" "$root" "$mirror" > "$root.log" 2>&1 || { tail "$root.log"; exit 1; }
rm -f "$root.log"
mount -t proc proc "$root/proc"
mount -t devpts -o ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
# Services are not to be started here.
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
cp "$deb" "$root/sedge.deb"

say "installed"
inside apt-get -o APT::Sandbox::User=root install -y -qq --no-install-recommends /sedge.deb > /dev/null 2>&1
must inside dpkg --verify sedge
must inside id sedge
wanted=$root/etc/systemd/system/multi-user.target.wants
must test -L "$wanted/sedge-agent.service"
must test -L "$wanted/sedge-hub.service"
must inside man --where sedge sedge-agent sedge-hub
inside du -sh /usr/bin/sedge

say "units"
inside systemd-analyze verify --man=yes /usr/lib/systemd/system/sedge-agent.service /usr/lib/systemd/system/sedge-hub.service
for unit in agent hub; do
    inside systemd-analyze security --offline=true --no-pager --threshold=15 "/usr/lib/systemd/system/sedge-$unit.service" | tail -n 1
done

say "checked, and the demo, as the user sedge"
as_sedge() { inside runuser -u sedge -- "$@"; }
as_sedge sedge check /usr/share/sedge/agent.toml
as_sedge sedge check /usr/share/sedge/hub.toml
as_sedge sedge demo | tail -n 22

say "upgraded over itself: the configuration, the events and what was disabled stay"
inside install -m 640 -g sedge /usr/share/sedge/agent.toml /etc/sedge/agent.toml
echo '# changed here' >> "$root/etc/sedge/agent.toml"
inside install -d -m 750 -o sedge -g sedge /var/lib/sedge
echo events > "$root/var/lib/sedge/events"
inside systemctl disable --quiet sedge-hub.service
before=$(sha256sum "$root/etc/sedge/agent.toml" "$root/var/lib/sedge/events")
inside dpkg -i /sedge.deb > /dev/null
must test "$before" = "$(sha256sum "$root/etc/sedge/agent.toml" "$root/var/lib/sedge/events")"
must test -L "$wanted/sedge-agent.service"
must_not test -e "$wanted/sedge-hub.service"

say "removed: the program goes"
inside apt-get remove -y -qq sedge > /dev/null
must_not test -e "$root/usr/bin/sedge"
must test "$before" = "$(sha256sum "$root/etc/sedge/agent.toml" "$root/var/lib/sedge/events")"

say "purged: events and configuration are the administrator's"
inside dpkg --purge sedge
must test "$before" = "$(sha256sum "$root/etc/sedge/agent.toml" "$root/var/lib/sedge/events")"
must_not test -L "$wanted/sedge-agent.service"
find "$root" -xdev -path "$root/proc" -prune -o -name '*sedge*' -print | sed "s|^$root||" | sort
say "done"
