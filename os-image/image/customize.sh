#!/bin/sh
# Turns Debian's tree into a node's root: runs once, inside the tree, after the overlay and Sheaf's programs are in it.
#
# In: SHEAF_NAME, SHEAF_VERSION, SOURCE_DATE_EPOCH, /mnt/left-out.list, /mnt/recipe. Out: the tree as it will be in the erofs image. It only removes,
# switches units on and off, and writes the image's identity; what is added lies in rootfs/.
set -eu
umask 022

say() {
    echo "customize: $*"
}

# --- What it is -------------------------------------------------------------------------------------------------------

mkdir -p /usr/share/sheaf
# Package, version, source: the reader of a release and the update's changelog.
dpkg-query --show --showformat '${Package} ${Version} ${source:Package}\n' | sort >/usr/share/sheaf/packages.txt

debian=$(cat /etc/debian_version)
cat >/usr/lib/os-release <<END
PRETTY_NAME="Sheaf $SHEAF_VERSION"
NAME="Sheaf"
ID=sheaf
ID_LIKE=debian
VERSION="$SHEAF_VERSION (Debian $debian)"
VERSION_ID="$SHEAF_VERSION"
IMAGE_ID=$SHEAF_NAME
IMAGE_VERSION=$SHEAF_VERSION
HOME_URL="https://sheaf.dev"
END
ln -sf ../usr/lib/os-release /etc/os-release

# --- Packages that dependencies brought and a node has no use for ---------------------------------------------------------

# Patterns of names; dpkg-query knows them.
installed=$(sed 's/#.*//' /mnt/left-out.list | xargs dpkg-query --show \
    --showformat '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')
# Files, not maintainer scripts, which would try to undo what is not undone here (users, units).
for package in $installed; do
    dpkg --listfiles "$package"
done | while read -r path; do
    if [ -L "$path" ] || [ -f "$path" ]; then
        echo "$path"
    fi
done | sort -u >/tmp/purge
xargs rm -f </tmp/purge
rm -f /tmp/purge
say "removed the files of $(echo "$installed" | wc -w) packages"

# --- Files -------------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2115 # the chroot's own /boot, emptied
rm -rf /boot/* /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/bug \
    /usr/share/bash-completion /usr/share/zsh /usr/share/fish /usr/share/pixmaps /usr/share/icons /usr/share/applications \
    /usr/share/initramfs-tools /usr/share/python3 /usr/share/perl* /usr/share/systemtap /usr/share/polkit-1 \
    /usr/share/apport /usr/share/gdb /usr/share/gcc /usr/share/mdadm /usr/share/debconf /usr/share/debianutils \
    /usr/share/readline /usr/share/dpkg /usr/share/calendar /usr/share/sgml* /usr/share/xml* /usr/share/common-licenses \
    /usr/lib/python3* /usr/lib/apt /usr/lib/dpkg /usr/lib/initramfs-tools /usr/lib/polkit-1 \
    /usr/lib/x86_64-linux-gnu/perl* /usr/lib/locale \
    /etc/apt /etc/dpkg /etc/logrotate.d /etc/cron* /etc/init.d /etc/rc*.d /etc/initramfs-tools /etc/kernel /etc/skel \
    /etc/polkit-1 /etc/python3* /etc/perl /etc/alternatives/README /etc/update-motd.d /etc/motd /etc/default/grub.d \
    /etc/libvirt/qemu/networks /etc/libvirt/nwfilter /etc/*- /etc/.pwd.lock
# Time zones by which node.toml may have logs shown; not the copies that count leap seconds, nor the lists for people.
rm -rf /usr/share/zoneinfo/right /usr/share/zoneinfo/posix /usr/share/zoneinfo/*.tab /usr/share/zoneinfo/leap*
# QEMU's files for machines and firmware nobody can ask for: other architectures, desktops, option roms of old NICs.
find /usr/share/qemu -mindepth 1 \( -name '*arm*' -o -name '*aarch64*' -o -name '*riscv*' -o -name '*loongarch*' \
    -o -name 'hppa*' -o -name '*s390*' -o -name 'skiboot*' -o -name '*ppc*' -o -name 'openbios*' -o -name 'palcode*' \
    -o -name 'u-boot*' -o -name 'slof*' -o -name '*.dtb' \) -exec rm -rf {} +
# Boot roms: of the NICs a VM may have; QEMU refuses a NIC whose rom is not there.
find /usr/share/qemu \( -name 'pxe-*.rom' -o -name 'efi-*.rom' \) ! -name 'efi-virtio.rom' \
    ! -name 'efi-e1000.rom' ! -name 'efi-e1000e.rom' -delete
# OVMF: the 4 MiB builds that VMs are given (agent/src/vms/domain_xml/machine.rs), without Secure Boot and with Microsoft's
# keys, and their descriptions. Not the debug, Xen and microvm ones, nor those with test keys.
rm -rf /usr/share/ovmf /usr/share/OVMF/OVMF_CODE.fd /usr/share/OVMF/OVMF_VARS.fd /usr/share/qemu/OVMF.fd \
    /usr/share/OVMF/*.snakeoil.fd /usr/share/OVMF/*.strictnx.fd
# User interfaces and sound of QEMU: a VM's screen is VNC, built in.
(cd /usr/lib/x86_64-linux-gnu/qemu 2>/dev/null && rm -f ui-*.so audio-*.so chardev-spice.so chardev-baum.so \
    hw-usb-smartcard.so hw-display-qxl.so block-ssh.so block-gluster.so accel-tcg-*.so.disabled) || true

# --- Kernel modules: keep a server's, drop a desktop's ---------------------------------------------------------------------

kernel=$(ls /usr/lib/modules)
modules=/usr/lib/modules/$kernel/kernel
while read -r path; do
    # shellcheck disable=SC2086 # patterns
    rm -rf "${modules:?}"/$path
done </mnt/recipe/modules-dropped
cp /mnt/recipe/modules-loaded /usr/lib/modules-load.d/recipe.conf
# A driver that needs a dropped one would fail at load: depmod names none.
depmod "$kernel" 2>/tmp/depmod
if [ -s /tmp/depmod ]; then
    cat /tmp/depmod
fi
rm -f /tmp/depmod

# --- Units -----------------------------------------------------------------------------------------------------------------

# What maintainer scripts switched on is forgotten; the presets say all there is, the recipe's before the image's.
sed 's/^/enable /' /mnt/recipe/units-enabled >/usr/lib/systemd/system-preset/00-recipe.preset
find /etc/systemd/system -mindepth 1 -delete
systemctl preset-all --preset-mode=full >/dev/null 2>&1
# Wanted by other units' folders, or started by hardware, and not for a node. libvirt-guests would shut VMs down behind
# the agent's back; getty, debug shell and tty services would offer a login.
for unit in libvirt-guests.service libvirtd-ro.socket libvirtd-admin.socket libvirtd-tcp.socket libvirtd-tls.socket \
    virtlogd-admin.socket \
    getty.target getty@.service serial-getty@.service console-getty.service container-getty@.service autovt@.service \
    debug-shell.service systemd-ask-password-wall.path systemd-ask-password-console.path \
    systemd-firstboot.service systemd-machine-id-commit.service systemd-hwdb-update.service ldconfig.service \
    systemd-journal-catalog-update.service systemd-update-done.service systemd-sysusers.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service systemd-rfkill.service systemd-rfkill.socket systemd-networkd-wait-online.service \
    systemd-boot-system-token.service systemd-boot-update.service systemd-boot-random-seed.service \
    systemd-hibernate-clear.service systemd-tpm2-setup-early.service systemd-tpm2-setup.service \
    systemd-pcrmachine.service systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-pcrproduct.service \
    systemd-pcrextend.socket systemd-creds.socket systemd-mountfsd.socket systemd-nsresourced.socket \
    systemd-udev-load-credentials.service systemd-network-generator.service systemd-repart.service \
    systemd-remount-fs.service systemd-quotacheck-root.service systemd-sysext.service systemd-confext.service \
    mdmonitor.service mdmonitor-oneshot.timer mdcheck_start.timer mdcheck_continue.timer blk-availability.service \
    lvm2-monitor.service dm-event.socket lvm2-lvmpolld.socket lvm2-lvmpolld.service \
    nvmefc-boot-connections.service nvmf-autoconnect.service uuidd.socket smartmontools.service \
    e2scrub_reap.service e2scrub_all.timer xfs_scrub_all.timer \
    systemd-bsod.service modprobe@drm.service systemd-importd.socket systemd-initctl.socket systemd-sysext.socket systemd-user-sessions.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount dev-mqueue.mount systemd-vconsole-setup.service \
    $(cat /mnt/recipe/units-masked); do
    if ! grep -qxF "$unit" /mnt/recipe/units-enabled; then
        ln -sf /dev/null "/etc/systemd/system/$unit"
    fi
done
# Logins on whatever console= names, partitions by type, legacy scripts: nothing is generated but what the kernel's
# arguments for verity ask for, and that is done before this root is there.
rm -rf /usr/lib/systemd/system-generators /usr/lib/systemd/user-generators /usr/lib/systemd/system-environment-generators
# Nobody has a session.
rm -rf /usr/lib/systemd/user /usr/lib/systemd/user-preset /etc/systemd/user /etc/xdg

# --- Rights ----------------------------------------------------------------------------------------------------------------

# Programs that run with their owner's rights: none is needed, everything that may do more is started by init.
find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
# No password opens anything, and no shell is anybody's.
sed -i 's/^\([^:]*\):[^:]*:/\1:*:/' /etc/shadow
sed -i 's|^root:\(.*\):[^:]*$|root:\1:/usr/sbin/nologin|' /etc/passwd
# AppArmor: the profiles of libvirt; the rest are for programs that are not here.
find /etc/apparmor.d -mindepth 1 -maxdepth 1 -type f ! -name 'usr.sbin.libvirtd' \
    ! -name 'usr.lib.libvirt.virt-aa-helper' -delete
rm -rf /etc/apparmor.d/force-complain /etc/apparmor.d/disable

# --- A root that never changes ---------------------------------------------------------------------------------------------

mkdir -p /state /data /var
find /var -mindepth 1 -delete
: >/etc/machine-id
echo sheaf >/etc/hostname
printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts
: >/etc/fstab
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
rm -rf /etc/mtab && ln -s ../proc/self/mounts /etc/mtab
# Authorities that a recipe's overlay brings.
for certificate in /usr/local/share/ca-certificates/*.crt; do
    if [ -e "$certificate" ]; then
        cat "$certificate" >>/etc/ssl/certs/ca-certificates.crt
    fi
done
# Caches of the loader and of udev that belong to the image.
ldconfig -X 2>/dev/null || true
ldconfig
rm -rf /var/cache
systemd-hwdb update --usr --strict 2>/dev/null || true
find / -xdev -name '*.pyc' -delete
find / -xdev -xtype l ! -path '/proc/*' ! -path '/sys/*' ! -path '/dev/*' ! -path '/etc/systemd/*' \
    ! -path /etc/resolv.conf ! -path /etc/mtab -print -delete 2>/dev/null | wc -l |
    { read -r count; say "removed $count links that led nowhere"; }
say "done: $(du -sxm / | cut -f1) MiB"
